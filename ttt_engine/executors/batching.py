"""Which tasks are solved together: those of like length, so that little is padded, and the longest first, so that the
last batch to end is a short one. Hangs on the tasks alone, not on who solves them: the same batches everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from icl_engine.task import Task, Value


def batches_of(tasks: Sequence[Task], adapters_together: int) -> list[list[int]]:
    """Return the places of the tasks of each batch, the batch of the longest tasks first, places in rising order.

    Tasks with the same demonstrations, and so one adapter, are in one batch.

    Args:
        adapters_together: at most, in one batch.
    """
    sharing: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        sharing.setdefault(task.demonstrations_fingerprint, []).append(i)
    longest_first = sorted(sharing.values(), key=lambda places: -length_of(tasks[places[0]]))  # equals stay in order
    chunks = [longest_first[i : i + adapters_together] for i in range(0, len(longest_first), adapters_together)]
    return [sorted(i for places in chunk for i in places) for chunk in chunks]


def length_of(task: Task) -> int:
    """Return the cells or characters of the demonstrations: what training reads over and over."""
    return sum(_size(value) for each in task.demonstrations for value in (each.input, each.output))


def _size(value: Value) -> int:
    return len(value) if isinstance(value, str) else sum(map(len, value))
