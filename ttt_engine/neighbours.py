"""The tasks that adapters are known of, by their sketches: how far is the nearest? In memory, and without a model."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from ttt_engine.stores.sketch import PLACES

_MOST = 512


class Neighbours:
    """A bounded index of sketches by key; the latest stay. Safe between threads.

    It says what was known, not what is kept: an adapter that its store has dropped since still counts.
    """

    def __init__(self, n_most: int = _MOST) -> None:
        self._sketches = np.zeros((n_most, PLACES), dtype=np.int64)
        self._keys: dict[str, int] = {}  # with the row of each, the oldest first
        self._lock = threading.Lock()

    def add(self, key: str, sketch: Sequence[int]) -> None:
        """Take an adapter in; one whose task has no sketch, as a family has none, is passed over."""
        if len(sketch) != PLACES:
            return
        numbers = np.array(sketch, dtype=np.int64)  # before anything makes room for it
        with self._lock:
            if key in self._keys:
                return
            full = len(self._keys) == len(self._sketches)
            row = self._keys.pop(next(iter(self._keys))) if full else len(self._keys)
            self._sketches[row], self._keys[key] = numbers, row

    def distance(self, sketch: Sequence[int]) -> float:
        """Return 1 - the likeness of the nearest, 0 to 1; 1 where none is known."""
        with self._lock:
            same = self._sketches[: len(self._keys)] == np.array(sketch, dtype=np.int64)
        return float(1.0 - same.mean(axis=1).max(initial=0.0))

    def __len__(self) -> int:
        return len(self._keys)
