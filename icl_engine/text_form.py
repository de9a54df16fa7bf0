"""Tasks as text, for every model but the embedded one: how a value is written, and read back from an answer."""

from __future__ import annotations

from icl_engine.errors import TaskRefused
from icl_engine.task import Task, Value
from icl_engine.values import checked_value


def text_form(value: Value) -> str:
    """Write a value as text: a grid as rows of digits parted by spaces, a text as it is."""
    return value if isinstance(value, str) else "\n".join(" ".join(map(str, row)) for row in value)


def value_of(task: Task, text: str) -> Value | None:
    """Read a grid (rows of digits) or a text; None where it is none of the task's kind."""
    text = text.strip()
    if task.kind == "text":
        return text or None
    try:
        return checked_value(
            [[int(cell) for cell in row.replace(" ", "")] for row in text.split("\n") if row.strip()], "answer"
        )
    except (TaskRefused, ValueError):
        return None
