"""What is compared: each contender is a way to make a policy from outcomes. None sees an outcome of what it is judged
on, but for the oracles, which say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from policies.decision import Arm
from policies.outcome_matrix import OutcomeMatrix

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

WEAK, STRONG = str(Arm.ICL), str(Arm.TTT)

Costs = Callable[[OutcomeMatrix], "Floats"]  # (n_rows, n_arms), seconds of each arm and of what is looked at first


class ReplayPolicy(Protocol):
    """A policy that decides every row of a matrix at once."""

    def choose(self, matrix: OutcomeMatrix) -> Floats:
        """Return the probability of each arm in each row, (n_rows, n_arms)."""
        ...


def unlooked(matrix: OutcomeMatrix) -> Floats:
    """Return what the arms cost whoever looks at no feature that has a price."""
    return matrix.cost_s


def probed(matrix: OutcomeMatrix) -> Floats:
    """Return what the arms cost whoever has looked at all that the probe tells."""
    return matrix.routed_cost_s


def after_the_prompt(matrix: OutcomeMatrix) -> Floats:
    """Return what the arms cost whoever looks at the answer in context alone, with no held-out demonstration."""
    weak = matrix.cost_s[:, [matrix.column(WEAK)]]
    costs: Floats = np.where(np.array(matrix.arms) == WEAK, matrix.cost_s, matrix.cost_s + weak)
    return costs


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a fit; each function is given the rows it is judged on."""

    choose: Callable[[OutcomeMatrix, float], Floats]  # at a price: probability of each arm, (n_rows, n_arms)
    scores: Callable[[OutcomeMatrix], Floats] | None = None  # (n_rows,), the higher, the sooner to `ttt`
    p_strong_only: Callable[[OutcomeMatrix], Floats] | None = None  # (n_rows,), chance that only `ttt` is right
    p_correct: Callable[[OutcomeMatrix], Floats] | None = None  # (n_rows, n_arms)
    cost_s: Costs = probed


@dataclass(frozen=True, slots=True)
class Contender:
    """A name and how to fit what it stands for."""

    name: str
    fit: Callable[[OutcomeMatrix], Fitted]
    is_oracle: bool = False  # sees the outcomes it is judged on
    learns: bool = True  # from what it is fitted on


def always(arm: str) -> Contender:
    """Return the contender that always takes one arm, and so need not pay for features."""

    def choose(matrix: OutcomeMatrix, price: float) -> Floats:
        return np.tile(np.array(matrix.arms) == arm, (len(matrix), 1)).astype(np.float64)

    return Contender(f"always {arm}", lambda _: Fitted(choose, cost_s=unlooked))


def by_score(
    name: str,
    scores: Callable[[OutcomeMatrix], Floats],
    *,
    weak: str = WEAK,
    cost_s: Costs = probed,
) -> Contender:
    """Return the contender that trains where a score is above a threshold, chosen at each price where it is fitted.

    Args:
        weak: the arm that answers below it.
    """

    def fit(seen: OutcomeMatrix) -> Fitted:
        known = scores(seen)

        def choose(matrix: OutcomeMatrix, price: float) -> Floats:
            above = scores(matrix) > best_threshold(known, _utility_gain(seen, cost_s(seen), weak, price))
            arms = np.array(matrix.arms)
            chosen: Floats = np.where(above[:, None], arms == STRONG, arms == weak).astype(np.float64)
            return chosen

        return Fitted(choose, scores, cost_s=cost_s)

    return Contender(name, fit)


def by_feature(name: str, feature: str, sign: float, cost_s: Costs = probed) -> Contender:
    """Return the contender of one feature: `sign` 1 where more of it speaks for training, -1 where less does."""

    def scores(matrix: OutcomeMatrix) -> Floats:
        known: Floats = np.nan_to_num(sign * matrix.feature(feature), nan=-np.finfo(np.float64).max)
        return known

    return by_score(name, scores, cost_s=cost_s)


def vote_cascade() -> Contender:
    """Return the plain cascade: vote, and train where the views disagree. Every task pays for the vote and looks at
    nothing else; so does one that is answered by `icl`, as at one end of a ranking.
    """

    def scores(matrix: OutcomeMatrix) -> Floats:
        known: Floats = np.nan_to_num(-matrix.feature("vote_agreement"), nan=-1.0)
        return known

    def cost_s(matrix: OutcomeMatrix) -> Floats:
        costs, vote = matrix.cost_s.copy(), matrix.column(Arm.ICL_VOTE)
        costs[:, matrix.column(WEAK)] = costs[:, vote]
        costs[:, matrix.column(STRONG)] += costs[:, vote]
        return costs

    return by_score("vote cascade", scores, weak=str(Arm.ICL_VOTE), cost_s=cost_s)


def of_policy(
    name: str,
    make: Callable[[OutcomeMatrix, float], ReplayPolicy],
    *,
    scores: Callable[[OutcomeMatrix], Callable[[OutcomeMatrix], Floats]] | None = None,
    is_oracle: bool = False,
) -> Contender:
    """Return the contender of a policy that `make` makes from outcomes, at a price.

    Args:
        scores: makes from outcomes what ranks rows.
    """

    def fit(seen: OutcomeMatrix) -> Fitted:
        def choose(matrix: OutcomeMatrix, price: float) -> Floats:
            return make(seen, price).choose(matrix)

        return Fitted(choose, None if scores is None else scores(seen))

    return Contender(name, fit, is_oracle)


def family_oracle() -> Contender:
    """Return the oracle that knows the best arm of each family, measured on the very rows it is judged on."""

    def choose(matrix: OutcomeMatrix, price: float) -> Floats:
        utility = utilities(matrix, matrix.cost_s, price)
        groups = np.unique(list(map("/".join, zip(matrix.sets, matrix.families, strict=True))), return_inverse=True)[1]
        sums = np.zeros((int(groups.max()) + 1, len(matrix.arms)))
        np.add.at(sums, groups, utility)
        best: Floats = np.eye(len(matrix.arms))[sums.argmax(axis=1)[groups]]
        return best

    return Contender("family oracle", lambda _: Fitted(choose, cost_s=unlooked), is_oracle=True)


def task_oracle() -> Contender:
    """Return the oracle that knows the best arm of every row."""

    def choose(matrix: OutcomeMatrix, price: float) -> Floats:
        best: Floats = np.eye(len(matrix.arms))[utilities(matrix, matrix.cost_s, price).argmax(axis=1)]
        return best

    return Contender("task oracle", lambda _: Fitted(choose, _true_gain, cost_s=unlooked), is_oracle=True)


def utilities(matrix: OutcomeMatrix, cost_s: Floats, price: float) -> Floats:
    """Return quality minus price * cost, (n_rows, n_arms); NaN where it was not measured."""
    utility: Floats = matrix.quality - price * cost_s / unit_of(matrix)
    return utility


def unit_of(matrix: OutcomeMatrix) -> float:
    """Return the unit of cost: the mean seconds of always training."""
    return float(np.nanmean(matrix.cost_s[:, matrix.column(STRONG)]))


def best_threshold(scores: Floats, gain: Floats) -> float:
    """Return the threshold above which the gains add up to most; equal scores are never parted."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    totals = np.concatenate([[0.0], np.nancumsum(gain[order])[ends]])
    place = int(totals.argmax())  # how many distinct scores lie above the threshold
    distinct = scores[order][ends]
    if place == len(distinct):
        return -np.inf
    return float(distinct[place])  # the highest of those that stay below


def _utility_gain(matrix: OutcomeMatrix, cost_s: Floats, weak: str, price: float) -> Floats:
    utility = utilities(matrix, cost_s, price)
    gain: Floats = utility[:, matrix.column(STRONG)] - utility[:, matrix.column(weak)]
    return gain


def _true_gain(matrix: OutcomeMatrix) -> Floats:
    gain: Floats = matrix.quality[:, matrix.column(STRONG)] - matrix.quality[:, matrix.column(WEAK)]
    return gain


def standard_contenders(matrix: OutcomeMatrix) -> tuple[Contender, ...]:
    """Return those that need nothing but outcomes and features that the matrix has."""
    names = set(matrix.feature_names)
    found = [always(arm) for arm in matrix.arms]
    singles = (
        ("leave-one-out threshold", "loo_exact_share", -1.0, probed),
        ("leave-one-out likelihood", "loo_nll_mean", 1.0, probed),
        ("entropy threshold", "answer_entropy", 1.0, after_the_prompt),
        ("confidence threshold", "answer_confidence", -1.0, after_the_prompt),
        ("size of the task", "prompt_tokens", 1.0, unlooked),
    )
    found += [by_feature(name, feature, sign, cost_s) for name, feature, sign, cost_s in singles if feature in names]
    if "vote_agreement" in names and Arm.ICL_VOTE in matrix.arms:
        found.append(vote_cascade())
    return (*found, family_oracle(), task_oracle())
