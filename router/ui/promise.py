"""What a policy promised of each arm: the quality that outcomes are held against, and what it was to cost."""

from __future__ import annotations

import json

from router.trace import ArmEstimate
from router.traces.prices import ArmValue

_DECODER = json.JSONDecoder()


def values_in(document: str) -> tuple[ArmValue, ...]:
    """Read quality and cost of each arm from a trace's JSON without reading the rest of it; () where the policy made no
    estimates. A cost that is not recorded is NaN.
    """
    try:
        estimates = {name: ArmEstimate.model_validate(each) for name, each in _value(document, "estimates").items()}
    except (ValueError, AttributeError):  # of schema 1, or of a later one: then it is not recorded
        return ()
    return tuple(
        ArmValue(name, each.p_correct, float("nan") if each.cost is None else each.cost)
        for name, each in estimates.items()
        if each.p_correct is not None
    )


def _value(document: str, key: str) -> dict[str, object]:
    """Return the object under a key. Inside a string its quotes would be escaped, so the first that is found is it."""
    mark = f'"{key}":'
    found, _ = _DECODER.raw_decode(document, document.index(mark) + len(mark))
    return dict(found)
