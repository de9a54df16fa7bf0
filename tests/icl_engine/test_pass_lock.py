"""The lock of a model's passes: reentrant, and no team of threads outlives its holder's passes."""

import os
import subprocess
import sys
import threading

import pytest

from icl_engine.pass_lock import PassLock

COUNTS = """
import os, time, torch
from icl_engine.pass_lock import PassLock

torch.set_num_threads(3)
def n_threads(at_most):
    until = time.monotonic() + 5  # the kernel may list one that has ended for a moment more
    while (n := len(os.listdir("/proc/self/task"))) > at_most and time.monotonic() < until:
        time.sleep(0.01)
    return n
lock, before = PassLock(), len(os.listdir("/proc/self/task"))
with lock:
    with lock:
        numbers = torch.ones(1000, 1000)
        numbers @ numbers
    inside = n_threads(before + 2) - before
after = n_threads(before) - before
print(inside, after, float((numbers @ numbers)[0, 0]), torch.get_num_threads())
"""

FORKS = """
import os, torch
from icl_engine.pass_lock import PassLock

numbers = torch.ones(1000, 1000)
numbers @ numbers  # outside of any lock: a team is kept
child = os.fork()
if child == 0:
    lock = PassLock()
    with lock:
        numbers @ numbers
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def said_by(program: str) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONPATH": os.getcwd()}
    run = [sys.executable, "-c", program]
    return subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's")
def test_whoever_lets_go_keeps_no_threads_and_can_compute_again() -> None:
    assert said_by(COUNTS) == ["2", "0", "1000.0", "3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no system without it has the trouble")
def test_a_child_that_is_forked_after_computing_computes_and_lets_go() -> None:
    assert said_by(FORKS) == ["7"]


def test_an_interruption_while_it_lets_go_leaves_it_free(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = PassLock()
    with pytest.raises(KeyboardInterrupt), lock:
        monkeypatch.setattr("icl_engine.pass_lock.end_team", interrupted)

    assert elsewhere(lock)


def interrupted() -> None:
    raise KeyboardInterrupt


def elsewhere(lock: PassLock) -> bool:
    """Say whether another thread can have the lock."""
    got: list[bool] = []

    def try_it() -> None:
        got.append(lock.acquire(blocking=False))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return got[0]


def test_another_thread_waits_until_the_outermost_holder_lets_go() -> None:
    lock = PassLock()
    with lock:
        with lock:
            assert not elsewhere(lock)
        assert not elsewhere(lock)
    assert elsewhere(lock)
