"""A budget kept while tasks come in: the price of time rises with what has been overspent and falls with what is left.

The price is the multiplier of the budget, moved by each task's consumption (dual ascent). So what is overspent after
any number of tasks is at most the rise of the price over the step, whichever tasks come and in whatever order. Where
that is not enough, because no price makes a policy cheap enough, the budgeted arms are taken away until it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from policies.abilities import escalates
from policies.decision import TRAINING, Arm, Decision, Policy, policy_id
from policies.errors import PolicySettingRefused
from policies.wishes import Budget, SecondsBudget, ShareBudget

if TYPE_CHECKING:
    import numpy as np

    from policies.feature_values import FeatureValues

FREE_ARMS = ("icl",)  # has run before any decision


class BudgetPacer:
    """The price that keeps a budget, one task after the other. Safe between threads.

    Args:
        price: to begin with; what `meet_budget` found on old tasks is a good one.
        step: how much the price moves for one task's budget overspent; smaller is smoother and slower.
        reserve: tasks' budgets that may be overspent before budgeted arms are taken away, and saved up for later.

    Source: Balseiro, Lu and Mirrokni 2023 (dual mirror descent for online allocation).
    """

    def __init__(self, budget: Budget, *, price: float = 0.0, step: float = 0.02, reserve: float = 8.0) -> None:
        for field, value in (("step", step), ("reserve", reserve)):
            if not value > 0.0:
                raise PolicySettingRefused(field, f"got {value}", remedy="Give a number above 0.")
        self.budget = budget
        self._price = price
        self._step = step
        self._reserve = reserve
        self._overspent = 0.0  # in tasks' budgets; below 0: saved
        self._lock = Lock()

    @property
    def price(self) -> float:
        return self._price

    @property
    def exhausted(self) -> bool:
        """Whether the reserve is used up, so that the next task may only have what the budget does not count."""
        return self._overspent >= self._reserve

    @property
    def state(self) -> tuple[float, bool]:
        """Price and `exhausted`, both of one moment."""
        with self._lock:
            return self._price, self.exhausted

    def spent(self, arm: str, seconds: float) -> None:
        """Count one task: the arm that answered, and all the seconds it took."""
        if isinstance(self.budget, SecondsBudget):
            relative = seconds / self.budget.seconds - 1.0
        else:
            relative = float(arm in self.budget.arms) / self.budget.share - 1.0
        with self._lock:
            self._price = max(0.0, self._price + self._step * relative)
            self._overspent = max(-self._reserve, self._overspent + relative)


def arm_charged(drawn: str, answered_by: str | None) -> str:
    """Return the arm that a solve counts as: a trained answer cost its training, whichever arm was drawn, and what was
    drawn was begun, whatever came of it.
    """
    return answered_by if answered_by in TRAINING else drawn


@dataclass(frozen=True, slots=True)
class WithinBudget:
    """A policy at the price that keeps a budget for the moment; while the budget is used up, without what it counts."""

    policy: Policy  # at the price
    price: float
    budget: Budget
    exhausted: bool = False
    free_arms: tuple[str, ...] = FREE_ARMS  # left where seconds are used up; of a share, what it does not count

    @property
    def name(self) -> str:
        return f"{self.policy.name}_paced"

    @property
    def version(self) -> str:
        used_up = f",only={'+'.join(self.free_arms)}" if self.exhausted else ""
        return f"{self.policy.version},budget=({self.budget}),at={self.price}{used_up}"

    @property
    def goes_by(self) -> tuple[Policy]:
        """The policy that weighs the arms."""
        return (self.policy,)

    @property
    def wish(self) -> str:
        """What is asked for."""
        return str(self.budget)

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return those of the policy at the price; 0 for budgeted arms while the budget is used up."""
        allowed = self._allowed(arms)
        by_arm = dict(zip(allowed, self.policy.propensities(features, allowed), strict=True))
        return tuple(by_arm.get(arm, 0.0) for arm in arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        allowed = self._allowed(arms)
        decision = self.policy.decide(features, rng, allowed)
        by_arm = dict(decision.propensities)
        left = "" if len(allowed) == len(arms) else f" (used up: only {', '.join(allowed)})"
        return replace(
            decision,
            propensities=tuple((str(arm), by_arm.get(arm, 0.0)) for arm in arms),
            reason=f"{decision.reason}; price {self.price:.3g} keeps {self.budget}{left}",
            policy=policy_id(self),
        )

    def escalates(self, features: FeatureValues, arm: str, confidence: float) -> bool:
        """Ask the policy, unless the budget has no training left; see `Escalates`."""
        trains = Arm.TTT in self._allowed((Arm.ICL, Arm.TTT))
        return trains and escalates(self.policy, features, arm, confidence)

    def _allowed(self, arms: Sequence[str]) -> tuple[str, ...]:
        """Return the arms that may be taken now: all of them where nothing else would be left."""
        if not self.exhausted:
            return tuple(arms)
        counted = self.budget.arms if isinstance(self.budget, ShareBudget) else None
        free = [arm in self.free_arms if counted is None else arm not in counted for arm in arms]
        return tuple(arm for arm, is_free in zip(arms, free, strict=True) if is_free) or tuple(arms)


class PacedPolicy:
    """A policy whose price follows a budget; it has to be told of every task (`spent`).

    Args:
        policy_at: the policy at a price; the higher the price, the less it spends.
    """

    def __init__(self, policy_at: Callable[[float], Policy], pacer: BudgetPacer) -> None:
        self.pacer = pacer
        self._policy_at = policy_at

    def now(self) -> WithinBudget:
        """Return the policy at the current price."""
        price, exhausted = self.pacer.state
        return WithinBudget(self._policy_at(price), price, self.pacer.budget, exhausted)

    @property
    def name(self) -> str:
        return self.now().name

    @property
    def version(self) -> str:
        return self.now().version

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return those of the policy at the current price; 0 for budgeted arms while the budget is used up."""
        return self.now().propensities(features, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        return self.now().decide(features, rng, arms)

    def spent(self, arm: str, seconds: float) -> None:
        """Count one task; see `BudgetPacer.spent`."""
        self.pacer.spent(arm, seconds)
