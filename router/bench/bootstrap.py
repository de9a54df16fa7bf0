"""Confidence intervals by the bootstrap over tasks: whole tasks are drawn with replacement, all their seeds with them.

A draw is a weight for each row, so that every metric of metrics.py, and any paired difference, is computed for
thousands of draws at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

N_DRAWS = 10_000
LEVEL = 0.95
_VALUES_AT_ONCE = 2_000_000  # weights of one part of the draws: bounds memory


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Resampling:
    """The draws that all figures of one report share: paired, because the same tasks are drawn for all of them."""

    groups: npt.NDArray[np.int64]  # (n_rows,), the task of each row
    n_draws: int
    seed: int

    @classmethod
    def of(cls, tasks: Sequence[Hashable], *, n_draws: int = N_DRAWS, seed: int = 0) -> Resampling:
        """Return the resampling of rows whose tasks are named here."""
        place = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
        return cls(np.array([place[task] for task in tasks], dtype=np.int64), n_draws, seed)

    def parts(self) -> Iterator[Floats]:
        """Yield all draws in parts, each (n_draws_of_the_part, n_rows); the same at every call."""
        rng = np.random.default_rng(self.seed)
        n_groups = int(self.groups.max()) + 1
        at_once = max(1, _VALUES_AT_ONCE // len(self.groups))
        for start in range(0, self.n_draws, at_once):
            n = min(at_once, self.n_draws - start)
            drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n)
            yield drawn[:, self.groups].astype(np.float64)

    def draws(self, metrics: Callable[[Floats], Mapping[str, Floats]]) -> dict[str, Floats]:
        """Return each metric with weights of one, first, and then of every draw: (1 + n_draws,)."""
        found = [metrics(np.ones((1, len(self.groups)))), *map(metrics, self.parts())]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def interval(draws: Floats, level: float = LEVEL) -> Interval:
    """Return the figure and its percentile interval from what `Resampling.draws` gives."""
    drawn = draws[1:][~np.isnan(draws[1:])]
    if not len(drawn):
        return Interval(float(draws[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(draws[0]), float(low), float(high))


def ratio_interval(
    above: Sequence[float], below: Sequence[float], tasks: Sequence[Hashable], *, seed: int = 0
) -> Interval:
    """Return the ratio of two sums over rows with its interval: a mean where all of `below` are 1."""
    over, under = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    drawn = Resampling.of(tasks, seed=seed).draws(lambda weights: {"": (weights @ over) / (weights @ under)})
    return interval(drawn[""])


def p_value(draws: Floats) -> float:
    """Return the two-sided bootstrap p value of a difference: twice the share of draws on the other side of zero."""
    drawn = draws[1:][~np.isnan(draws[1:])]
    below, above = (drawn <= 0).sum(), (drawn >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(drawn))))
