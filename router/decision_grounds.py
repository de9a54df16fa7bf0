"""The grounds of a decision as a trace keeps them, from whatever policy can give them; a rule gives none.

What is asked of a policy is two methods, `weigh` and `contributions`, and no class of it: users may bring their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from policies.abilities import wish_of
from policies.decision import goes_by
from policies.feature_values import FeatureValues
from policies.gain_model import Contribution
from router.trace import ArmEstimate, ContributionTrace, DecisionGrounds, NearestTask

SUNK = "icl"
_KEPT = 12  # contributions, the largest


class WeighedSignals(Protocol):
    """What speaks for one arm."""

    @property
    def arm(self) -> str: ...

    @property
    def gain(self) -> float | None: ...

    @property
    def gain_std(self) -> float | None: ...

    @property
    def cost(self) -> float: ...

    @property
    def utility(self) -> float | None: ...


class WeighingSignals(Protocol):
    """How the arms compare on one task."""

    @property
    def arms(self) -> Sequence[WeighedSignals]: ...

    @property
    def favourite(self) -> str: ...

    @property
    def rival(self) -> str | None: ...

    @property
    def p_icl(self) -> float: ...

    @property
    def price(self) -> float: ...

    @property
    def flip_price(self) -> float | None: ...


@runtime_checkable
class WeighingPolicy(Protocol):
    """A policy that can say what it weighed."""

    def weigh(self, features: FeatureValues, arms: Sequence[str]) -> WeighingSignals:
        """Compare `arms` on one task."""
        ...

    def contributions(self, features: FeatureValues, arm: str) -> tuple[Contribution, ...]:
        """Return what each feature adds to the expected gain of `arm`, the largest first."""
        ...


class PastTaskSignals(Protocol):
    """A task that was learned from."""

    @property
    def task(self) -> str: ...

    @property
    def distance(self) -> float: ...

    @property
    def quality(self) -> Sequence[tuple[str, float | None]]: ...


@runtime_checkable
class RemembersTasks(Protocol):
    """A policy that can say what it has learned from."""

    @property
    def stage(self) -> str: ...

    def nearest(self, features: FeatureValues) -> Sequence[PastTaskSignals]: ...

    def percentiles(self, features: FeatureValues) -> dict[str, float]: ...


def who_weighs(policy: object) -> object:
    """Return the policy behind those that go by what another weighs; None where several do."""
    while others := goes_by(policy):
        policy = others[0] if len(others) == 1 else None
    return policy


def grounds_of(policy: object, features: FeatureValues, arms: Sequence[str]) -> DecisionGrounds:
    """Return the grounds on which `policy` decides between `arms`; empty where it cannot say."""
    wish = wish_of(policy)
    policy = who_weighs(policy)
    if not isinstance(policy, WeighingPolicy):
        return DecisionGrounds(wish=wish)
    remembering = _remembering(policy)
    weighing = policy.weigh(features, arms)
    costs = dict(features.predicted_cost_s)
    estimates = {
        each.arm: ArmEstimate(
            p_correct=None if each.gain is None else weighing.p_icl + each.gain,  # not clipped: utility rests on it
            gain=each.gain,
            gain_std=each.gain_std,
            predicted_cost_s=costs.get(each.arm),
            cost=each.cost,
            utility=each.utility,
        )
        for each in weighing.arms
    }
    arm = weighing.rival if weighing.favourite == SUNK else weighing.favourite
    known = arm is not None and arm != SUNK and estimates[arm].gain is not None
    contributions = policy.contributions(features, arm)[:_KEPT] if known and arm is not None else ()
    return DecisionGrounds(
        wish=wish,
        estimates=estimates,
        contributions=tuple(
            ContributionTrace(feature=each.feature, value=each.value, typical=each.typical, gain=each.gain)
            for each in contributions
        ),
        contributions_arm=arm if contributions else None,
        price=weighing.price,
        flip_price=weighing.flip_price,
        nearest=() if remembering is None else tuple(map(_nearest, remembering.nearest(features))),
        percentiles={} if remembering is None else remembering.percentiles(features),
        stage=None if remembering is None else remembering.stage,
    )


def _remembering(policy: object) -> RemembersTasks | None:
    return policy if isinstance(policy, RemembersTasks) else None


def _nearest(past: PastTaskSignals) -> NearestTask:
    known = {arm: quality for arm, quality in past.quality if quality is not None}
    best = max(known, key=lambda arm: (known[arm], arm == SUNK), default=SUNK)
    gain = known[best] - known.get(SUNK, 0.0) if best in known else 0.0
    return NearestTask(task_id=past.task, distance=past.distance, best_arm=best, gain=gain)
