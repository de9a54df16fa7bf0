"""An error costs the job it came of, and none that was done or under way."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_engine.embedded.pretraining import save_weights
from router.evaluation_workers import Workers
from router.router import Router
from router.settings import Settings
from tests.models import tiny_module


def tenfold(router: Router, n: int) -> int:
    if n == 1:
        raise ValueError("one is refused")
    return 10 * n


def test_what_was_done_beside_an_error_is_yielded_before_it_is_raised(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, model=str(save_weights(tiny_module(), tmp_path / "model")))

    with Workers(settings, 1) as workers:
        found = workers.each(tenfold, (1, 2))

        assert next(found) == 20
        with pytest.raises(ValueError, match="one is refused"):
            next(found)
