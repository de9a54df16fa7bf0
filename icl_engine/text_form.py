"""Tasks as text, for every model but the embedded one: how a value is written, and read back from an answer."""

from __future__ import annotations

import json
import re
from typing import Literal, get_args

from icl_engine.errors import TaskRefused
from icl_engine.task import Grid, Task, Value
from icl_engine.values import checked_value

# spaced: rows of digits parted by spaces; packed: rows of digits; list: "[[1, 2], [3, 4]]"; words: names of colours
GridForm = Literal["spaced", "packed", "list", "words"]
GRID_FORMS: tuple[GridForm, ...] = get_args(GridForm)

_COLOURS = ("black", "blue", "red", "green", "yellow", "grey", "pink", "orange", "teal", "maroon")
_PIECES = {  # what a token of an answer may be, the end apart
    "spaced": re.compile(r"[0-9 \n]+"),
    "packed": re.compile(r"[0-9 \n]+"),
    "list": re.compile(r"[0-9\[\], \n]+"),
    "words": re.compile(r"[a-z \n]+"),
}


def text_form(value: Value, grid_form: GridForm = "spaced") -> str:
    """Write a value as text: a grid in one of four forms, a text as it is.

    Source: Akyürek et al. 2024 (arXiv 2411.07279), whose code has them among others: delimited, Python's lists, words.
    """
    return value if isinstance(value, str) else _written(value, grid_form)


def value_of(task: Task, text: str, grid_form: GridForm = "spaced") -> Value | None:
    """Read a grid in a form, or a text; None where it is none of the task's kind."""
    text = text.strip()
    if task.kind == "text":
        return text or None
    try:
        return checked_value(_read(text, grid_form), "answer")
    except (TaskRefused, ValueError, RecursionError):
        return None


def is_grid_piece(piece: str, grid_form: GridForm) -> bool:
    """Say whether a piece of text may be part of a grid that is written in a form."""
    return _PIECES[grid_form].fullmatch(piece) is not None


def _written(grid: Grid, form: GridForm) -> str:
    if form == "list":
        return json.dumps(grid)
    names = _COLOURS if form == "words" else "0123456789"
    between = "" if form == "packed" else " "
    return "\n".join(between.join(names[cell] for cell in row) for row in grid)


def _read(text: str, form: GridForm) -> object:
    """Return what may be a grid.

    Raises:
        ValueError: it cannot be one.
    """
    if form == "list":
        return json.loads(text)
    rows = [row for row in text.split("\n") if row.strip()]
    if form == "words":
        return [[_COLOURS.index(name) for name in row.split()] for row in rows]
    return [[int(cell) for cell in row.replace(" ", "")] for row in rows]
