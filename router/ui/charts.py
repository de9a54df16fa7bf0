"""Charts as SVG: bars, bands, lines. Each takes numbers and words and knows nothing of traces; a table beside each one
says the same in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from router.ui.svg import drawing, element, hatching, label, polyline

_WIDTH = 460.0
_NAME = 92.0  # where the bars begin, right of the names


@dataclass(frozen=True, slots=True)
class Band:
    """A probability with how sure it is."""

    name: str
    value: float
    low: float | None
    high: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class CostBar:
    """What an arm was predicted to cost, and what it did cost."""

    name: str
    predicted: float | None
    actual: float | None  # None: it did not run, so its prediction is the estimate of a counterfactual


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line `value - slope * x`."""

    name: str
    value: float
    slope: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A named place in a scatter."""

    name: str
    x: float
    y: float
    marked: bool = False


def signed_bar(value: float, largest: float, name: str) -> Markup:
    """Draw one contribution: left of zero what speaks against, right what speaks for."""
    length = 0.0 if largest <= 0 else 58.0 * min(1.0, abs(value) / largest)
    box = {"x": 60 - length if value < 0 else 60.0, "y": 2, "width": max(length, 0.5), "height": 10}
    zero = element("line", {"x1": 60, "y1": 0, "x2": 60, "y2": 14, "class": "axis"})
    bar = element("rect", {**box, "class": "against" if value < 0 else "for"})
    return drawing(120, 14, name, bar, zero, kind="bar")


def bands(rows: Sequence[Band], name: str) -> Markup:
    """Draw probabilities from 0 to 1 as dots, each with its band."""
    height, span = 24.0 * len(rows), _WIDTH - _NAME - 12
    children = [_tick(_NAME + span * share, height, f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]
    for i, row in enumerate(rows):
        y = 24.0 * i + 12
        children.append(label(0, y + 4, row.name, "strong" if row.chosen else ""))
        if row.low is not None and row.high is not None:
            box = {"x": _NAME + span * row.low, "y": y - 5, "width": span * (row.high - row.low), "height": 10}
            children.append(element("rect", {**box, "rx": 3, "class": "band"}))
        dot = {"cx": _NAME + span * row.value, "cy": y, "r": 5, "class": "dot chosen" if row.chosen else "dot"}
        children.append(element("circle", dot))
    return drawing(_WIDTH, height + 18, name, *children)


def cost_bars(rows: Sequence[CostBar], name: str) -> Markup:
    """Draw predicted against actual seconds; what did not run is hatched."""
    largest = max((value for row in rows for value in (row.predicted, row.actual) if value is not None), default=0.0)
    span = _WIDTH - _NAME - 76
    children: list[Markup] = [hatching("hatch")]
    for i, row in enumerate(rows):
        y = 40.0 * i
        children.append(label(0, y + 22, row.name, "" if row.actual is None else "strong"))
        kind = "counterfactual" if row.actual is None else "predicted"
        for offset, value, style, what in ((4, row.predicted, kind, "predicted"), (20, row.actual, "actual", "took")):
            if value is not None:
                length = span * value / largest if largest > 0 else 0.0
                box = {"x": _NAME, "y": y + offset, "width": max(length, 1.5), "height": 13, "class": style}
                box |= {"fill": "url(#hatch)"} if style == "counterfactual" else {}
                children += [
                    element("rect", box),
                    label(_NAME + length + 5, y + offset + 11, f"{what} {value:.3g} s", "small"),
                ]
    return drawing(_WIDTH, 40.0 * len(rows), name, *children)


def utility_lines(lines: Sequence[Line], price: float, marks: Sequence[tuple[float, str]], name: str) -> Markup:
    """Draw utility against price, one line an arm; vertical marks at prices worth knowing."""
    end = max(2 * price, *(1.25 * at for at, _ in marks), 0.1) if marks else max(2 * price, 0.1)
    values = [line.value - line.slope * at for line in lines for at in (0.0, end)]
    top, bottom = max(values, default=1.0), max(-1.0, min(values, default=0.0))
    width, height, left = _WIDTH - 130, 190.0, 36.0
    scale = (height - 30) / max(top - bottom, 1e-9)

    def place(at: float, utility: float) -> tuple[float, float]:
        return left + (width - left) * at / end, 8 + (top - max(utility, bottom)) * scale

    children = [
        element("line", {"x1": left, "y1": height - 20, "x2": width, "y2": height - 20, "class": "axis"}),
        *(label(place(at, 0)[0], height - 6, f"{at:.2g}", "centred small") for at in (0.0, end / 2, end)),
        *(label(left - 4, place(0, each)[1] + 4, f"{each:.2g}", "end small") for each in (top, bottom)),
    ]
    taken: list[float] = []
    for line in sorted(lines, key=lambda each: -(each.value - each.slope * end)):
        points = [place(end * i / 24, line.value - line.slope * end * i / 24) for i in range(25)]
        children.append(polyline(points, "line chosen" if line.chosen else "line"))
        y = max(points[-1][1] + 4, *(each + 13 for each in taken)) if taken else points[-1][1] + 4
        taken.append(y)
        children.append(label(width + 6, y, line.name, "strong small" if line.chosen else "small"))
    for at, kind in marks:
        x = place(at, 0)[0]
        children.append(element("line", {"x1": x, "y1": 4, "x2": x, "y2": height - 20, "class": f"mark {kind}"}))
    return drawing(_WIDTH, height, name, *children)


def curve(values: Sequence[float], name: str) -> Markup:
    """Draw a series, the first value on the left."""
    low, high = min(values), max(values)
    width, height, left = _WIDTH, 120.0, 44.0
    step = (width - left - 8) / max(len(values) - 1, 1)
    points = [
        (left + step * i, 8 + (height - 28) * (high - value) / (high - low if high > low else 1.0))
        for i, value in enumerate(values)
    ]
    return drawing(
        width,
        height,
        name,
        element("line", {"x1": left, "y1": height - 16, "x2": width - 8, "y2": height - 16, "class": "axis"}),
        label(left - 6, 13, f"{high:.2f}", "end small"),
        label(left - 6, height - 20, f"{low:.2f}", "end small"),
        label(left, height - 3, "step 1", "small"),
        label(width - 8, height - 3, f"step {len(values)}", "end small"),
        polyline(points, "line chosen"),
    )


def scatter(points: Sequence[Point], x_name: str, y_name: str, name: str, *, diagonal: bool = False) -> Markup:
    """Draw points whose y is from 0 to 1; with the diagonal, x is too."""
    width, height, left = _WIDTH, 240.0, 40.0
    end = 1.0 if diagonal else 1.15 * max((point.x for point in points), default=1.0) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (width - left - 16) * x / end, 10 + (height - 56) * (1 - y)

    bottom = place(0, 0)[1]
    children = [
        element("line", {"x1": left, "y1": bottom, "x2": width - 16, "y2": bottom, "class": "axis"}),
        element("line", {"x1": left, "y1": 10, "x2": left, "y2": bottom, "class": "axis"}),
        *(label(left - 6, place(0, y)[1] + 4, f"{y:g}", "end small") for y in (0, 0.5, 1)),
        *(label(place(x, 0)[0], bottom + 15, f"{x:.2g}", "centred small") for x in (0.0, end / 2, end)),
        label((left + width) / 2, height - 8, f"{y_name} (up) against {x_name}", "centred small"),
    ]
    if diagonal:
        children.append(polyline([place(0, 0), place(1, 1)], "line faint"))
    for point in points:
        x, y = place(point.x, point.y)
        children.append(element("circle", {"cx": x, "cy": y, "r": 5, "class": "dot chosen" if point.marked else "dot"}))
        if point.name:
            ends = x > width * 0.6
            children.append(label(x - 9 if ends else x + 9, y + 4, point.name, "end small" if ends else "small"))
    return drawing(width, height, name, *children)


def strip(values: Sequence[float | None], name: str) -> Markup:
    """Draw shares over time as columns from 0 to 1; a gap where nothing is known."""
    width = _WIDTH / max(len(values), 1)
    children = [element("line", {"x1": 0, "y1": 50, "x2": _WIDTH, "y2": 50, "class": "axis"})]
    for i, value in enumerate(values):
        if value is not None:
            box = {"x": i * width + 1, "y": 50 - 46 * value, "width": max(width - 2, 1), "height": 46 * value}
            children.append(element("rect", {**box, "class": "actual"}))
    return drawing(_WIDTH, 52, name, *children)


def shares(parts: Sequence[tuple[str, float]], name: str, chosen: str) -> Markup:
    """Draw probabilities that sum to one as pieces of one bar."""
    x, children = 0.0, []
    for part, share in parts:
        kind = "actual" if part == chosen else "predicted"
        children.append(element("rect", {"x": x, "y": 1, "width": _WIDTH * share, "height": 22, "class": kind}))
        if share > 0.16:
            ink = "centred small on-actual" if part == chosen else "centred small"
            children.append(label(x + _WIDTH * share / 2, 16, f"{part} {share:.2f}", ink))
        x += _WIDTH * share
    return drawing(_WIDTH, 24, name, *children)


def _tick(x: float, height: float, text: str) -> Markup:
    line = element("line", {"x1": x, "y1": 0, "x2": x, "y2": height, "class": "tick"})
    return line + label(x, height + 13, text, "centred small")


def span(start: float, share: float, name: str) -> Markup:
    """Draw one piece of a timeline, in shares of all of it."""
    box = {"x": 200 * start, "y": 2, "width": max(200 * share, 1.5), "height": 8, "rx": 2, "class": "actual"}
    line = element("line", {"x1": 0, "y1": 6, "x2": 200, "y2": 6, "class": "tick"})
    return drawing(200, 12, name, line, element("rect", box), kind="bar")
