"""Every example runs as it stands, on the embedded model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_something(example: Path, tmp_path: Path) -> None:
    if example.stem == "on_ray":
        pytest.importorskip("ray")
    environment = {**os.environ, "TTT_ROUTER_HOME": str(tmp_path), "TTT_ROUTER_TTT_STEPS": "4"}
    environment["RAY_worker_niceness"] = "0"  # not behind what else this machine does

    done = subprocess.run(
        [sys.executable, str(example)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
