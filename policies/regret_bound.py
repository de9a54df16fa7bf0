"""A bound on what is missed: of the tasks answered in context, which share would `ttt` have answered better?

The threshold on a score, above which tasks are trained on, is chosen on tasks that both arms have answered, such that
with probability 1 - delta over their choice that share is at most what was asked for. With too few of them, or where no
threshold can be shown to do, every task is trained on, and the bound says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import CAREFUL, Arm, Decision, drawn, first_available, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import PolicySettingRefused
from policies.outcome_splits import task_groups
from policies.replay import Scorer, measured
from policies.wishes import RegretLimit

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

MIN_CALIBRATION = 500  # tasks; with fewer the bound would hold, but hardly anything would be answered in context
_SHARES = tuple(i / 40 for i in range(1, 41))  # of the calibration tasks answered in context, at each threshold tried
_STARTS = (0.1, 0.2, 0.4, 0.6, 0.8)  # shares at which a new search starts, each with its part of delta


@dataclass(frozen=True, slots=True)
class RegretBound:
    """A threshold and what was seen of it."""

    threshold: float  # answered in context where the score is below; -inf: nowhere
    max_rate: float
    delta: float  # probability over the calibration tasks that the rate is exceeded after all
    n_calibration: int
    n_icl: int  # calibration tasks below the threshold
    n_regretted: int  # of those, answered better by `ttt`
    n_future: int | None = None  # tasks that the bound is about; None: all that are to come
    n_needed: int = MIN_CALIBRATION  # calibration tasks

    @property
    def holds(self) -> bool:
        """Whether a threshold was found; without one everything is trained on, which regrets nothing."""
        return self.threshold > -math.inf

    @property
    def upper(self) -> float:
        """Clopper-Pearson bound of the rate below the threshold at 1 - delta, for it alone; 1 without tasks."""
        return clopper_pearson_upper(self.n_regretted, self.n_icl, self.delta) if self.n_icl else 1.0

    @property
    def reason(self) -> str:
        """What the threshold rests on, or why there is none."""
        n = self.n_calibration
        if n < self.n_needed:
            return f"the bound needs {self.n_needed} calibration tasks and has {n}, so every task is trained on"
        if not self.holds:
            said = f"{n} calibration tasks show no threshold that keeps the regret rate at {self.max_rate:g}"
            return f"{said}, so every task is trained on"
        seen = f"of {self.n_icl} calibration tasks below it {self.n_regretted} would have been answered better by ttt"
        of = "all" if self.n_future is None else f"those among the next {self.n_future} tasks"
        return f"{seen}; at most {self.max_rate:g} of {of} with probability {1.0 - self.delta:g}"


def bound_from(numbers: str) -> RegretBound:
    """Return the bound whose numbers a version of `BoundedRegret` names.

    Raises:
        ValueError: these are not its numbers.
    """
    threshold, max_rate, delta, *counts, n_future, n_needed = numbers.split("/")
    n_calibration, n_icl, n_regretted = map(int, counts)
    future = None if n_future == str(None) else int(n_future)
    return RegretBound(
        float(threshold), float(max_rate), float(delta), n_calibration, n_icl, n_regretted, future, int(n_needed)
    )


def choose_threshold(
    scores: Floats,
    regretted: Mask,
    *,
    max_rate: float,
    delta: float = 0.05,
    n_future: int | None = None,
    thresholds: Sequence[float] | None = None,
    min_calibration: int = MIN_CALIBRATION,
) -> RegretBound:
    """Choose the largest threshold for which the regret rate is shown to be at most `max_rate`.

    Thresholds are tested in order, from few tasks in context to many: that the rate below one is too high is rejected
    where so few regretted tasks would then be seen with probability at most the level. The level is shared among a few
    starting points, and one that was used successfully goes on to the next threshold (the fallback procedure), so that
    any false rejection has probability at most `delta`.

    Args:
        scores: (n_tasks,), one row a task: rows of one task are no separate evidence.
        regretted: (n_tasks,), `ttt` answers better than `icl`.
        n_future: None: the bound is on the rate in the long run. A count: on the share realised in that many further
            tasks, which scatters about it; this is for each threshold on its own, and asks for lower ones.
        thresholds: rising, fixed without a look at `regretted`; None: quantiles of `scores`.

    Raises:
        PolicySettingRefused: a rate or probability that does not lie between 0 and 1.

    Source: Angelopoulos et al. 2021 (Learn then Test); Wiens and Dmitrienko 2005 (the fallback procedure).
    """
    for field, value in (("max_rate", max_rate), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise PolicySettingRefused(field, f"got {value}", remedy="Give a number above 0 and below 1.")
    n = len(scores)
    if n < min_calibration:
        return nothing_shown(max_rate, delta=delta, n_calibration=n, n_future=n_future, n_needed=min_calibration)
    tried = _quantiles(scores) if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    counts = np.searchsorted(scores[order], tried, side="left")
    hits = np.concatenate([[0], np.cumsum(regretted[order])])[counts]
    starts = [min(int(np.searchsorted(counts, share * n)), len(tried) - 1) for share in _STARTS]
    chosen, level = None, 0.0
    for i, threshold in enumerate(tried):
        n_icl, n_regretted = int(counts[i]), int(hits[i])
        n_next = None if n_future is None else round(n_future * n_icl / n)
        level += delta * starts.count(i) / len(_STARTS)
        if n_icl and level and _p_too_high(n_regretted, n_icl, max_rate, n_next) <= level:
            chosen = (float(threshold), n_icl, n_regretted)
        else:
            level = 0.0
    if chosen is None:
        return nothing_shown(max_rate, delta=delta, n_calibration=n, n_future=n_future, n_needed=min_calibration)
    threshold, n_icl, n_regretted = chosen
    return RegretBound(threshold, max_rate, delta, n, n_icl, n_regretted, n_future, min_calibration)


def nothing_shown(
    max_rate: float,
    *,
    delta: float = 0.05,
    n_calibration: int = 0,
    n_future: int | None = None,
    n_needed: int = MIN_CALIBRATION,
) -> RegretBound:
    """Return the bound without a threshold, under which everything is trained on."""
    return RegretBound(-math.inf, max_rate, delta, n_calibration, 0, 0, n_future, n_needed)


def clopper_pearson_upper(n_hits: int, n: int, delta: float) -> float:
    """Return the upper bound at 1 - delta of a rate that was seen `n_hits` times in `n`.

    Source: Clopper and Pearson 1934: the rate at which as few hits as these have probability delta.
    """
    if n_hits >= n:
        return 1.0
    low, high = n_hits / n, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if binomial_cdf(n_hits, n, middle) > delta else (low, middle)
    return high


@lru_cache(maxsize=65536)
def binomial_cdf(n_hits: int, n: int, rate: float) -> float:
    """Return the probability of at most `n_hits` hits in `n` at a rate above 0 and below 1."""
    hit, miss = math.log(rate), math.log1p(-rate)
    whole = math.lgamma(n + 1)
    logs = (
        whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * hit + (n - k) * miss
        for k in range(min(n_hits, n) + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))


@lru_cache(maxsize=65536)
def hypergeometric_cdf(n_hits: int, n: int, total: int, total_hits: int) -> float:
    """Return the probability of at most `n_hits` hits among `n` of `total` things, `total_hits` of which are hits."""

    def log_choose(a: int, b: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    possible = range(max(0, total_hits - (total - n)), min(n_hits, n, total_hits) + 1)
    whole = log_choose(total, total_hits)
    logs = (log_choose(n, k) + log_choose(total - n, total_hits - k) - whole for k in possible)
    return min(1.0, math.fsum(map(math.exp, logs)))


def regretted_rows(matrix: OutcomeMatrix) -> Mask:
    """Return where `ttt` answers better than `icl`, (n_rows,); False where either was not measured."""
    regretted: Mask = matrix.quality[:, matrix.column(Arm.TTT)] > matrix.quality[:, matrix.column(Arm.ICL)]
    return regretted


def bound_on(
    scorer: Scorer, matrix: OutcomeMatrix, *, max_rate: float, delta: float = 0.05, n_future: int | None = None
) -> RegretBound:
    """Choose the threshold on the scores of a matrix that was not used to fit the scorer; see `choose_threshold`.

    Of each group of tasks the first row with both arms counts: other seeds, and other queries of a file, are no further
    evidence.
    """
    both = measured(matrix)[:, matrix.column(Arm.ICL)] & measured(matrix)[:, matrix.column(Arm.TTT)]
    first: dict[tuple[str, str], int] = {}
    groups = task_groups(matrix)
    for row in np.flatnonzero(both).tolist():
        first.setdefault(groups[row], row)
    rows = matrix.take(sorted(first.values()))
    return choose_threshold(
        scorer.scores(rows), regretted_rows(rows), max_rate=max_rate, delta=delta, n_future=n_future
    )


@dataclass(frozen=True, slots=True)
class BoundedRegret:
    """Answer in context below a threshold that was chosen for a bound, else train.

    Exploration only ever trains: a task answered in context by chance would not be covered by the bound.
    """

    scorer: Scorer
    bound: RegretBound
    explore: float = 0.05  # probability of training where the rule would not

    def __post_init__(self) -> None:
        if not 0.0 <= self.explore < 1.0:
            raise PolicySettingRefused("explore", f"got {self.explore}", remedy="Give a probability below 1.")

    @property
    def name(self) -> str:
        return "bounded_regret"

    @property
    def version(self) -> str:
        numbers = "/".join(str(getattr(self.bound, field.name)) for field in fields(self.bound))
        return f"2:scores=({policy_id(self.scorer)}),bound={numbers},explore={self.explore}"

    @property
    def goes_by(self) -> tuple[Scorer]:
        """The policy that scores the tasks."""
        return (self.scorer,)

    @property
    def wish(self) -> str:
        """What is asked for."""
        return str(RegretLimit(self.bound.max_rate))

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return all for the trained arm above the threshold; `explore` for it below."""
        return self._spread(self.scorer.score(features), arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        score = self.scorer.score(features)
        favourite, trained = self._rule(score, arms)
        side = "below" if score < self.bound.threshold else "not below"
        compared = f", {side} {self.bound.threshold:.3g}" if self.bound.holds else ""
        reason = f"{self.scorer.name} {score:.3g}{compared}: {favourite}; {self.bound.reason}"
        if trained is None:
            reason += "; ttt is not available, so the bound says nothing of this task"
        return drawn(
            self,
            self._spread(score, arms),
            rng,
            arms,
            favourite=favourite,
            reason=reason,
            difficulty=1.0 - p_icl_correct(features),
        )

    def score(self, features: FeatureValues) -> float:
        """Return the score that is compared with the threshold."""
        return self.scorer.score(features)

    def scores(self, matrix: OutcomeMatrix) -> Floats:
        """Return the scores that are compared with the threshold."""
        return self.scorer.scores(matrix)

    def _rule(self, score: float, arms: Sequence[str]) -> tuple[str, str | None]:
        """Return the arm the rule takes, and the trained one if there is one."""
        if Arm.TTT not in arms:
            return first_available(CAREFUL, arms), None
        return (str(Arm.ICL) if score < self.bound.threshold and Arm.ICL in arms else str(Arm.TTT)), str(Arm.TTT)

    def _spread(self, score: float, arms: Sequence[str]) -> tuple[float, ...]:
        favourite, trained = self._rule(score, arms)
        explored = 0.0 if trained is None or trained == favourite else self.explore
        return tuple((arm == favourite) * (1.0 - explored) + (arm == trained) * explored for arm in arms)


def _p_too_high(n_regretted: int, n_icl: int, max_rate: float, n_next: int | None) -> float:
    """Return the largest probability of so few regretted tasks where the rate is above `max_rate`.

    In the long run that is the rate `max_rate` itself. Among `n_next` further tasks it is one more than are allowed,
    any of all the tasks being as likely to be the further ones.
    """
    if n_next is None:
        return binomial_cdf(n_regretted, n_icl, max_rate)
    too_many = math.floor(max_rate * n_next + 1e-9) + 1
    if too_many > n_next:
        return 0.0  # there are too few of them for too many
    return hypergeometric_cdf(n_regretted, n_icl, n_icl + n_next, n_regretted + too_many)


def _quantiles(scores: Floats) -> Floats:
    """Return thresholds below which equal parts of the scores lie; below the last lie all of them."""
    ordered = np.sort(scores)
    inner = [float(ordered[int(share * len(ordered))]) for share in _SHARES if share < 1.0]
    return np.unique([*inner, math.inf])
