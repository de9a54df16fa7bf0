"""How tasks and solutions look."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from icl_engine.task import Task, Value
from router.render import SolutionView, TaskView, as_html, as_text, compact_value, summary
from router.values_shown import PALETTE, printable, shortened
from tests.router.fakes import grid_task, solution_of, text_task

ROW = ((0, 5, 4),)
HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>[red]\u202eabc"


def printed(view: object, *, width: int = 80, colours: bool = False, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=file, width=width, color_system="truecolor" if colours else None, force_terminal=colours, no_color=False
    )
    console.print(view)
    file.seek(0)
    return file.read()


def big_task(rows: int = 30, columns: int = 30) -> Task:
    grid = [[(i + j) % 10 for j in range(columns)] for i in range(rows)]
    return Task.from_pairs([(grid, grid)] * 3, [grid], id="big")


def test_without_colours_cells_are_digits_and_empty_ones_points() -> None:
    assert " 1 2 ." in printed(TaskView(grid_task()))


def test_with_colours_a_cell_is_two_blanks_on_its_colour() -> None:
    out = printed(TaskView(grid_task()), colours=True)
    red, green, blue = (int(PALETTE[2][i : i + 2], 16) for i in (1, 3, 5))

    assert f"48;2;{red};{green};{blue}m  \x1b" in out
    assert "2" not in re.sub(r"\x1b\[[0-9;]*m", "", out).replace("demonstration 2", "")


def test_symbols_are_digits_on_the_colours() -> None:
    assert "m 2\x1b" in printed(TaskView(grid_task(), symbols=True), colours=True)


def test_no_color_in_the_environment_means_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as capture:
        console.print(TaskView(grid_task()))

    assert " 1 2 ." in capture.get()
    assert "48;2" not in capture.get()


@pytest.mark.parametrize("width", [20, 40, 80, 130, 300])
@pytest.mark.parametrize("task", [big_task(), big_task(1, 93), big_task(90, 1), text_task()], ids=lambda task: task.id)
def test_no_line_is_wider_than_the_console(task: Task, width: int) -> None:
    out = printed(TaskView(task), width=width)

    assert max(len(line) for line in out.splitlines()) <= width


@pytest.mark.parametrize("width", [20, 80, 130])
def test_every_cell_is_drawn_however_narrow_the_console(width: int) -> None:
    out = printed(TaskView(big_task()), width=width)

    assert sum(out.count(str(digit)) for digit in range(1, 10)) >= 7 * 900 * 9 // 10


def test_the_solution_shows_answer_arm_reason_cost_and_what_went_wrong() -> None:
    out = printed(SolutionView(solution_of(grid_task(), ROW, degraded=("store is down",)), (ROW,)), width=100)

    for shown in (
        "flip_1",
        " . 5 4",
        "right",
        "0.75",
        "icl",
        "0.950",
        "answered when held out",
        "0.50 s",
        "store is down",
    ):
        assert shown in out


def test_a_wrong_answer_stands_beside_what_was_expected() -> None:
    out = printed(SolutionView(solution_of(grid_task(), ((9, 9, 9),)), (ROW,)))

    assert "wrong" in out
    assert "expected   . 5 4" in out


def test_the_solution_is_not_shown_where_it_was_found() -> None:
    assert "expected" not in printed(SolutionView(solution_of(grid_task(), ROW), (ROW,)))


def test_no_candidate_reads_as_no_answer() -> None:
    for task in (grid_task(), text_task()):
        assert "no answer" in printed(SolutionView(solution_of(task)))
        assert "no answer" in as_text(solution_of(task))
        assert "no answer" in as_html(solution_of(task))


def test_print_gives_plain_ascii_for_a_task_of_ascii() -> None:
    text = str(solution_of(grid_task(), ROW, degraded=("store is down",)))

    assert text == as_text(solution_of(grid_task(), ROW, degraded=("store is down",)))
    assert text.isascii()
    assert "->  . 2 1" in text
    assert not any(line != line.rstrip() for line in text.split("\n"))


def test_a_terminal_of_ascii_gets_ascii() -> None:
    assert printed(SolutionView(solution_of(grid_task(), ROW)), encoding="ascii").isascii()


@pytest.mark.parametrize("colours", [True, False])
def test_nothing_in_a_text_reaches_the_terminal_as_a_command(colours: bool) -> None:
    task = Task.from_pairs([(HOSTILE, HOSTILE)], HOSTILE, instruction=HOSTILE, id=HOSTILE)
    solution = solution_of(task, HOSTILE, reason=HOSTILE, degraded=(HOSTILE,))
    shown = [
        printed(SolutionView(solution, ("x",)), colours=colours),
        as_text(solution),
        summary(solution, ("x",)).plain,
    ]

    for out in shown:
        assert "\x1b[2J" not in out
        assert "\x1b]" not in out
        assert "\x07" not in out
        assert "\u202e" not in out
        assert "[red]" in out  # no markup either


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    ("task", "candidates"),
    [(grid_task(), (ROW, ((1,),))), (text_task(), ("True",)), (grid_task(), ())],
)
def test_html_is_balanced_and_draws_without_scripts(task: Task, candidates: tuple[Value, ...]) -> None:
    tags = Tags(solution_of(task, *candidates)._repr_html_())

    assert tags.open == []
    assert set(tags.seen) <= {"div", "b", "i", "span", "table", "tr", "td"}


def test_html_colours_the_cells() -> None:
    html = as_html(solution_of(grid_task(), ROW))

    assert f"background:{PALETTE[5]}" in html


def test_html_escapes_everything_that_came_from_outside() -> None:
    task = Task.from_pairs([(HOSTILE, HOSTILE)], HOSTILE, instruction=HOSTILE, id=HOSTILE)
    html = as_html(solution_of(task, HOSTILE, arm="<script>", reason=HOSTILE, degraded=(HOSTILE,)))

    assert "<script" not in html


def test_many_demonstrations_and_queries_are_cut_and_counted() -> None:
    task = Task.from_pairs([(f"in {i}", "out") for i in range(20)], [f"q {i}" for i in range(30)], id="many")
    shown = [printed(SolutionView(solution_of(task, "x"))), as_html(solution_of(task, "x"))]

    for out in shown:
        assert "8 more demonstrations" in out
        assert "18 more queries" in out


def test_a_task_is_shown_without_answers() -> None:
    assert "query" in printed(TaskView(grid_task()))
    assert "?" in printed(TaskView(text_task()))


def test_the_summary_is_one_line_with_the_verdict_or_else_the_answer() -> None:
    judged = summary(solution_of(grid_task(), ((1,),), ROW), (ROW,)).plain
    unjudged = summary(solution_of(text_task(), "True"), (None,)).plain

    assert "right second" in judged
    assert "True" in unjudged
    assert "\n" not in judged + unjudged


def test_a_long_text_loses_its_middle() -> None:
    text = shortened("a" * 500 + "b" * 500, 100)

    assert len(text) == 100
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert " ... " in text


def test_compact_values_fit_one_line() -> None:
    assert compact_value(((1, 2), (3, 4))) == "12/34"
    assert compact_value("a\nb") == "a b"
    assert compact_value(None) == "no answer"


def test_printable_leaves_letters_of_every_script() -> None:
    assert printable("héllo 日本 ✓") == "héllo 日本 ✓"
    assert printable("\x1b\n\u202e") == r"\x1b\n\u202e"
