"""Progress is for terminals; elsewhere it is a line now and then, or nothing."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from router.progress import EvaluationProgress, PretrainingProgress, SolvingProgress, seconds_left


@dataclass(frozen=True, slots=True)
class Report:
    """Has what a step of pretraining reports."""

    step: int
    steps: int = 1000
    loss: float = 1.5
    held_out_loss: float = float("nan")
    held_out_accuracy: Mapping[str, float] = field(default_factory=dict)
    seen_accuracy: Mapping[str, float] = field(default_factory=dict)
    tokens_per_s: float = 12_000.0
    seconds: float = 10.0


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_into_a_pipe_solving_shows_nothing() -> None:
    err = console(terminal=False)
    with SolvingProgress(err, 2) as progress:
        progress.stage("training", 1, 40)
        with progress.task_done():
            pass

    assert written(err) == ""


def test_on_a_terminal_solving_shows_the_stage() -> None:
    err = console(terminal=True)
    with SolvingProgress(err, 2) as progress:
        progress.stage("training", 1, 40)

    assert "training" in written(err)
    assert "1/40" in written(err)


def test_into_a_pipe_pretraining_is_a_line_every_half_minute_and_the_last() -> None:
    err = console(terminal=False)
    seconds = itertools.count(step=10)
    with PretrainingProgress(err, clock=lambda: float(next(seconds))) as progress:
        for step in (*range(1, 9), 1000):
            progress(Report(step))  # type: ignore[arg-type]  # the real one comes with torch

    steps = [line.split("/")[0] for line in written(err).splitlines()]
    assert steps == ["step 1", "step 4", "step 7", "step 1000"]


def test_validation_figures_are_shown_once_there_are_any() -> None:
    err = console(terminal=False)
    with PretrainingProgress(err, clock=itertools.count(step=31.0).__next__) as progress:
        progress(Report(1))  # type: ignore[arg-type]
        held_out, seen = {"grid": 0.25, "text": 0.1}, {"grid": 0.75, "text": 0.5}
        progress(Report(2, held_out_loss=0.5, held_out_accuracy=held_out, seen_accuracy=seen))  # type: ignore[arg-type]

    first, second = written(err).splitlines()
    assert "held out" not in first
    assert "held out 0.500 (right: grid 25%, text 10%), seen (right: grid 75%, text 50%)" in second


def test_into_a_pipe_an_evaluation_is_a_line_every_half_minute_and_the_last_of_each_set() -> None:
    err = console(terminal=False)
    seconds = itertools.count(step=10)
    with EvaluationProgress(err, clock=lambda: float(next(seconds))) as progress:
        for done in range(1, 7):
            progress("bbh", done, 6)

    assert written(err).splitlines() == [
        "bbh: 1 of 6, 0:00:50 left",
        "bbh: 4 of 6, 0:00:20 left",
        "bbh: 6 of 6, 0:00:00 left",
    ]


def test_the_time_left_is_at_the_speed_of_this_run() -> None:
    assert seconds_left(step=150, steps=200, first_step=100, seconds=25.0) == pytest.approx(25.0)
