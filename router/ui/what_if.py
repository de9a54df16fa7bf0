"""What would have been decided at another price: utilities are straight lines in it, so the trace says it all."""

from __future__ import annotations

from dataclasses import dataclass

from router.trace import DecisionTrace
from router.traces.prices import arm_values, best_at, utilities_at
from router.ui.charts import Line


@dataclass(frozen=True, slots=True)
class ArmAt:
    """One arm at one price."""

    arm: str
    utility: float
    best: bool
    taken: bool


def lines(decision: DecisionTrace) -> tuple[Line, ...]:
    """Return utility as a line in the price for each arm whose estimates are recorded; else nothing."""
    return tuple(
        Line(value.arm, value.quality, value.cost, value.arm == decision.arm) for value in arm_values(decision)
    )


def at_price(decision: DecisionTrace, price: float) -> tuple[ArmAt, ...]:
    """Return the arms at a price, the best first."""
    values = arm_values(decision)
    best = best_at(values, price)
    arms = (ArmAt(arm, at, arm == best, arm == decision.arm) for arm, at in utilities_at(values, price).items())
    return tuple(sorted(arms, key=lambda each: (not each.best, -each.utility)))
