"""Small pieces of SVG as text: one function that writes an element, escaped, and the few shapes that drawings share.

Presentation is left to classes of the style sheet: a strict content policy forbids `style` attributes.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup, escape

from router.values_shown import printable


def element(name: str, attributes: Mapping[str, object], *children: Markup) -> Markup:
    """Return one element; attribute values are escaped, children are elements or come from `words`."""
    given = "".join(f' {key}="{_escaped(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{''.join(children)}</{name}>")


def words(text: str) -> Markup:
    """Return text as an element's content: nothing in it is markup, and nothing in it is invisible."""
    return escape(printable(text))


def label(x: float, y: float, text: str, kind: str = "") -> Markup:
    """Return a line of text at a place."""
    return element("text", {"x": x, "y": y, "class": f"label {kind}".strip()}, words(text))


def drawing(
    width: float,
    height: float,
    title: str,
    *children: Markup,
    kind: str = "",
    size: tuple[float, float] | None = None,
) -> Markup:
    """Return a drawing that a screen reader names by its title.

    Args:
        size: in pixels, where those are not its own units; it shrinks where there is less room.
    """
    shown = size or (width, height)
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {_number(width)} {_number(height)}",
        "role": "img",
        "aria-label": title,
        "class": f"drawing {kind}".strip(),
        "width": shown[0],
        "height": shown[1],
    }
    return element("svg", attributes, *children)


def hatching(name: str) -> Markup:
    """Return the definition of the pattern that marks what did not happen."""
    line = element("line", {"x1": 0, "y1": 0, "x2": 0, "y2": 6, "class": "hatch"})
    pattern = {"id": name, "width": 6, "height": 6, "patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    return element("defs", {}, element("pattern", pattern, line))


def polyline(points: list[tuple[float, float]], kind: str) -> Markup:
    """Return a line through points."""
    return element("polyline", {"points": " ".join(f"{_number(x)},{_number(y)}" for x, y in points), "class": kind})


def _escaped(value: object) -> Markup:
    return words(_number(value) if isinstance(value, float) else str(value))


def _number(value: float) -> str:
    return f"{float(value):.2f}".rstrip("0").rstrip(".")
