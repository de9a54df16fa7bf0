"""What a task is made of: grids and texts, the limits on their size, and the checks on untrusted ones.

Size is looked at before content, and content before anything is copied; what is wrong is a `TaskRefused` that names the
field. Knows nothing of tasks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NoReturn

from icl_engine.errors import TaskRefused, TaskTooLarge

Grid = tuple[tuple[int, ...], ...]  # rows of cells 0-9
Value = Grid | str
Kind = Literal["grid", "text"]

_CELLS = frozenset(range(10))
_GRID_REMEDY = "Give a grid as a list of rows, or a single row, of whole numbers 0-9."


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a task may be; checked on size before anything is copied, converted or tokenised."""

    max_demonstrations: int = 64
    max_queries: int = 1000
    side: int = 30  # rows and columns of a grid
    line: int = 100  # cells of a grid of one row or one column; the rows of 1D-ARC reach 93
    max_cells: int = 900  # cells of one grid
    max_text_chars: int = 20_000  # one text value, or the instruction
    max_id_chars: int = 200
    max_task_chars: int = 200_000  # all values of a task together; a cell counts as one character
    max_task_json_chars: int = 4_000_000  # one task as JSON text, white space included
    max_file_bytes: int = 50_000_000  # one file of tasks, or one folder

    def hold(self, n_rows: int, n_columns: int) -> bool:
        """Say whether a grid may have this many rows and columns."""
        longest = self.line if n_rows == 1 or n_columns == 1 else self.side
        return max(n_rows, n_columns) <= longest and n_rows * n_columns <= self.max_cells


DEFAULT_LIMITS = Limits()


def checked_value(raw: object, field: str, limits: Limits = DEFAULT_LIMITS) -> Value:
    """Return an untrusted value as a grid or a text; a 1-D list becomes a grid of one row.

    Raises:
        TaskRefused: it is neither; `field` is what the error calls it.
        TaskTooLarge: it is beyond `limits`.
    """
    if isinstance(raw, str):
        return checked_text(raw, field, limits.max_text_chars)
    if isinstance(raw, list | tuple):
        return _checked_grid(raw, field, limits)
    refuse(f"got {described(raw)}", field, f"{_GRID_REMEDY} Or give a text.")


def checked_text(raw: object, field: str, max_chars: int) -> str:
    """Return an untrusted text.

    Raises:
        TaskRefused: it is no string, is empty, or holds half of a surrogate pair.
        TaskTooLarge: it is longer than `max_chars`.
    """
    if not isinstance(raw, str):
        refuse(f"got {described(raw)}", field, "Give a text.")
    if len(raw) > max_chars:
        raise too_large(field, f"{len(raw)} characters", max_chars, "characters")
    if not raw:
        refuse("got an empty text", field, "Give at least one character.")
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:
        got = f"character {error.start} is half of a surrogate pair ({raw[error.start]!a})"
        raise TaskRefused(got, field=field, remedy="Give valid Unicode, such as decoded UTF-8.") from None
    return str(raw)


def decoded_json(text: str | bytes, field: str, max_chars: int) -> object:
    """Return what untrusted JSON text holds; a byte order mark is let pass.

    Raises:
        TaskTooLarge: the text is longer than `max_chars` (bytes, where it is bytes).
        TaskRefused: it is no UTF-8, no JSON, nested too deeply, or holds a number no task can hold.
    """
    if len(text) > max_chars:
        raise too_large(field, f"JSON text of {len(text)} characters", max_chars, "characters")
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        got, remedy = f"byte {error.start} is not UTF-8", "Save the text as UTF-8."
    except json.JSONDecodeError as error:
        found = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        got, remedy = found if error.doc.strip() else "nothing", "Give valid JSON."
    except RecursionError:
        got, remedy = "JSON nested too deeply", "A task nests lists and objects at most six deep."
    except ValueError:  # Python will not read an integer of more than 4,300 digits
        got, remedy = "a number with thousands of digits", _GRID_REMEDY
    raise TaskRefused(got, field=field, remedy=remedy)


def value_kind(value: Value) -> Kind:
    return "text" if isinstance(value, str) else "grid"


def n_chars_of(raw: object) -> int:
    """Return the characters, or the cells by the first row, of a value checked or not: no content is looked at."""
    if isinstance(raw, str):
        return len(raw)
    if not isinstance(raw, list | tuple) or not raw:
        return 0
    return len(raw) * (len(raw[0]) if isinstance(raw[0], list | tuple) else 1)


def described(raw: object) -> str:
    """Name what was got without printing what may be ten megabytes long or an integer of a million digits."""
    if raw is None:
        return "null"
    if isinstance(raw, bool | float) or (isinstance(raw, int) and -(10**9) < raw < 10**9):
        return f"{raw} ({type(raw).__name__})"
    if isinstance(raw, int):
        return "an integer of ten or more digits"
    if isinstance(raw, str):
        return f"the text {raw[:20]!a}" + (f" ... ({len(raw)} characters)" if len(raw) > 20 else "")
    if isinstance(raw, list | tuple):
        return f"a list of {len(raw)}"
    if isinstance(raw, dict):
        return "an object"
    return f"an object of type {type(raw).__name__[:60]}"


def too_large(field: str, got: str, at_most: int, unit: str) -> TaskTooLarge:
    return TaskTooLarge(
        f"got {got}", field=field, remedy=f"At most {at_most} {unit} are accepted; the limit is a setting."
    )


def refuse(message: str, field: str, remedy: str) -> NoReturn:
    raise TaskRefused(message, field=field, remedy=remedy)


def _checked_grid(raw: Sequence[object], field: str, limits: Limits) -> Grid:
    if not raw:
        refuse("got an empty list", field, _GRID_REMEDY)
    is_row = not isinstance(raw[0], list | tuple)
    rows: Sequence[Any] = (raw,) if is_row else raw
    n_columns = len(rows[0])
    if not limits.hold(len(rows), n_columns):
        bounds = f"{limits.side} x {limits.side}, {limits.line} for a single row or column, {limits.max_cells} cells"
        raise TaskTooLarge(f"got {len(rows)} x {n_columns}", field=field, remedy=f"A grid is at most {bounds}.")
    # Sets of all cells at once instead of a loop over them: a task at its limit has 200,000.
    if all(isinstance(row, list | tuple) and len(row) == n_columns for row in rows):
        cells = list(chain.from_iterable(rows))
        if set(map(type, cells)) == {int} and set(cells) <= _CELLS:  # a bool would equal 0 or 1; it is no colour
            return tuple(map(tuple, rows))
    for i, row in enumerate(rows):
        _check_row(row, n_columns, field if is_row else f"{field}[{i}]", i)
    raise AssertionError("a grid without fault was taken for a faulty one")


def _check_row(row: object, n_columns: int, field: str, i: int) -> None:
    if not isinstance(row, list | tuple):
        refuse(f"got {described(row)} among rows", field, _GRID_REMEDY)
    if not row:
        refuse("got an empty row", field, _GRID_REMEDY)
    if len(row) != n_columns:
        refuse(f"row {i} has {len(row)} cells, the first has {n_columns}", field, "Give all rows the same length.")
    for j, cell in enumerate(row):
        if type(cell) is not int or cell not in _CELLS:
            refuse(f"got {described(cell)}", f"{field}[{j}]", "A cell is a whole number from 0 to 9.")
