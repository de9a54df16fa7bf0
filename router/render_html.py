"""A solution as HTML for notebooks: small tables with inline styles, all text escaped, no scripts, no links."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from icl_engine.task import Grid, Value
from router.solution import Solution
from router.values_shown import PALETTE, SHOWN_AT_MOST, arm_of, drawn_of, more, printable, shortened

_Row = tuple[str, Value, tuple[tuple[str, Value | None], ...]]  # label, input, outputs with their labels

_CELL_PX = 12
_BORDER = "border:1px solid #8884"
_FLEX = "display:flex;flex-wrap:wrap;align-items:flex-start;gap:8px 20px;margin:4px 0"


def as_html(solution: Solution) -> str:
    """Return a solution as an HTML fragment: demonstrations, queries with their answers, the arm and why."""
    task = solution.task
    pairs = task.demonstrations[:SHOWN_AT_MOST]
    shown: list[_Row] = [(f"{i + 1}", pair.input, (("", pair.output),)) for i, pair in enumerate(pairs)]
    asked: list[_Row] = [
        ("query" if len(task.queries) == 1 else f"query {i + 1}", query, _labelled(answer.values))
        for i, (query, answer) in enumerate(zip(task.queries, solution.answers, strict=True))
    ][:SHOWN_AT_MOST]
    parts = [
        f"<b>task {escape(printable(task.id))}</b>",
        "" if task.instruction is None else f"<div><i>{_text(task.instruction)}</i></div>",
        _group(shown),
        _more(len(task.demonstrations), "demonstrations"),
        _group(asked),
        _more(len(task.queries), "queries"),
        _facts(solution),
    ]
    return f'<div style="font-family:sans-serif;font-size:13px">{"".join(parts)}</div>'


def _labelled(values: tuple[Value, ...]) -> tuple[tuple[str, Value | None], ...]:
    return tuple(zip(("answer", "second"), values, strict=False)) if values else (("no answer", None),)


def _group(rows: Sequence[_Row]) -> str:
    blocks = []
    for label, given, answers in rows:
        outputs = "".join(f"<div>{_label(name)}{_value(value)}</div>" for name, value in answers)
        arrow = '<div style="align-self:center">→</div>'
        block = f'<div style="display:flex;gap:8px;align-items:flex-start"><div>{_label(label)}{_value(given)}</div>'
        blocks.append(f"{block}{arrow}{outputs}</div>")
    return f'<div style="{_FLEX}">{"".join(blocks)}</div>'


def _label(text: str) -> str:
    return f'<div style="opacity:0.6;font-size:11px;min-height:14px">{escape(text)}</div>'


def _value(value: Value | None) -> str:
    if value is None:
        return ""
    return _grid(value) if not isinstance(value, str) else f'<div style="max-width:48em">{_text(value)}</div>'


def _text(text: str) -> str:
    return f'<span style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(shortened(text))}</span>'


def _grid(grid: Grid) -> str:
    size = f"width:{_CELL_PX}px;height:{_CELL_PX}px;min-width:{_CELL_PX}px;padding:0;{_BORDER}"
    rows = "".join(f'<tr style="background:none">{"".join(_cell(cell, size) for cell in row)}</tr>' for row in grid)
    return f'<table style="border-collapse:collapse;margin:0">{rows}</table>'


def _cell(cell: int, size: str) -> str:
    return f'<td title="{cell}" style="{size};background:{PALETTE[cell]}"></td>'


def _more(n: int, things: str) -> str:
    return f"<div>{escape(more(n, things))}</div>" if n > SHOWN_AT_MOST else ""


def _facts(solution: Solution) -> str:
    cost = solution.cost
    gpu = f", {cost.gpu_seconds:.2f} GPU-seconds" if cost.gpu_seconds else ""
    facts = [
        ("confidence", ", ".join(f"{answer.confidence:.2f}" for answer in solution.answers[:SHOWN_AT_MOST])),
        ("arm", f"{arm_of(solution)}, {drawn_of(solution)}"),
        ("reason", solution.reason),
        ("cost", f"{cost.seconds:.2f} s{gpu}, {cost.tokens} tokens"),
        *(("degraded", fault) for fault in solution.degraded),
        ("trace", solution.trace_id),
    ]
    style = "text-align:left;padding:1px 12px 1px 0;background:none"
    rows = "".join(
        f'<tr style="background:none"><td style="{style};opacity:0.6">{name}</td>'
        f'<td style="{style}">{escape(printable(text))}</td></tr>'
        for name, text in facts
    )
    return f'<table style="border-collapse:collapse;margin:4px 0">{rows}</table>'
