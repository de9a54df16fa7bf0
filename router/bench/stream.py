"""A stream of tasks in which the families change and then the price of time: what learning is worth, task by task.

Drawn from an outcome matrix, so that what every other arm would have brought is known. A learner sees the outcome of
`icl`, which has always run, and of the arm it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from policies.outcome_matrix import OutcomeMatrix
from router.bench.contenders import STRONG, WEAK, Contender, Fitted, unit_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

N_TASKS, FAMILY_SHIFT, PRICE_SHIFT = 5000, 2000, 3500
WARM_UP = (
    300  # tasks with the outcomes of all arms, from the families of before the shift: what every learner starts with
)
EVERY = 100  # tasks between two fits
WINDOW = 100  # tasks over which a rate is taken


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows of a matrix in the order in which their tasks come, and the price at each."""

    matrix: OutcomeMatrix
    warm_up: Ints
    rows: Ints  # (n_tasks,)
    prices: Floats  # (n_tasks,)
    family_shift: int
    price_shift: int

    def utilities(self) -> Floats:
        """Return what each arm is worth at each step, (n_tasks, n_arms)."""
        cost = self.matrix.routed_cost_s[self.rows] / unit_of(self.matrix)
        result: Floats = self.matrix.quality[self.rows] - self.prices[:, None] * cost
        return result


@dataclass(frozen=True, slots=True)
class Course:
    """How one contender fared on a stream."""

    name: str
    utility: Floats  # (n_tasks,), expected over its chances
    regret: Floats  # (n_tasks,), of the best arm there is for each task

    @property
    def cumulative_regret(self) -> Floats:
        return np.cumsum(self.regret)


def stream_of(
    matrix: OutcomeMatrix,
    *,
    rng: np.random.Generator,
    prices: tuple[float, float] = (0.1, 0.4),
    n_tasks: int = N_TASKS,
    family_shift: int = FAMILY_SHIFT,
    price_shift: int = PRICE_SHIFT,
) -> Stream:
    """Draw a stream: half of the families until the shift, the other half after it.

    The halves are those between which the gain of training differs most: the families are parted by what training
    gained on them, so that the shift matters.
    """
    before, after = _halves(matrix)
    rows = np.concatenate([rng.choice(before, family_shift), rng.choice(after, n_tasks - family_shift)])
    at = np.full(n_tasks, prices[0])
    at[price_shift:] = prices[1]
    return Stream(matrix, rng.choice(before, min(WARM_UP, len(before))), rows, at, family_shift, price_shift)


def stream_of_new_tasks(
    matrix: OutcomeMatrix, *, rng: np.random.Generator, prices: tuple[float, float] = (0.1, 0.4)
) -> Stream:
    """Draw a stream as `stream_of` does, in which no task comes twice: it is as long as there are tasks, and the price
    changes where three in four of the later families' tasks have come. The warm-up is half of the earlier tasks, 300 at
    most.
    """
    before, after = (rng.permutation(half) for half in _halves(matrix))
    warm_up, before = np.split(before, [min(WARM_UP, len(before) // 2)])
    rows = np.concatenate([before, after])
    price_shift = len(before) + 3 * len(after) // 4
    at = np.where(np.arange(len(rows)) < price_shift, *prices)
    return Stream(matrix, warm_up, rows, at, len(before), price_shift)


def _halves(matrix: OutcomeMatrix) -> tuple[Ints, Ints]:
    """Return the rows of the families in which training gained least, and of the others."""
    groups = np.array([f"{name}/{family}" for name, family in zip(matrix.sets, matrix.families, strict=True)])
    gain = matrix.quality[:, matrix.column(STRONG)] - matrix.quality[:, matrix.column(WEAK)]
    names = sorted(set(groups.tolist()), key=lambda name: (float(gain[groups == name].mean()), name))
    early = np.isin(groups, names[: max(1, len(names) // 2)])
    before, after = np.flatnonzero(early), np.flatnonzero(~early)
    return before, after if len(after) else before


def frozen(contender: Contender, stream: Stream) -> Course:
    """Fit on the warm-up alone and never again; the price it knows stays that of the beginning."""
    fitted = contender.fit(stream.matrix.take(stream.warm_up))
    choices = fitted.choose(stream.matrix.take(stream.rows), float(stream.prices[0]))
    return _course("the same, frozen", stream, choices)


def learning(contender: Contender, stream: Stream, *, rng: np.random.Generator, every: int = EVERY) -> Course:
    """Fit anew every so many tasks, on the warm-up and all that was seen since; the price is told as it changes."""
    matrix, n = stream.matrix, len(stream.rows)
    choices = np.empty((n, len(matrix.arms)))
    took = np.empty(n, dtype=np.int64)
    fitted: Fitted | None = None
    for start in range(0, n, every):
        steps = np.arange(start, min(start + every, n))
        fitted = contender.fit(_seen(stream, took[:start]))
        for price in np.unique(stream.prices[steps]):
            now = steps[stream.prices[steps] == price]
            choices[now] = fitted.choose(matrix.take(stream.rows[now]), float(price))
        drawn = rng.random(len(steps))[:, None]
        took[steps] = (np.cumsum(choices[steps], axis=1) < drawn).sum(axis=1).clip(max=len(matrix.arms) - 1)
    return _course(contender.name, stream, choices)


def best_fixed(stream: Stream) -> Course:
    """Return the course of the single arm that was best over the whole stream, found in hindsight."""
    best = int(stream.utilities().sum(axis=0).argmax())
    choices = np.zeros((len(stream.rows), len(stream.matrix.arms)))
    choices[:, best] = 1.0
    return _course(f"always {stream.matrix.arms[best]}, best in hindsight", stream, choices)


def tasks_to_recover(
    learner: Course, frozen_course: Course, stream: Stream, *, part: float = 0.9, window: int = WINDOW
) -> int | None:
    """Return how many tasks after the shift of families a part of what learning gains there was reached; None: never.

    The gain is that of the learner over the frozen policy at the end of the segment, over its last third; it is reached
    where the mean over a window is as much above the frozen policy.
    """
    segment = slice(stream.family_shift, stream.price_shift)
    ahead = learner.utility[segment] - frozen_course.utility[segment]
    gain = ahead[-len(ahead) // 3 :].mean()
    if gain <= 0:
        return None
    means = np.convolve(ahead, np.full(window, 1 / window), mode="valid")
    reached = np.flatnonzero(means >= part * gain)
    return int(reached[0]) + window if len(reached) else None


def _seen(stream: Stream, took: Ints) -> OutcomeMatrix:
    """The outcomes a learner knows: all arms of the warm-up, then of each task `icl` and the arm it took."""
    rows = np.concatenate([stream.warm_up, stream.rows[: len(took)]])
    seen = stream.matrix.take(rows)
    known = np.ones(seen.quality.shape, dtype=bool)
    known[len(stream.warm_up) :] = False
    known[np.arange(len(stream.warm_up), len(rows)), took] = True
    known[:, seen.column(WEAK)] = True
    return replace(seen, quality=np.where(known, seen.quality, np.nan), cost_s=np.where(known, seen.cost_s, np.nan))


def _course(name: str, stream: Stream, choices: Floats) -> Course:
    worth = stream.utilities()
    utility = (choices * worth).sum(axis=1)
    return Course(name, utility, worth.max(axis=1) - utility)


def thinned(values: Floats, n_points: int = 500) -> tuple[Sequence[int], Floats]:
    """Return every so-manieth value and its place: enough for a plot."""
    places = np.unique(np.linspace(0, len(values) - 1, min(n_points, len(values))).astype(np.int64))
    return places.tolist(), values[places]
