"""Budgets kept exactly, in expectation, on tasks whose outcomes or estimates are at hand.

`allocate` spends a budget where it is worth most, given what each arm is worth and consumes. `meet_budget` finds, for
any policy that can be had at any price, the mixture of two prices that spends exactly the budget on a matrix. What
keeps a budget while tasks come in is in `policies.pacing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Arm, Decision, Policy, drawn, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import BudgetUnreachable
from policies.replay import ReplayPolicy, choices_of
from policies.wishes import Budget, SecondsBudget, ShareBudget

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]

_DEAREST = 2.0**40  # a price at which nothing that costs anything is bought
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Allocation:
    """How a budget is best spent."""

    price: float  # quality per unit consumed at which the budget is spent; 0: it does not bind
    mix: float  # probability of the cheapest of equally good arms at that price; of the dearest 1 - mix
    propensities: Floats  # (n_tasks, n_arms)
    spent: float  # per task, in expectation


def allocate(worth: Floats, consumed: Floats, budget: float) -> Allocation:
    """Return the choice of arms that is worth most within the budget.

    Raising the price from 0 lets one task after the other give up a dearer arm; each gives way where the gain per unit
    consumed, a segment of its concave hull, equals the price. So the price is one of those slopes, and at it the
    cheapest and the dearest of the equally good arms are mixed such that the budget is met exactly.

    Args:
        worth: (n_tasks, n_arms), expected quality; NaN: the arm is not available.
        consumed: (n_tasks, n_arms), of what is budgeted.
        budget: per task on average.

    Raises:
        BudgetUnreachable: even the cheapest arms spend more.

    Source: Dekoninck et al. 2025 (cascade routing), the rule at equal utility; Sinha and Zoltners 1979 for the hull.
    """
    hulls = [_hull(w, c) for w, c in zip(worth, consumed, strict=True)]
    least = float(np.mean([consumed[i, hull[0]] for i, hull in enumerate(hulls)]))
    if least > budget + 1e-12 * max(1.0, abs(budget)):
        raise BudgetUnreachable(f"of {budget:g} a task", least=least)
    steps = [(_slope(worth[i], consumed[i], a, b), i, a, b) for i, hull in enumerate(hulls) for a, b in pairwise(hull)]
    n = len(worth)
    added: dict[float, float] = {}  # slope -> what buying every step of that slope adds, per task
    for slope, i, a, b in steps:
        added[slope] = added.get(slope, 0.0) + float(consumed[i, b] - consumed[i, a]) / n
    price, share, spent = 0.0, 1.0, least
    for slope in sorted(added, reverse=True):
        if spent + added[slope] > budget:
            price, share = slope, max(0.0, (budget - spent) / added[slope])
            spent += share * added[slope]
            break
        spent += added[slope]
    propensities = np.zeros(worth.shape)
    propensities[np.arange(n), [hull[0] for hull in hulls]] = 1.0
    for slope, i, a, b in steps:  # of one task from the cheapest arm on
        moved = float(slope > price) if slope != price else share
        propensities[i, b] += moved * propensities[i, a]
        propensities[i, a] *= 1.0 - moved
    return Allocation(price, 1.0 - share, propensities, spent)


def consumption(matrix: OutcomeMatrix, budget: Budget) -> Floats:
    """Return what each arm of each row takes out of the budget, (n_rows, n_arms); NaN: it was not measured.

    Seconds are those of the features and of the arm after them; the answer of `icl` is among the features.
    """
    if isinstance(budget, ShareBudget):
        return np.tile([float(arm in budget.arms) for arm in matrix.arms], (len(matrix), 1))
    seconds = matrix.feature_cost_s[:, None] + matrix.cost_s
    if Arm.ICL in matrix.arms:
        i = matrix.column(Arm.ICL)
        seconds[:, i] = np.fmax(matrix.feature_cost_s, matrix.cost_s[:, i])
    return seconds


def limit_of(budget: Budget) -> float:
    """Return what may be consumed per task."""
    return budget.seconds if isinstance(budget, SecondsBudget) else budget.share


def spending(policy: Policy | ReplayPolicy, matrix: OutcomeMatrix, budget: Budget) -> float:
    """Return what a policy consumes per row of the matrix, in expectation."""
    return float(np.mean(np.sum(choices_of(policy, matrix) * np.nan_to_num(consumption(matrix, budget)), axis=1)))


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of two policies for each task, by chance."""

    dear: Policy
    cheap: Policy
    mix: float  # probability of the cheap one

    @property
    def name(self) -> str:
        return f"{self.dear.name}_mixture"

    @property
    def version(self) -> str:
        return f"1:dear=({self.dear.version}),cheap=({self.cheap.version}),mix={self.mix}"

    @property
    def goes_by(self) -> tuple[Policy, Policy]:
        """The two, first the likelier one."""
        return (self.cheap, self.dear) if self.mix > 0.5 else (self.dear, self.cheap)

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the mean of both, weighted with how often each decides."""
        dear, cheap = self.dear.propensities(features, arms), self.cheap.propensities(features, arms)
        return tuple((1.0 - self.mix) * d + self.mix * c for d, c in zip(dear, cheap, strict=True))

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        propensities = self.propensities(features, arms)
        favourite = max(zip(propensities, arms, strict=True))[1]
        said = f"{policy_id(self.dear)} with {1.0 - self.mix:.3f}, {policy_id(self.cheap)} with {self.mix:.3f}"
        reason = f"{self.goes_by[0].decide(features, rng, arms).reason} (one of two, to keep the budget: {said})"
        difficulty = 1.0 - p_icl_correct(features)
        return drawn(self, propensities, rng, arms, favourite=str(favourite), reason=reason, difficulty=difficulty)

    def choose(self, matrix: OutcomeMatrix) -> Floats:
        """Return the propensities of every row, (n_rows, n_arms)."""
        return (1.0 - self.mix) * choices_of(self.dear, matrix) + self.mix * choices_of(self.cheap, matrix)


def meet_budget(policy_at: Callable[[float], Policy], matrix: OutcomeMatrix, budget: Budget) -> Policy:
    """Return the policy that spends exactly the budget on the matrix, or the one without a price if that spends less.

    Between the two nearest prices found by bisection, what they spend is mixed; so the budget is met also where
    spending jumps, and with whatever exploration costs.

    Args:
        policy_at: the policy at a price; the higher the price, the less it spends.

    Raises:
        BudgetUnreachable: at any price it spends more.
    """
    limit = limit_of(budget)
    free = policy_at(0.0)
    if spending(free, matrix, budget) <= limit:
        return free
    low, high = 0.0, 1.0
    while spending(policy_at(high), matrix, budget) > limit:
        low, high = high, 4.0 * high
        if high > _DEAREST:
            raise BudgetUnreachable(str(budget), least=spending(policy_at(high), matrix, budget))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if spending(policy_at(middle), matrix, budget) > limit else (low, middle)
        if high - low <= 1e-9 * high:
            break
    dear, cheap = policy_at(low), policy_at(high)
    most, least = spending(dear, matrix, budget), spending(cheap, matrix, budget)
    return cheap if most <= least else Mixture(dear, cheap, (most - limit) / (most - least))


def _hull(worth: Floats, consumed: Floats) -> list[int]:
    """Return the arms of one task that some price makes best, from the cheapest on: the upper concave hull."""
    there = [int(j) for j in np.flatnonzero(~np.isnan(worth))]
    hull: list[int] = []
    for j in sorted(there, key=lambda j: (consumed[j], -worth[j])):
        if hull and worth[j] <= worth[hull[-1]]:
            continue  # no cheaper and no better
        while len(hull) > 1 and _slope(worth, consumed, hull[-2], hull[-1]) <= _slope(worth, consumed, hull[-1], j):
            hull.pop()
        hull.append(j)
    return hull


def _slope(worth: Floats, consumed: Floats, a: int, b: int) -> float:
    return float((worth[b] - worth[a]) / (consumed[b] - consumed[a]))
