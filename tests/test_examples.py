"""Every example runs as it stands, on the embedded model."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from router.settings import PREFIX

ROOT = Path(__file__).parent.parent
LEARNING = ROOT / "examples" / "continual_learning.py"  # in whole it takes an hour
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {LEARNING})


def run(example: Path, *arguments: str, **given: str) -> str:
    """Run an example with these settings and nobody else's; return what it prints."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    command = [sys.executable, str(example), *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env={**others, **given}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, faults = process.communicate(timeout=240)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            raise
    assert process.returncode == 0, faults
    return said


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_something(example: Path, tmp_path: Path) -> None:
    if example.stem == "on_ray":
        pytest.importorskip("ray")
    given = {"TTT_ROUTER_HOME": str(tmp_path), "TTT_ROUTER_TTT_STEPS": "4"}
    given["RAY_worker_niceness"] = "0"  # not behind what else this machine does

    assert run(example, **given).strip()


def test_the_arm_of_the_example_answers_what_it_finds_a_program_for_and_no_more(tmp_path: Path) -> None:
    said = run(ROOT / "examples" / "own_arm.py", TTT_ROUTER_HOME=str(tmp_path)).splitlines()

    assert said[0] == "program_search ((3, 5), (1, 5))"
    assert said[1].startswith("icl ")


def test_the_example_that_learns_goes_on_where_it_was(tmp_path: Path) -> None:
    given = {"PYTHONPATH": str(ROOT), "TTT_ROUTER_TTT_STEPS": "1", "TTT_ROUTER_N_VIEWS": "1"}
    said = []
    for limit in ("2", "4"):
        arguments = ["--limit", limit, "--home", str(tmp_path / "home"), "--plot", str(tmp_path / "learning.png")]
        said.append(run(LEARNING, *arguments, **given))

    assert "2 tasks solved" in said[0]
    assert "4 tasks solved" in said[1]
    assert "   2 of the last 2" in said[0]  # a turn of the loop in the end, however few were left
    assert "   4 of the last 4" in said[1]
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_the_example_that_learns_leaves_the_home_of_the_user_alone(tmp_path: Path) -> None:
    given = {"PYTHONPATH": str(ROOT), "TTT_ROUTER_TTT_STEPS": "1", "TTT_ROUTER_N_VIEWS": "1"}

    said = run(LEARNING, "--limit", "1", TTT_ROUTER_HOME=str(tmp_path / "mine"), **given)

    assert "1 tasks solved" in said
    assert not (tmp_path / "mine").exists()
