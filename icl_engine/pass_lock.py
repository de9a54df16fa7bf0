"""The lock of a model's passes. Whoever lets go of it also gives up the threads that its passes were shared out over.

libgomp, which torch computes with on Linux, keeps for every thread that has computed a team of as many others as there
are cores. Where all teams together are more than the cores, those who wait sleep between one operation and the next and
have to be woken for it, which for a small model takes longer than the operation: two threads are then slower than one.
So nobody keeps a team who is not computing; what computes without the lock does so in `without_team`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

_SOFT = 1  # omp_pause_soft, OpenMP 5.0, section 3.2.43: what was set, like the number of threads, stays


class PassLock:
    """A reentrant lock, used as those of `threading` are."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0  # of the thread that holds it

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """See `threading.Lock`."""
        if not self._lock.acquire(blocking, timeout):
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        """See `threading.Lock`."""
        try:
            if self._depth == 1:
                end_team()
        finally:  # whatever interrupts: others wait for it
            self._depth -= 1
            self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@contextlib.contextmanager
def without_team() -> Iterator[None]:
    """Compute for the time of a with block, or a function, and keep no threads waiting for more."""
    try:
        yield
    finally:
        end_team()


def end_team() -> None:
    """End the threads that wait to compute for this one; the next operation that is worth it starts them again."""
    _pause()(_SOFT)


@functools.cache
def _pause() -> Callable[[int], object]:
    """Return what ends a team of the libgomp that torch is linked to, whatever its file is called; nothing else's."""
    try:
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_global_deps.so"))
        pause = openmp.omp_pause_resource_all
    except (OSError, AttributeError):  # another system, or an OpenMP before 5.0
        return lambda how: None
    return (lambda how: None) if hasattr(openmp, "__kmpc_fork_call") else pause  # LLVM's has no such trouble


if hasattr(os, "register_at_fork"):  # a child has the team's books without its threads, and would wait for them
    os.register_at_fork(before=end_team)
