"""Values of a task as a page shows them: a grid as a drawing, a text as text, and what is wrong with an answer."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup, escape

from icl_engine.task import Value
from router.ui.grid_drawing import grid_svg, wrong_cells
from router.values_shown import printable

TEXT_CHARS = 2000  # of one text; the JSON beside the page has the rest


@dataclass(frozen=True, slots=True)
class Shown:
    """One value with its name."""

    name: str
    drawn: Markup | None  # of a grid
    text: Markup  # of a text
    note: str = ""


def shown(value: Value | None, name: str, *, against: Value | None = None, note: str = "") -> Shown:
    """Return a value to be shown.

    Args:
        against: what is right, or the best answer; cells that differ from it are ringed.
        note: said below it.
    """
    if value is None:
        return Shown(name, None, Markup("no answer"), note)
    if isinstance(value, str):
        return Shown(name, None, text_of(value), note)
    wrong = None if against is None or isinstance(against, str) else wrong_cells(value, against)
    return Shown(name, grid_svg(value, name, wrong or frozenset()), Markup(), note)


def difference(value: Value | None, other: Value) -> str:
    """Say in words how a value differs from another."""
    if value == other:
        return "the same"
    if value is None or isinstance(value, str) or isinstance(other, str):
        return "another text" if isinstance(other, str) and value is not None else "no answer"
    wrong = wrong_cells(value, other)
    if wrong is None:
        return f"another shape: {len(value)} by {len(value[0])}, not {len(other)} by {len(other[0])}"
    return f"{len(wrong)} of {len(value) * len(value[0])} cells differ (ringed)"


def text_of(text: str) -> Markup:
    """Return a text as markup: its lines kept, everything invisible in it written out, the rest of a long one left."""
    kept = text[:TEXT_CHARS]
    lines = Markup("\n").join(escape(printable(line)) for line in kept.split("\n"))
    left = len(text) - len(kept)
    return lines + (f" ... and {left} more characters, in the JSON" if left else "")
