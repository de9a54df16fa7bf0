"""Regret of one decision: utility of the best arm less that of the arm taken, as the policy estimated them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from router.trace import ArmEstimate

_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Promise:
    """What the policy expected when it decided."""

    quality: float | None  # of the arm taken
    utility: float  # of the arm taken
    best_other: float  # utility of the best arm beside it

    @property
    def regret(self) -> float:
        """At least 0: an exploration has some, the arm of the highest utility has none."""
        return max(0.0, self.best_other - self.utility)


def promise_in(document: str, arm: str) -> Promise | None:
    """Read the promise from a trace's JSON without reading the rest of it; None where the policy made no estimates."""
    try:
        estimates = {name: ArmEstimate.model_validate(each) for name, each in _value(document, "estimates").items()}
    except (ValueError, AttributeError):  # of schema 1, or of a later one: then it is not recorded
        return None
    return promise_of(estimates, arm)


def promise_of(estimates: dict[str, ArmEstimate], arm: str) -> Promise | None:
    """Return the promise that estimates make; None where the arm taken has no utility, or no other arm has."""
    utilities = {name: each.utility for name, each in estimates.items() if each.utility is not None}
    own = utilities.pop(arm, None)
    if own is None or not utilities:
        return None
    return Promise(expected_quality(estimates, arm), own, max(utilities.values()))


def expected_quality(estimates: dict[str, ArmEstimate], arm: str) -> float | None:
    """Return what utility rests on: the quality of `icl` plus the gain over it, else the arm's own estimate."""
    icl, own = estimates.get("icl"), estimates.get(arm)
    if own is None:
        return None
    if icl is not None and icl.p_correct is not None and own.gain is not None:
        return icl.p_correct + own.gain
    return own.p_correct


def _value(document: str, key: str) -> dict[str, object]:
    """Return the object under a key. Inside a string its quotes would be escaped, so the first that is found is it."""
    mark = f'"{key}":'
    start = document.index(mark) + len(mark)
    found, _ = _DECODER.raw_decode(document, start)
    return dict(found)
