"""What would have been decided at another price: utilities are straight lines in it, so the trace says it all."""

from __future__ import annotations

from dataclasses import dataclass

from router.trace import DecisionTrace
from router.ui.charts import Line
from router.ui.regret import expected_quality


@dataclass(frozen=True, slots=True)
class ArmAt:
    """One arm at one price."""

    arm: str
    utility: float
    best: bool
    taken: bool


def lines(decision: DecisionTrace) -> tuple[Line, ...]:
    """Return utility as a line in the price for each arm whose estimates are recorded; else nothing."""
    found = []
    for arm, estimate in decision.estimates.items():
        quality, cost = expected_quality(decision.estimates, arm), _cost(decision, arm)
        if quality is not None and cost is not None and estimate.utility is not None:
            found.append(Line(arm, estimate.utility + (decision.price or 0.0) * cost, cost, arm == decision.arm))
    return tuple(found)


def at_price(given: tuple[Line, ...], price: float) -> tuple[ArmAt, ...]:
    """Return the arms at a price, the best first; of equal ones the cheapest."""
    ordered = sorted(given, key=lambda line: (-(line.value - price * line.slope), line.slope, line.name))
    return tuple(ArmAt(line.name, line.value - price * line.slope, line is ordered[0], line.chosen) for line in ordered)


def _cost(decision: DecisionTrace, arm: str) -> float | None:
    """Return what the price multiplies: read off the utility where there was a price, else predicted seconds in units
    of a training.
    """
    estimate, quality = decision.estimates[arm], expected_quality(decision.estimates, arm)
    if decision.price and quality is not None and estimate.utility is not None:
        return (quality - estimate.utility) / decision.price
    training = decision.estimates.get("ttt")
    if estimate.predicted_cost_s is None or training is None or not training.predicted_cost_s:
        return None
    return estimate.predicted_cost_s / training.predicted_cost_s
