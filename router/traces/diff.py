"""Where two traces differ, field by field. What differs of itself (ids, times) is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator

from router.trace import Trace
from router.traces.replay import Difference

_OF_ITSELF = ("trace_id", "created_at")
ABSENT = "(absent)"


def diff(one: Trace, other: Trace) -> tuple[Difference, ...]:
    """Return every field in which the second trace is not as the first, in the order of the first."""
    first, second = dict(_flat(json.loads(one.model_dump_json()))), dict(_flat(json.loads(other.model_dump_json())))
    names = dict.fromkeys((*first, *second))
    return tuple(
        Difference(name, first.get(name, ABSENT), second.get(name, ABSENT))
        for name in names
        if name not in _OF_ITSELF and first.get(name) != second.get(name)
    )


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif (
        isinstance(value, list)
        and value
        and any(isinstance(inner, dict | list) for inner in value)
        and not _grid(value)
    ):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{name}[{i}]")
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _grid(value: list[object]) -> bool:
    """Say whether it is rows of numbers: those are one value."""
    return all(isinstance(row, list) and all(isinstance(cell, int) for cell in row) for row in value)
