"""A process that pretrains and tells each step, to be killed: `pretrain_child RECIPE FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from icl_engine.embedded.pretraining import PretrainingConfig, pretrain


def main(recipe: str, folder: str) -> None:
    """Go on from what is in `folder`."""
    given = json.loads(recipe)
    config = PretrainingConfig(**{**given, "axis_pairs": tuple(given["axis_pairs"])})
    pretrain(config, Path(folder), report=lambda progress: print(progress.step, flush=True), compiled=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
