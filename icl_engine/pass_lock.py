"""The lock of a model's passes. Whoever lets go of it also gives up the threads that its passes were shared out over.

libgomp, which torch computes with on Linux, keeps for every thread that has computed a team of as many others as there
are cores. Where all teams together are more than the cores, those who wait sleep between one operation and the next and
have to be woken for it, which for a small model takes longer than the operation: two threads are then slower than one.
As only the holder of the lock computes, no other team has to be kept.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
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
        held = self._lock.acquire(blocking, timeout)
        self._depth += held
        return held

    def release(self) -> None:
        """See `threading.Lock`."""
        outermost = self._depth == 1
        if outermost:
            end_team()
        self._depth -= 1
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def end_team() -> None:
    """End the threads that wait to compute for this one; the next operation that is worth it starts them again."""
    _pause()(_SOFT)


@functools.cache
def _pause() -> Callable[[int], object]:
    libgomp = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    try:
        return ctypes.CDLL(str(libgomp)).omp_pause_resource_all
    except (OSError, AttributeError):  # another OpenMP, or none
        return lambda how: None
