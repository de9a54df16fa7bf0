"""What the router costs where it answers in context: `Router.solve` beside asking the model itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.throughput.records import WARM_UP, Record
from benchmarks.throughput.rounds import Schedule, interleaved, timed
from benchmarks.throughput.subject import Subject
from icl_engine.answering import answer_in_context
from icl_engine.probe import probe
from icl_engine.task import Task
from policies.cold_start import cold_start
from router.router import Router
from router.settings import Settings

DIRECT, PROBE, ROUTER = "answer_in_context", "probe, all held out", "Router.solve"
_BEYOND_ANY_GAIN = 1000.0  # a price of time at which the shipped policy never trains


def route(subject: Subject, tasks: Sequence[Task], schedule: Schedule) -> Iterator[Record]:
    """Answer every task in context, once a round, in three ways: short rounds, as a machine's pace changes in seconds.

    The router decides by the shipped policy, at a price at which that answers in context; the probe with every
    demonstration held out is what a policy pays for that asks for it. Tasks that get no answer in context are left
    out, for there the router trains.
    """
    place = "route", subject.name, ""
    if not schedule.is_left(place, (DIRECT, PROBE, ROUTER)):
        return
    tasks = [task for task in tasks if all(each.value is not None for each in answer_in_context(subject.model, task))]
    if not tasks:
        return
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        policy = cold_start(price=_BEYOND_ANY_GAIN, explore=0.0)
        with Router(settings, model=subject.model, policy=policy) as router:
            calls: dict[str, Callable[[], None]] = {
                DIRECT: lambda: _each(tasks, lambda task: answer_in_context(subject.model, task)),
                PROBE: lambda: _each(tasks, lambda task: probe(subject.model, task)),
                ROUTER: lambda: _each(tasks, router.solve),
            }
            for name, call in calls.items():
                seconds, noise, _ = timed(call, device=subject.device)
                yield Record(*place, name, WARM_UP, seconds, noise)
            for each in interleaved(calls, schedule, place, device=subject.device):
                figures = {"solves": float(len(tasks))}
                yield Record(*place, each.name, each.round, each.seconds, each.noise, figures)


def _each(tasks: Sequence[Task], call: Callable[[Task], object]) -> None:
    for task in tasks:
        call(task)
