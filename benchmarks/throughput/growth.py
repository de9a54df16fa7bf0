"""How training grows with the number of tasks, their length, the rank and the model: ours beside P1, a task at a time.

P1 trains one task after the other, so a few tasks say what each costs; both are compared by the seconds of one task.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.throughput.comparing import Rates, training_floor_s
from benchmarks.throughput.peers import FAIR, Fair, trained_by_trainer
from benchmarks.throughput.records import WARM_UP, Record
from benchmarks.throughput.rounds import Place, Schedule, interleaved, timed
from benchmarks.throughput.subject import Subject, task_of_tokens, untrained
from benchmarks.throughput.variants import Setting, Stages, train_together
from icl_engine.task import Task
from ttt_engine.config import LoraSettings

OURS = "together"


@dataclass(frozen=True, slots=True)
class Point:
    """One place in the space of sizes."""

    tasks: int = 32
    tokens: int = 256  # of a task, about
    rank: int = 16
    model: str = ""  # one of SHAPES; empty: the subject


@dataclass(frozen=True, slots=True)
class Axes:
    """What each axis goes through; all else stays at `at`."""

    at: Point
    along: Mapping[str, Sequence[int | str]]

    def points(self) -> Iterator[tuple[str, Point]]:
        """Yield (axis, point)."""
        for axis, values in self.along.items():
            for value in values:
                yield axis, replace(self.at, **{axis: value})  # type: ignore[arg-type]  # of the field's own type


def grow(
    subject: Subject,
    setting: Setting,
    axes: Axes,
    schedule: Schedule,
    *,
    steps: int,
    peer_tasks: int,
    repeats: int,
) -> Iterator[Record]:
    """Train at every point.

    Args:
        peer_tasks: how many of the tasks P1 trains on, at most.
    """
    with tempfile.TemporaryDirectory() as folder:
        for axis, point in axes.points():
            place = "growth", point.model or subject.name, f"{axis} {getattr(point, axis)}"
            if not schedule.is_left(place, (OURS, FAIR)):
                continue
            at = subject
            if point.model:
                at = untrained(point.model, Path(folder) / point.model, subject.device)
            lora = LoraSettings(point.rank, 2.0 * point.rank, setting.lora.target_modules)
            of_point = Setting.of(at.model, lora, replace(setting.training, steps=steps), n_views=0, seed=setting.seed)
            tasks = [task_of_tokens(point.tokens, seed) for seed in range(point.tasks)]
            yield from _at(place, at, tasks, of_point, schedule, peer_tasks=peer_tasks, repeats=repeats)


def _at(
    place: Place,
    subject: Subject,
    tasks: Sequence[Task],
    setting: Setting,
    schedule: Schedule,
    *,
    peer_tasks: int,
    repeats: int,
) -> Iterator[Record]:
    rates = Rates.measured(subject, repeats=repeats)
    of = {OURS: tasks, FAIR: tasks[:peer_tasks]}
    calls = {
        OURS: functools.partial(_ours, subject, tasks, setting),
        FAIR: functools.partial(_fair, subject, tasks[:peer_tasks], setting),
    }
    for name, call in calls.items():
        seconds, noise, _ = timed(call, device=subject.device)
        yield Record(*place, name, WARM_UP, seconds, noise)
    floors = {name: training_floor_s(subject, each, setting, rates) for name, each in of.items()}
    for each in interleaved(calls, schedule, place, device=subject.device):
        stages = each.given
        figures = {"tasks": float(len(of[each.name])), "train_floor_s": floors[each.name]}
        figures |= {f"{stage}_tokens": float(n) for stage, n in stages.passed_tokens.items()}
        seconds = stages.seconds["train"]
        yield Record(*place, each.name, each.round, seconds, each.noise, figures)


def _ours(subject: Subject, tasks: Sequence[Task], setting: Setting) -> Stages:
    stages = Stages(subject.device)
    with stages.watching(subject.model.module), stages("train"):
        train_together(subject.model, tasks, setting)
    return stages


def _fair(subject: Subject, tasks: Sequence[Task], setting: Setting) -> Stages:
    stages = Stages(subject.device)
    Fair(trained_by_trainer, answers=False)(subject, tasks, setting, stages)
    return stages
