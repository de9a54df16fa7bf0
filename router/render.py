"""Tasks and solutions for people's eyes, in a terminal or as plain text.

Grids are coloured blocks, or digits where colours cannot be shown or told apart. Nothing of a task reaches the terminal
unescaped.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from icl_engine.answer import Answer
from icl_engine.task import Grid, Task, Value
from router.render_html import as_html
from router.solution import Solution
from router.values_shown import PALETTE, SHOWN_AT_MOST, arm_of, drawn_of, ink_on, more, printable, shortened, verdict

__all__ = ["SolutionView", "TaskView", "as_html", "as_text", "compact_value", "summary"]

_LABEL_COLUMNS = 10  # "expected" and a space or two
_ROW_LINES = 3  # label, input, output of a task of single rows: those stand close
_PLAIN_COLUMNS = 100  # of `print(solution)`

_Part = tuple[str, Value | None, str]  # label, value, style


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task to be printed on a rich console: demonstrations and queries, as wide as the console permits.

    Args:
        symbols: Digits in the cells: always (True), or only where there are no colours (False).
        plain: ASCII around the values and no colours, whatever the console can do.
        answers: Shown beside each query, with the solutions where those are known.
    """

    task: Task
    symbols: bool = False
    plain: bool = False
    answers: tuple[Answer, ...] = ()
    solutions: tuple[Value | None, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts."""
        if self.task.instruction is not None:
            yield Text(shortened(self.task.instruction), style="italic")
        if self.task.kind == "text":
            yield _text_table(self, plain=self.plain)
        else:
            coloured = not self.plain and not console.no_color and console.color_system is not None
            ascii_only = self.plain or options.ascii_only
            yield from _Grids(self, options.max_width, coloured, self.symbols or not coloured, ascii_only).lines()


@dataclass(frozen=True, slots=True)
class SolutionView:
    """A solution to be printed on a rich console: task, answers, the arm and why, what it cost.

    Args:
        solutions: What is right, per query; None where it is not known.
        symbols, plain: As for `TaskView`.
    """

    solution: Solution
    solutions: tuple[Value | None, ...] = ()
    symbols: bool = False
    plain: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one panel, or its content where it is to be plain."""
        solution = self.solution
        task = TaskView(solution.task, self.symbols, self.plain, solution.answers, self.solutions)
        title = Text(f"task {printable(solution.task.id)}", style="bold", overflow="ellipsis", no_wrap=True)
        if self.plain:
            yield Group(title, task, Text(), _facts(solution, self.solutions))
        else:
            yield Panel(Group(task, Text(), _facts(solution, self.solutions)), title=title, title_align="left")


def as_text(solution: Solution) -> str:
    """Return a solution as plain text, ASCII but for what is in the task itself."""
    console = Console(file=io.StringIO(), width=_PLAIN_COLUMNS, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(SolutionView(solution, plain=True), highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def summary(solution: Solution, solutions: Sequence[Value | None]) -> Text:
    """Return one line for one of many tasks: id, arm, right or wrong, seconds, reason; without labels, the answer."""
    judged = verdict(solution.answers, solutions)
    line = Text(f"{printable(solution.task.id):<24} {arm_of(solution):<9} ")
    if judged is None:
        line.append(f"{compact_value(solution.answer)}  ", style="bold")
    else:
        line.append(f"{judged.word:<12} ", style=judged.style)
    line.append(f"{solution.cost.seconds:7.2f} s  {printable(solution.reason)}")
    if solution.degraded:
        line.append(f"  ! {printable('; '.join(solution.degraded))}", style="yellow")
    return line


def compact_value(value: Value | None, at_most: int = 40) -> str:
    """Return a value in a few characters of one line: a text shortened, a grid as digits with `/` between rows."""
    if value is None:
        return "no answer"
    text = value if isinstance(value, str) else "/".join("".join(map(str, row)) for row in value)
    return shortened(" ".join(text.split()) or text, at_most)


def _facts(solution: Solution, solutions: Sequence[Value | None]) -> Table:
    judged = verdict(solution.answers, solutions)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    if judged is not None:
        facts.add_row("verdict", Text(judged.sentence, style=judged.style))
    for i, answer in enumerate(solution.answers[:SHOWN_AT_MOST]):
        query = i if len(solution.answers) > 1 else None
        facts.add_row("confidence" if i == 0 else "", Text(_confidence(answer, query)))
    facts.add_row("arm", Text(f"{arm_of(solution)}, {drawn_of(solution)}"))
    facts.add_row("reason", Text(printable(solution.reason)))
    gpu = f", {solution.cost.gpu_seconds:.2f} GPU-seconds" if solution.cost.gpu_seconds else ""
    facts.add_row("cost", Text(f"{solution.cost.seconds:.2f} s{gpu}, {solution.cost.tokens} tokens"))
    for i, fault in enumerate(solution.degraded):
        facts.add_row("degraded" if i == 0 else "", Text(printable(fault), style="yellow"))
    facts.add_row("trace", Text(printable(solution.trace_id)))
    return facts


def _confidence(answer: Answer, query: int | None) -> str:
    where = "" if query is None else f"query {query + 1}: "
    shares = ", second ".join(f"{candidate.share:.0%}" for candidate in answer.candidates)
    return f"{where}{answer.confidence:.2f}" + (f" (of the votes, best {shares})" if len(answer.candidates) > 1 else "")


def _text_table(view: TaskView, *, plain: bool) -> Table:
    task = view.task
    table = Table(box=None if plain else box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", style="dim", no_wrap=True)
    table.add_column("input", overflow="fold")
    table.add_column("output", overflow="fold")
    for i, shown in enumerate(task.demonstrations[:SHOWN_AT_MOST]):
        table.add_row(str(i + 1), Text(shortened(str(shown.input))), Text(shortened(str(shown.output))))
    if len(task.demonstrations) > SHOWN_AT_MOST:
        table.add_row("", Text(more(len(task.demonstrations), "demonstrations"), style="dim"), "")
    table.add_section()
    for i, query in enumerate(task.queries[:SHOWN_AT_MOST]):
        best, *others = list(_answer_parts(view, i)) or [("answer", "?", "dim")]
        table.add_row(_query_label(task, i), Text(shortened(str(query))), _text_cell(best))
        for part in others:
            table.add_row("", Text(part[0], style="dim", justify="right"), _text_cell(part))
    if len(task.queries) > SHOWN_AT_MOST:
        table.add_row("", Text(more(len(task.queries), "queries"), style="dim"), "")
    return table


def _text_cell(part: _Part) -> Text:
    _, value, style = part
    return Text("no answer" if value is None else shortened(str(value)), style=style)


def _query_label(task: Task, i: int) -> str:
    return f"query {i + 1}" if len(task.queries) > 1 else "query"


def _answer_parts(view: TaskView, i: int) -> Iterable[_Part]:
    """What is shown for query `i`: the best answer, the second, and the solution if the best is wrong."""
    if not view.answers:
        return
    answer = view.answers[i]
    known = view.solutions[i] if view.solutions else None
    for label, value in zip(("answer", "second"), answer.values or (None,), strict=False):
        plainly = "bold" if label == "answer" else ""
        missed = "red" if label == "answer" else "dim"
        yield label, value, plainly if known is None else "bold green" if value == known else missed
    if known is not None and answer.value != known:
        yield "expected", known, "green"


@dataclass(frozen=True, slots=True)
class _Grids:
    """Draws a task of grids; a block is a list of lines."""

    view: TaskView
    columns: int
    coloured: bool
    symbols: bool
    ascii_only: bool

    def lines(self) -> Iterable[RenderableType]:
        task = self.view.task
        shown = task.demonstrations[:SHOWN_AT_MOST]
        blocks = [
            [Text(f"demonstration {i + 1}", style="dim"), *self._pair(pair.input, pair.output)]
            for i, pair in enumerate(shown)
            if not isinstance(pair.input, str) and not isinstance(pair.output, str)
        ]
        yield from self._packed(blocks)
        if len(task.demonstrations) > SHOWN_AT_MOST:
            yield Text(more(len(task.demonstrations), "demonstrations"), style="dim")
        for i, query in enumerate(task.queries[:SHOWN_AT_MOST]):
            assert not isinstance(query, str)
            yield Text()
            yield from self._query(_query_label(task, i), query, list(_answer_parts(self.view, i)))
        if len(task.queries) > SHOWN_AT_MOST:
            yield Text(more(len(task.queries), "queries"), style="dim")

    def _pair(self, given: Grid, wanted: Grid) -> list[Text]:
        """Input and output side by side; one above the other where those are rows, whose cells can then be compared."""
        left, right = self._cells(given), self._cells(wanted)
        arrow, down = ("->", "|") if self.ascii_only else ("→", "↓")
        if len(given) == len(wanted) == 1:
            gap = " " * (len(arrow) + 1)
            return [Text(gap) + line for line in left] + [
                Text(f"{arrow} " if i == 0 else gap) + line for i, line in enumerate(right)
            ]
        if _width(left) + _width(right) + 4 <= self.columns:
            return _beside(left, [Text(f" {arrow} ".ljust(4))] if len(arrow) > 1 else [Text(f" {arrow} ")], right)
        return [*left, Text(down.rjust(max(1, _width(left) // 2))), *right]

    def _query(self, label: str, query: Grid, parts: Sequence[_Part]) -> Iterable[Text]:
        grids = [(label, query, "dim"), *parts]
        rows = all(value is None or len(value) == 1 for _, value, _ in grids)
        blocks = []
        for name, value, style in grids:
            drawn = [Text("no answer")] if value is None or isinstance(value, str) else self._cells(value)
            if rows:
                labels = [Text(name.ljust(_LABEL_COLUMNS), style=style), *[Text(" " * _LABEL_COLUMNS)] * len(drawn)]
                yield from (each + line for each, line in zip(labels, drawn, strict=False))
            else:
                blocks.append([Text(name, style=style), *drawn])
        yield from self._packed(blocks)

    def _cells(self, grid: Grid) -> list[Text]:
        """The lines of a grid: two characters a cell, one where that is too wide, in parts where that is too."""
        room = max(1, self.columns - _LABEL_COLUMNS)
        width = 2 if 2 * self._widest() <= room else 1
        per_line = max(1, room // width)
        lines = []
        for start in range(0, len(grid[0]), per_line):
            lines += [self._row(row[start : start + per_line], width) for row in grid]
        return lines

    def _widest(self) -> int:
        task = self.view.task
        pairs = [value for pair in task.demonstrations for value in (pair.input, pair.output)]
        values = [*pairs, *task.queries, *(value for answer in self.view.answers for value in answer.values)]
        return max(len(value[0]) for value in values)

    def _row(self, row: Sequence[int], width: int) -> Text:
        line = Text(no_wrap=True)
        for cell in row:
            empty = "." if self.ascii_only or not self.coloured else "·"
            mark = (str(cell) if cell else empty) if self.symbols else ("" if cell else empty)
            style = f"{ink_on(cell)} on {PALETTE[cell]}" if self.coloured else ""
            line.append(mark.rjust(width), style=style)
        return line

    def _packed(self, blocks: Sequence[list[Text]]) -> Iterable[Text]:
        """Blocks side by side, as many in a line as fit."""
        waiting: list[Text] = []
        for block in blocks:
            if waiting and _width(waiting) + 3 + _width(block) > self.columns:
                yield from waiting
                if len(waiting) > _ROW_LINES:
                    yield Text()
                waiting = []
            waiting = _beside(waiting, [Text("   ")], block, centred=False) if waiting else block
        yield from waiting


def _width(block: Sequence[Text]) -> int:
    return max((line.cell_len for line in block), default=0)


def _beside(left: list[Text], between: list[Text], right: list[Text], *, centred: bool = True) -> list[Text]:
    """Blocks beside each other, their tops level, `between` in the middle where `centred`."""
    height = max(len(left), len(right))
    middle = (min(len(left), len(right)) - 1) // 2 if centred else 0
    columns = [
        _padded(left, height),
        _padded([*[Text()] * middle, *between], height),
        _padded(right, height),
    ]
    return [Text.assemble(*parts, no_wrap=True) for parts in zip(*columns, strict=True)]


def _padded(block: list[Text], height: int) -> list[Text]:
    width = _width(block)
    lines = [*block, *[Text()] * (height - len(block))]
    return [line + Text(" " * (width - line.cell_len)) for line in lines]
