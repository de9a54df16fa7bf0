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


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows of a matrix in the order in which their tasks come, and the price at each."""

    matrix: OutcomeMatrix
    warm_up: Ints
    rows: Ints  # (n_tasks,)
    prices: Floats  # (n_tasks,)
    family_shift: int
    price_shift: int

    def utilities(self, *, looked: bool) -> Floats:
        """Return what each arm is worth at each step, (n_tasks, n_arms).

        Args:
            looked: whether the features have been paid for.
        """
        cost_s = self.matrix.routed_cost_s if looked else self.matrix.cost_s
        cost = cost_s[self.rows] / unit_of(self.matrix)
        result: Floats = self.matrix.quality[self.rows] - self.prices[:, None] * cost
        return result


@dataclass(frozen=True, slots=True)
class Course:
    """How one contender fared on a stream."""

    name: str
    utility: Floats  # (n_tasks,), expected over its chances
    regret: Floats  # (n_tasks,), of the best arm there is for each task, which whoever knows it need not look for

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
    """Fit on the warm-up alone and never again; the price is told as it changes."""
    fitted = contender.fit(stream.matrix.take(stream.warm_up))
    choices = _choices(fitted, stream, np.arange(len(stream.rows)))
    return _course("the same, frozen", stream, choices)


def learning(contender: Contender, stream: Stream, *, rng: np.random.Generator, every: int = EVERY) -> Course:
    """Fit anew every so many tasks, on the warm-up and all that was seen since; the price is told as it changes."""
    matrix, n = stream.matrix, len(stream.rows)
    choices = np.empty((n, len(matrix.arms)))
    took = np.empty(n, dtype=np.int64)
    for start in range(0, n, every):
        steps = np.arange(start, min(start + every, n))
        choices[steps] = _choices(contender.fit(_seen(stream, took[:start])), stream, steps)
        drawn = rng.random(len(steps))[:, None]
        took[steps] = (np.cumsum(choices[steps], axis=1) < drawn).sum(axis=1).clip(max=len(matrix.arms) - 1)
    return _course(contender.name, stream, choices)


def best_fixed(stream: Stream) -> Course:
    """Return the course of the single arm that was best over the whole stream, found in hindsight; it looks at no
    feature.
    """
    best = int(stream.utilities(looked=False).sum(axis=0).argmax())
    choices = np.zeros((len(stream.rows), len(stream.matrix.arms)))
    choices[:, best] = 1.0
    return _course(f"always {stream.matrix.arms[best]}, best in hindsight", stream, choices, looked=False)


def tasks_to_recover(ahead: Sequence[Floats], *, part: float = 0.9) -> int | None:
    """Return how many tasks after a shift a part of what learning gains there was reached; None: it gains nothing.

    The gain is the mean over the last third. It is reached where the curve that never falls and fits best (isotonic
    regression) is as high: a moving mean would cross by chance long before.

    Args:
        ahead: of each stream, what the learner was worth more than the frozen policy, task by task from the shift on,
            (n_tasks,) each.
    """
    from sklearn.isotonic import IsotonicRegression

    mean = np.mean(ahead, axis=0)
    gain = mean[-len(mean) // 3 :].mean()
    if gain <= 0:
        return None
    places = np.arange(len(mean))
    curve = IsotonicRegression().fit(places, mean).predict(places)
    return int(np.argmax(curve >= part * gain)) + 1


def recovery_interval(ahead: Sequence[Floats], rng: np.random.Generator, n_draws: int = 200) -> tuple[int, int] | None:
    """Return the 95 % bootstrap interval of `tasks_to_recover`, streams drawn anew; None: some draws gain nothing."""
    drawn = [tasks_to_recover([ahead[i] for i in rng.integers(len(ahead), size=len(ahead))]) for _ in range(n_draws)]
    known = [tasks for tasks in drawn if tasks is not None]
    if len(known) < n_draws:
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return int(low), int(high)


def ahead_after_shift(learner: Course, frozen_course: Course, stream: Stream) -> Floats:
    """Return what the learner was worth more between the shift of families and that of the price, (n_tasks,)."""
    segment = slice(stream.family_shift, stream.price_shift)
    ahead: Floats = learner.utility[segment] - frozen_course.utility[segment]
    return ahead


def _choices(fitted: Fitted, stream: Stream, steps: Ints) -> Floats:
    """Return the chances of each arm at these steps, each at its own price, (n_steps, n_arms)."""
    choices = np.empty((len(steps), len(stream.matrix.arms)))
    for price in np.unique(stream.prices[steps]):
        now = stream.prices[steps] == price
        choices[now] = fitted.choose(stream.matrix.take(stream.rows[steps[now]]), float(price))
    return choices


def _seen(stream: Stream, took: Ints) -> OutcomeMatrix:
    """The outcomes a learner knows: all arms of the warm-up, then of each task `icl` and the arm it took."""
    rows = np.concatenate([stream.warm_up, stream.rows[: len(took)]])
    seen = stream.matrix.take(rows)
    known = np.ones(seen.quality.shape, dtype=bool)
    known[len(stream.warm_up) :] = False
    known[np.arange(len(stream.warm_up), len(rows)), took] = True
    known[:, seen.column(WEAK)] = True
    return replace(seen, quality=np.where(known, seen.quality, np.nan), cost_s=np.where(known, seen.cost_s, np.nan))


def _course(name: str, stream: Stream, choices: Floats, *, looked: bool = True) -> Course:
    utility = (choices * stream.utilities(looked=looked)).sum(axis=1)
    return Course(name, utility, stream.utilities(looked=False).max(axis=1) - utility)


def thinned(values: Floats, n_points: int = 500) -> tuple[Sequence[int], Floats]:
    """Return every so-manieth value and its place: enough for a plot."""
    places = np.unique(np.linspace(0, len(values) - 1, min(n_points, len(values))).astype(np.int64))
    return places.tolist(), values[places]
