"""Processes that end with the one they work for."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from icl_engine.worker_processes import worker_pool

AT_WORK = """
import os, time
from icl_engine.worker_processes import worker_pool

if __name__ == "__main__":
    with worker_pool(2, print, ("begun",)) as pool:
        pool.submit(time.sleep, {sleep_s})
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(300)
"""
_initialised: list[int] = []


@pytest.mark.parametrize("sleep_s", [0, 300], ids=["idle", "at work"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_parent_that_is_killed(how: signal.Signals, sleep_s: int, tmp_path: Path) -> None:
    script = tmp_path / "at_work.py"
    script.write_text(AT_WORK.format(sleep_s=sleep_s))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        while not (said := parent.stdout.readline()).strip().isdigit():
            assert said, "it ended by itself"
        parent.send_signal(how)

        parent.communicate(timeout=30)  # returns once nobody holds its output any more

    assert parent.returncode == -how


def test_a_pool_begins_its_workers_as_it_is_told_and_they_end_with_it() -> None:
    with worker_pool(1, _initialise, (3,)) as pool:
        found = pool.submit(_what_is_there).result()
        (process,) = pool._processes.values()

    assert (found, process.exitcode) == ([3], 0)


def _initialise(number: int) -> None:
    _initialised.append(number)


def _what_is_there() -> list[int]:
    return _initialised
