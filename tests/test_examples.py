"""Every example runs as it stands, on the embedded model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEARNING = ROOT / "examples" / "continual_learning.py"  # in whole it takes an hour
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {LEARNING})


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


def test_the_example_that_learns_goes_on_where_it_was(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TTT_ROUTER_TTT_STEPS": "1", "TTT_ROUTER_N_VIEWS": "1"}
    said = []
    for limit in ("2", "4"):
        arguments = ["--limit", limit, "--home", str(tmp_path / "home"), "--plot", str(tmp_path / "learning.png")]
        done = subprocess.run(
            [sys.executable, str(LEARNING), *arguments], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)

    assert "2 tasks solved" in said[0]
    assert "4 tasks solved" in said[1]
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
