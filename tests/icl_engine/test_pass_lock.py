"""The lock of a model's passes: reentrant, and no team of threads outlives its holder's passes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from icl_engine.pass_lock import PassLock

LIBGOMP = Path(sys.prefix).glob("lib/python*/site-packages/torch/lib/libgomp.so.1")

COUNTS = """
import os, torch
from icl_engine.pass_lock import PassLock

torch.set_num_threads(3)
def n_threads():
    return len(os.listdir("/proc/self/task"))
lock, before = PassLock(), n_threads()
with lock:
    with lock:
        numbers = torch.ones(1000, 1000)
        numbers @ numbers
    inside = n_threads() - before
after = n_threads() - before
print(inside, after, float((numbers @ numbers)[0, 0]), torch.get_num_threads())
"""


@pytest.mark.skipif(not any(LIBGOMP), reason="torch brings no libgomp here")
def test_whoever_lets_go_keeps_no_threads_and_can_compute_again() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONPATH": os.getcwd()}
    run = [sys.executable, "-c", COUNTS]
    said = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["2", "0", "1000.0", "3"]


def test_another_thread_waits_until_the_outermost_holder_lets_go() -> None:
    lock = PassLock()
    got: list[bool] = []

    def try_it() -> None:
        got.append(lock.acquire(blocking=False))
        if got[-1]:
            lock.release()

    def elsewhere() -> bool:
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        return got[-1]

    with lock:
        with lock:
            assert not elsewhere()
        assert not elsewhere()
    assert elsewhere()
