"""The graph of a solve as SVG: every step there is, those that ran lit with their times, the others faint."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from router.trace import Step
from router.ui.svg import drawing, element, label, words

_WIDTH, _BOX, _HEIGHT, _ROW = 372, 108, 40, 62
_LEFT, _MIDDLE, _RIGHT = 66, 186, 306  # centres of the three columns
PLACES: dict[str, tuple[int, int]] = {  # column's centre, row
    "admit": (_MIDDLE, 0),
    "probe": (_MIDDLE, 1),
    "lookup": (_MIDDLE, 2),
    "look_closer": (_RIGHT, 2),
    "decide": (_MIDDLE, 3),
    "answer_icl": (_LEFT, 4),
    "answer_vote": (_MIDDLE, 4),
    "adapt": (_RIGHT, 4),
    "answer_ttt": (_RIGHT, 5),
    "verify": (_MIDDLE, 6),
    "record": (_MIDDLE, 7),
}
EDGES = (
    ("admit", "probe"),
    ("probe", "lookup"),
    ("lookup", "decide"),
    ("lookup", "look_closer"),
    ("look_closer", "decide"),
    ("decide", "answer_icl"),
    ("decide", "answer_vote"),
    ("decide", "adapt"),
    ("adapt", "answer_ttt"),
    ("answer_icl", "verify"),
    ("answer_vote", "verify"),
    ("answer_ttt", "verify"),
    ("verify", "record"),
    ("verify", "adapt"),
)


def graph_svg(path: Sequence[Step]) -> Markup:
    """Draw the graph with the path of one solve lit. A step that this release does not know is listed below."""
    seconds: dict[str, list[float]] = {}
    for step in path:
        seconds.setdefault(step.name, []).append(step.seconds)
    walked = {(before.name, after.name) for before, after in pairwise(path)}
    # a trace is written by `record`, before its own time is known: the path ends before it
    walked |= {("verify", "record")} if path and path[-1].name == "verify" else set()
    shown = {**seconds, **({"record": []} if ("verify", "record") in walked else {})}
    extra = [name for name in seconds if name not in PLACES]
    rows = 8 + len(extra)
    return drawing(
        _WIDTH,
        rows * _ROW - (_ROW - _HEIGHT) + 4,
        "Graph of the solve; taken: " + ", ".join(shown) + ".",
        *(_edge(edge, edge in walked) for edge in sorted(EDGES, key=walked.__contains__)),
        *(_node(name, *PLACES[name], shown.get(name)) for name in PLACES),
        *(_node(name, _MIDDLE, 8 + i, seconds[name]) for i, name in enumerate(extra)),
        kind="graph",
    )


def milliseconds(seconds: float) -> str:
    """Return a time as people read it: ms below a second, s above."""
    ms = seconds * 1000
    return f"{ms:.2g} ms" if ms < 10 else f"{ms:.0f} ms" if ms < 1000 else f"{seconds:.2f} s"


def _node(name: str, x: int, row: int, seconds: list[float] | None) -> Markup:
    taken = seconds is not None
    y = 2 + row * _ROW
    box = {"x": x - _BOX / 2, "y": y, "width": _BOX, "height": _HEIGHT, "rx": 8}
    times = "not taken" if seconds is None else milliseconds(sum(seconds)) if seconds else "writes this trace"
    if seconds and len(seconds) > 1:
        times = f"{len(seconds)} times, {times}"
    return element(
        "g",
        {"class": "node taken" if taken else "node"},
        element("rect", box),
        label(x, y + 17, name, "centred strong"),
        label(x, y + 32, times, "centred small"),
    )


def _edge(edge: tuple[str, str], taken: bool) -> Markup:
    (x1, row1), (x2, row2) = (PLACES[name] for name in edge)
    y1, y2 = 2 + row1 * _ROW + _HEIGHT, 2 + row2 * _ROW
    if edge == ("verify", "adapt"):  # the loop back: where nothing usable came out in context
        y1, y2 = y1 - _HEIGHT // 2, y2 + _HEIGHT // 2
        x1, x2, out = x1 + _BOX // 2, x2 + _BOX // 2, _WIDTH - 4
        path = f"M{x1} {y1}H{out}V{y2}H{x2 + 2}"
    elif row1 == row2:
        path = f"M{x1 + _BOX // 2} {y1 - _HEIGHT // 2}H{x2 - _BOX // 2 - 2}"
    elif x1 == x2:
        path = f"M{x1} {y1}V{y2 - 2}"
    else:
        middle = y2 - (_ROW - _HEIGHT) / 2
        path = f"M{x1} {y1}V{middle if row2 - row1 > 1 else (y1 + y2) / 2}H{x2}V{y2 - 2}"
    kind = "edge taken" if taken else "edge"
    title = element("title", {}, words(f"{edge[0]} to {edge[1]}" + ("" if taken else ", not taken")))
    return element("path", {"class": kind, "d": path}, title)
