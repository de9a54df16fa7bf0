"""What each arm is worth at a price, and at which prices another arm would be the best: by the policy's own estimates.

Utility = expected quality - price * cost, in the policy's own unit of cost. Where a trace does not say what an arm
costs, it is read off the utility at the price that was decided at; where that was 0, seconds are taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from router.trace import DecisionTrace


@dataclass(frozen=True, slots=True)
class ArmValue:
    """One arm as the policy saw it."""

    arm: str
    quality: float  # expected, in [0, 1]
    cost: float  # in the policy's unit: quality that it costs at a price of 1


@dataclass(frozen=True, slots=True)
class Flip:
    """A price beyond which another arm is the best."""

    price: float
    below: str  # the best arm at a price just below
    above: str


def arm_values(decision: DecisionTrace) -> tuple[ArmValue, ...]:
    """Return what is known of each arm, in the order of the decision; () where the policy estimated nothing."""
    return tuple(value for arm in decision.propensities if (value := _value(decision, arm)) is not None)


def utilities_at(values: tuple[ArmValue, ...], price: float) -> dict[str, float]:
    """Return the utility of each arm at a price."""
    return {value.arm: value.quality - price * value.cost for value in values}


def best_at(values: tuple[ArmValue, ...], price: float) -> str | None:
    """Return the best arm at a price, of equals the cheaper; None where nothing is known."""
    best = min(values, key=lambda value: (-(value.quality - price * value.cost), value.cost), default=None)
    return None if best is None else best.arm


def flips(values: tuple[ArmValue, ...]) -> tuple[Flip, ...]:
    """Return every price above 0 at which the best arm changes, ascending.

    The lines of two arms cross at (q1 - q2) / (c1 - c2); the best arm is their upper envelope.
    """
    crossings = {
        (one.quality - other.quality) / (one.cost - other.cost)
        for i, one in enumerate(values)
        for other in values[:i]
        if one.cost != other.cost
    }
    at = [price for price in sorted(crossings) if price > 0 and math.isfinite(price)]
    middles = [(low + high) / 2 for low, high in zip([0.0, *at], [*at, 2 * at[-1] if at else 1.0], strict=True)]
    best = [best_at(values, price) for price in middles]
    return tuple(
        Flip(price, before, after)
        for price, before, after in zip(at, best, best[1:], strict=False)
        if before is not None and after is not None and before != after
    )


def _value(decision: DecisionTrace, arm: str) -> ArmValue | None:
    estimate = decision.estimates.get(arm)
    if estimate is None or estimate.p_correct is None:
        return None
    cost = estimate.predicted_cost_s if estimate.cost is None else estimate.cost
    if estimate.cost is None and decision.price and estimate.utility is not None:
        cost = (estimate.p_correct - estimate.utility) / decision.price
    if cost is None or not math.isfinite(cost) or not math.isfinite(estimate.p_correct):
        return None
    return ArmValue(arm, estimate.p_correct, cost)
