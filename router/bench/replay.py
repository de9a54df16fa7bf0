"""Replays contenders on an outcome matrix: fitted on some rows, judged on others; under a bound, and with a cache.

Nothing is answered anew: what a contender would have chosen has been measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import OutcomesRefused
from policies.outcome_matrix import OutcomeMatrix, joined
from policies.outcome_splits import Split, task_groups
from router.bench.contenders import STRONG, WEAK, Contender, Fitted

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

PRICES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
REPEAT_RATES = (0.0, 0.25, 0.5)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a contender made of every row, each decided by a fit that has not seen the row."""

    name: str
    is_oracle: bool
    choices: Mapping[float, Floats]  # by price, (n_rows, n_arms)
    cost_s: Floats  # (n_rows, n_arms), what each choice costs this contender
    scores: Floats | None  # (n_rows,)
    p_strong_only: Floats | None
    p_correct: Floats | None  # (n_rows, n_arms)

    def mean_quality(self, matrix: OutcomeMatrix, price: float) -> Floats:
        """Return the expected quality of each row, (n_rows,)."""
        return _expected(self.choices[price], matrix.quality)

    def mean_cost_s(self, price: float) -> Floats:
        """Return the expected cost of each row, (n_rows,), in seconds."""
        return _expected(self.choices[price], self.cost_s)


def replay(
    contender: Contender,
    matrix: OutcomeMatrix,
    splits: Sequence[Split],
    *,
    prices: Sequence[float] = PRICES,
    fit_on: OutcomeMatrix | None = None,
) -> Judged:
    """Fit a contender on one side of each split and judge it on the other.

    Args:
        splits: together they judge every row once.
        fit_on: outcomes of other tasks, which every fit may use besides, without those of families that it holds out.

    Raises:
        OutcomesRefused: the matrix lacks `icl` or `ttt`, or an outcome.
    """
    _check(matrix)
    parts = [(split.judge, *_judged(contender, matrix, split, prices, fit_on)) for split in splits]
    rows = np.concatenate([judged for judged, *_ in parts])
    back = np.argsort(rows, kind="stable")

    def whole(name: str) -> Floats | None:
        found = [ask(matrix.take(judged)) for judged, fitted, _ in parts if (ask := getattr(fitted, name)) is not None]
        return np.concatenate(found)[back] if found else None

    cost_s = whole("cost_s")
    assert cost_s is not None  # every contender has costs
    return Judged(
        contender.name,
        contender.is_oracle,
        {price: np.concatenate([choices[price] for *_, choices in parts])[back] for price in prices},
        cost_s,
        whole("scores"),
        whole("p_strong_only"),
        whole("p_correct"),
    )


def transfer(matrix: OutcomeMatrix) -> tuple[Split, ...]:
    """Return the split that judges every row and fits on none of them: for a policy fitted on other tasks."""
    return (Split("all", np.array([], dtype=np.int64), np.arange(len(matrix))),)


def with_repeats(matrix: OutcomeMatrix, rate: float) -> OutcomeMatrix:
    """Return the matrix with costs as they are on average where a share of the solves is of tasks seen before.

    A task is always answered by the same arm, so one that is trained on has its adapter at hand when it comes again.
    """
    if matrix.train_s is None:
        raise OutcomesRefused("train_s", "not recorded", remedy="A cache saves training: give what each arm trained.")
    return replace(matrix, cost_s=matrix.cost_s - rate * np.nan_to_num(matrix.train_s))


def with_shared_training(matrix: OutcomeMatrix) -> OutcomeMatrix:
    """Return the matrix with the training of an adapter spread over the tasks of its group, which share it: what an arm
    costs that is always taken.
    """
    if matrix.train_s is None:
        raise OutcomesRefused(
            "train_s", "not recorded", remedy="What is shared is training: give what each arm trained."
        )
    keys = list(zip(matrix.sets, matrix.groups, matrix.seeds, strict=True))
    sizes = Counter(keys)
    spared = np.array([1 - 1 / sizes[key] for key in keys])
    return replace(matrix, cost_s=matrix.cost_s - spared[:, None] * np.nan_to_num(matrix.train_s))


def regret_rates(
    scores: Floats,
    matrix: OutcomeMatrix,
    choose_threshold: Callable[[Floats, Mask], float],
    *,
    n_splits: int = 1000,
    calibration_share: float = 0.5,
    rng: np.random.Generator,
) -> Floats:
    """Return the realised regret rate of each of many random splits of the groups of tasks, (n_splits,).

    That is, of the tasks answered in context, the share that training would have answered better; 0 where none is.

    Args:
        choose_threshold: from scores and regrets of the calibration tasks to the threshold below which tasks are
            answered in context.
    """
    regretted = matrix.quality[:, matrix.column(STRONG)] > matrix.quality[:, matrix.column(WEAK)]
    tasks = list(map("/".join, zip(matrix.sets, matrix.tasks, strict=True)))
    firsts = np.unique(tasks, return_index=True)[1]  # one row a task
    group = np.unique(list(map("/".join, task_groups(matrix))), return_inverse=True)[1][firsts]
    n = int(group.max()) + 1
    rates = np.empty(n_splits)
    for i in range(n_splits):
        calibrates = rng.permutation(n)[group] < round(calibration_share * n)
        fitted, judged = firsts[calibrates], firsts[~calibrates]
        kept = scores[judged] < choose_threshold(scores[fitted], regretted[fitted])
        rates[i] = regretted[judged][kept].mean() if kept.any() else 0.0
    return rates


def _judged(
    contender: Contender, matrix: OutcomeMatrix, split: Split, prices: Sequence[float], fit_on: OutcomeMatrix | None
) -> tuple[Fitted, dict[float, Floats]]:
    seen = [] if fit_on is None else [_of_other_families(fit_on, matrix, split)]
    seen += [matrix.take(split.fit)] if len(split.fit) else []
    fitted = contender.fit(joined(seen))
    judged = matrix.take(split.judge)
    return fitted, {price: fitted.choose(judged, price) for price in prices}


def _of_other_families(fit_on: OutcomeMatrix, matrix: OutcomeMatrix, split: Split) -> OutcomeMatrix:
    """Return the rows of `fit_on` without the families that the split holds out; all, where it holds out nothing."""
    if not len(split.fit):
        return fit_on
    families = list(zip(matrix.sets, matrix.families, strict=True))
    held = {families[i] for i in split.judge} - {families[i] for i in split.fit}
    theirs = zip(fit_on.sets, fit_on.families, strict=True)
    return fit_on.take(np.array([i for i, family in enumerate(theirs) if family not in held], dtype=np.int64))


def _check(matrix: OutcomeMatrix) -> None:
    for arm in (WEAK, STRONG):
        if arm not in matrix.arms:
            raise OutcomesRefused("arm", f"{arm!r} is not among {', '.join(matrix.arms)}", remedy="Name the two arms.")
    if len(matrix.measured()) < len(matrix):
        remedy = "Replay the rows that `measured()` gives."
        raise OutcomesRefused("quality", "not every arm was measured in every row", remedy=remedy)


def _expected(choices: Floats, values: Floats) -> Floats:
    result: Floats = (choices * values).sum(axis=1)
    return result
