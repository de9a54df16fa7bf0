"""How far long work has come: a bar on stderr where that is a terminal, else little or nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as BarTask
from rich.text import Text

if TYPE_CHECKING:
    from icl_engine.embedded.pretraining import Progress as Report

_PLAIN_EVERY_S = 30.0  # between lines where stderr is no terminal


class SolvingProgress:
    """A bar for the tasks and one for the stage of the current task; nothing where stderr is no terminal."""

    def __init__(self, console: Console, n_tasks: int) -> None:
        self._console = console
        self._n_tasks = n_tasks
        self._n_done = 0
        self._started_at = time.monotonic()
        self._show()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how far a stage of the current task has come."""
        self._bars.update(self._stage, description=name, completed=done, total=total or None)

    @contextmanager
    def task_done(self) -> Iterator[None]:
        """Count one task, and take the bars away while it is printed, so that the two do not mix on one screen."""
        self._bars.stop()
        try:
            yield
        finally:
            self._n_done += 1
            self._show()
            self._bars.start()

    def _show(self) -> None:
        # anew each time: started again, the old ones would wipe out what was printed in between
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Since(self._started_at),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            redirect_stdout=False,  # what is printed there belongs to stdout
            redirect_stderr=False,
        )
        self._bars.add_task("tasks", total=self._n_tasks, completed=self._n_done, visible=self._n_tasks > 1)
        self._stage = self._bars.add_task("starting", total=None)


class PretrainingProgress:
    """Loss, validation, speed and time left of a pretraining run; a line now and then where stderr is no terminal."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._printed_at: float | None = None
        self._first_step: int | None = None
        self._bars = _Captioned(
            TextColumn("pretraining"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _Left(),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._bar = self._bars.add_task("first step: compiling", total=None)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, report: Report) -> None:
        """Take in what one step reports."""
        if self._first_step is None:
            self._first_step = report.step - 1
        left = seconds_left(report.step, report.steps, self._first_step, report.seconds)
        figures = _figures(report)
        self._bars.update(self._bar, description=figures, completed=report.step, total=report.steps, left=left)
        if not self._console.is_terminal and self._is_due(report):
            line = f"step {report.step}/{report.steps}, {_clock_time(left)} left, {figures}"
            self._console.print(Text(line), soft_wrap=True)

    def _is_due(self, report: Report) -> bool:
        now = self._clock()
        due = self._printed_at is None or now - self._printed_at >= _PLAIN_EVERY_S or report.step == report.steps
        if due:
            self._printed_at = now
        return due


class EvaluationProgress:
    """Tasks done of an evaluation, set by set, and time left; a line now and then where stderr is no terminal."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._printed_at: float | None = None
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Since(clock()),
            _Left(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
        )
        self._by_set: dict[str, tuple[TaskID, float]] = {}
        self._begun_at = clock()  # of the set under way: the last one's end

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, name: str, done: int, of: int) -> None:
        """Take in that `done` of the tasks of a set are answered."""
        now = self._clock()
        if name not in self._by_set:
            self._by_set[name] = self._bars.add_task(name, total=of), self._begun_at
        bar, begun_at = self._by_set[name]
        left, self._begun_at = seconds_left(done, of, 0, now - begun_at), now
        self._bars.update(bar, completed=done, total=of, left=left)
        due = self._printed_at is None or now - self._printed_at >= _PLAIN_EVERY_S or done == of
        if due and not self._console.is_terminal:
            self._printed_at = now
            self._console.print(Text(f"{name}: {done} of {of}, {_clock_time(left)} left"), soft_wrap=True)


def seconds_left(step: int, steps: int, first_step: int, seconds: float) -> float:
    """Return the time the remaining steps will take at the mean speed since `first_step`."""
    return (steps - step) * seconds / max(1, step - first_step)


def _figures(report: Report) -> str:
    held_out = (
        ""
        if math.isnan(report.held_out_loss)
        else (
            f", held out {report.held_out_loss:.3f} (right: {_shares(report.held_out_accuracy)}), "
            f"seen (right: {_shares(report.seen_accuracy)})"
        )
    )
    return f"loss {report.loss:.3f}{held_out}, {report.tokens_per_s:,.0f} tokens/s"


def _shares(by_kind: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {share:.0%}" for kind, share in by_kind.items())


class _Captioned(Progress):
    """Bars with their descriptions below: too long to stand beside them."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from (Text(task.description, style="dim") for task in self.tasks)


class _Since(ProgressColumn):
    """Time since the first task began."""

    def __init__(self, started_at: float) -> None:
        super().__init__()
        self._started_at = started_at

    def render(self, task: BarTask) -> Text:
        return Text(_clock_time(time.monotonic() - self._started_at), style="cyan")


class _Left(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        left = task.fields.get("left")
        return Text("" if left is None else f"{_clock_time(left)} left", style="cyan")


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
