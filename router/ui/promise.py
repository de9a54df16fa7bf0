"""What a policy promised of the arm it took: the expected quality that outcomes are held against."""

from __future__ import annotations

import json

from router.trace import ArmEstimate

_DECODER = json.JSONDecoder()


def quality_in(document: str, arm: str) -> float | None:
    """Read the expected quality of an arm from a trace's JSON without reading the rest of it; None where the policy
    made no estimates.
    """
    try:
        estimates = {name: ArmEstimate.model_validate(each) for name, each in _value(document, "estimates").items()}
    except (ValueError, AttributeError):  # of schema 1, or of a later one: then it is not recorded
        return None
    own = estimates.get(arm)
    return None if own is None else own.p_correct


def _value(document: str, key: str) -> dict[str, object]:
    """Return the object under a key. Inside a string its quotes would be escaped, so the first that is found is it."""
    mark = f'"{key}":'
    found, _ = _DECODER.raw_decode(document, document.index(mark) + len(mark))
    return dict(found)
