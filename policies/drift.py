"""Whether what comes in has changed: a window that shortens itself when its halves differ, and an index for features.

Nothing here acts. What an alarm leads to is the learning loop's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_PER_SIZE = 5  # buckets of one size, before two are merged
_SHORTEST = 30  # values on either side of a cut
PSI_ALARM = 0.25  # usual reading of the index: below 0.1 the same, above 0.25 another distribution


@dataclass(slots=True)
class _Bucket:
    """A run of values, by its sums."""

    n: int
    total: float
    squares: float

    def __iadd__(self, other: _Bucket) -> _Bucket:
        self.n += other.n
        self.total += other.total
        self.squares += other.squares
        return self


@dataclass(slots=True)
class AdaptiveWindow:
    """Keeps the longest run of recent values whose parts have the same mean, and says when it had to cut.

    Memory and time grow with the logarithm of the window: old values are kept in buckets of doubling size.

    Args:
        delta: chance that a stationary stream of any length is ever cut: each cut that is tried may spend its part.

    Example:
        >>> window = AdaptiveWindow()
        >>> any(window.add(0.2) for _ in range(500)), any(window.add(0.9) for _ in range(500))
        (False, True)

    Source: Bifet & Gavaldà 2007, ADWIN2, with the bound that takes the variance into account (eq. 3.1); delta is
    spread over the looks, where the paper spends it at each.
    """

    delta: float = 0.002
    every: int = 16  # values between two looks
    _buckets: list[_Bucket] = field(default_factory=list)  # oldest first, sizes fall
    _n_seen: int = 0

    def __len__(self) -> int:
        return sum(bucket.n for bucket in self._buckets)

    @property
    def mean(self) -> float:
        """Mean of the values that are kept; 0 where there are none."""
        return sum(bucket.total for bucket in self._buckets) / max(len(self), 1)

    def add(self, value: float) -> bool:
        """Take in one value; True where the past had to be dropped because it differs from the present."""
        self._buckets.append(_Bucket(1, value, value * value))
        self._merge()
        self._n_seen += 1
        if self._n_seen % self.every:
            return False
        look = self._n_seen // self.every
        allowed = self.delta / (look * (look + 1))
        dropped = False
        while (cut := self._cut(allowed)) is not None:
            del self._buckets[:cut]
            dropped = True
        return dropped

    def _merge(self) -> None:
        """Merge the two oldest buckets of every size of which there are too many."""
        size, end = 1, len(self._buckets)
        while True:
            start = end
            while start > 0 and self._buckets[start - 1].n == size:
                start -= 1
            if end - start <= _PER_SIZE:
                return
            self._buckets[start] += self._buckets.pop(start + 1)
            size, end = size * 2, start + 1

    def _cut(self, allowed: float) -> int | None:
        """Return how many of the oldest buckets differ most from the rest, if any differ by more than chance."""
        whole = _Bucket(0, 0.0, 0.0)
        for bucket in self._buckets:
            whole += bucket
        variance = max(whole.squares / whole.n - (whole.total / whole.n) ** 2, 0.0)
        log = math.log(2 * len(self._buckets) / allowed)
        old, best = _Bucket(0, 0.0, 0.0), (0.0, 0)
        for i, bucket in enumerate(self._buckets):
            old += bucket
            rest = whole.n - old.n
            if min(old.n, rest) < _SHORTEST:
                continue
            harmonic = 1 / (1 / old.n + 1 / rest)
            most = math.sqrt(2 / harmonic * variance * log) + 2 / (3 * harmonic) * log
            apart = abs(old.total / old.n - (whole.total - old.total) / rest)
            best = max(best, (apart - most, i + 1))
        return best[1] or None


def stability_index(before: Floats, now: Floats, *, n_bins: int = 10) -> float:
    """Return the population stability index of one feature: sum (q - p) log(q / p) over the tenths of `before`.

    NaN, a value that is not known, is a bin of its own. Above PSI_ALARM the feature comes from elsewhere.
    """
    known = before[~np.isnan(before)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, n_bins + 1)[1:-1])) if known.size else np.zeros(0)

    def shares(values: Floats) -> Floats:
        bins = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
        counts = np.bincount(bins, minlength=len(edges) + 2) + 0.5  # an empty bin is no proof
        found: Floats = counts / counts.sum()
        return found

    p, q = shares(before), shares(now)
    return float(np.sum((q - p) * np.log(q / p)))


def shifted_features(names: tuple[str, ...], before: Floats, now: Floats) -> dict[str, float]:
    """Return the index of every feature that is above PSI_ALARM, by name; the rows of both are tasks."""
    found = {name: stability_index(before[:, i], now[:, i]) for i, name in enumerate(names)}
    return {name: index for name, index in found.items() if index > PSI_ALARM}
