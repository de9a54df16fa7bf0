"""Measure throughput, write every measurement to a file and the tables into a document.

    python -m benchmarks.throughput                           # some hours on two cores that do nothing else
    python -m benchmarks.throughput --stop-after 3600         # as much as that; called again, it goes on
    python -m benchmarks.throughput --size gpu --device cuda
    python -m benchmarks.throughput --tasks FILE --section compare --variant "P1 fair naive" --variant together
    python -m benchmarks.throughput --tables runs/throughput.jsonl --out docs/performance.md   # measure nothing

Set OMP_NUM_THREADS as `--threads`. A round that another process disturbs does not count. What is in `--results` is not
measured again: a run may be broken off anywhere, and costs the round that was under way.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.throughput.comparing import compare
from benchmarks.throughput.decoding import decode_mixed
from benchmarks.throughput.growth import Axes, Point, grow
from benchmarks.throughput.in_processes import IN_PROCESSES, VARIANTS, in_processes
from benchmarks.throughput.memory import remember
from benchmarks.throughput.peers import FAIR, FAIR_IN_BF16, PEERS, TRL, has_trl
from benchmarks.throughput.records import (
    WARM_UP,
    About,
    Record,
    capabilities_here,
    finished,
    read,
    whole_lines,
    written,
)
from benchmarks.throughput.report import report, write_between_marks
from benchmarks.throughput.rounds import LEAST_ROUNDS, Schedule
from benchmarks.throughput.routing import route
from benchmarks.throughput.subject import GRID_SHAPES, SHAPES, Subject, held_out_tasks, tasks_of_file
from benchmarks.throughput.subject import trained as trained_subject
from benchmarks.throughput.subject import untrained as untrained_subject
from benchmarks.throughput.variants import IN_BF16, OURS, QUICKER, Setting, Variant
from policies.whole_files import write_whole
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import mixes_adapters

SECTIONS = ("compare", "decode", "route", "memory", "ladder", "growth")  # the most informative first
LADDER = (FAIR, "P1 merged", *(each.name for each in OURS))


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    tasks: int
    tasks_a_round: int  # of the main comparison, at least; two for each thread
    rounds: int
    steps: int
    n_views: int
    repeats: int  # of matrix products, and rounds of routing in one of the others
    adapters: tuple[int, ...]
    rows_each: int  # of each adapter
    memory_tasks: int
    axes: Axes
    growth_steps: int
    growth_rounds: int
    peer_tasks: int
    ladder_tasks: int
    ladder_rounds: int


_GROWING = {"tasks": (1, 8, 32, 128), "tokens": (64, 128, 256, 512, 1024), "rank": (4, 16, 64)}
SIZES = {
    "toy": Size(
        2,
        2,
        1,
        3,
        2,
        1,
        (1, 2),
        1,
        4,
        Axes(Point(tasks=2, tokens=64), {"tasks": (1, 2), "model": ("20k",)}),
        2,
        1,
        1,
        1,
        1,
    ),
    "cpu": Size(
        32,
        4,
        8,  # in which every task is met once
        40,
        8,
        5,
        (1, 8, 32),
        4,
        500,
        Axes(Point(tasks=8), {**_GROWING, "model": tuple(GRID_SHAPES)}),
        10,
        LEAST_ROUNDS,
        2,
        8,
        LEAST_ROUNDS,
    ),
    "gpu": Size(
        128,
        128,
        LEAST_ROUNDS,
        40,
        8,
        20,
        (1, 8, 32, 128),
        4,
        500,
        Axes(Point(tasks=64), {**_GROWING, "tasks": (1, 8, 32, 128, 512), "model": SHAPES}),
        10,
        LEAST_ROUNDS,
        2,
        64,
        LEAST_ROUNDS,
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if _lacks_trl(given):
        parser.error(
            f"the peer `{TRL}` cannot be measured, as TRL is not installed. Install it with "
            "`make .venv/.installed-bench`, or leave it out with --without-trl."
        )
    if given.device.startswith("cuda") and {*(given.variant or ())} & {each.name for each in IN_PROCESSES}:
        parser.error("variants with a process a core are for a CPU. Leave them out, or take --device cpu.")
    if given.tables:
        about, records = read(whole_lines(given.tables))
    else:
        torch.set_num_threads(given.threads)
        about, records = _measured(given)
    text = report(about, records)
    print(text)
    if given.out:
        write_between_marks(given.out, about.title, text)
        print(f"Written into {given.out}.", file=sys.stderr)


def _measured(given: argparse.Namespace) -> tuple[About, list[Record]]:
    """Measure what is not there yet, and write each line as soon as it is there: a run that is broken off goes on."""
    until = math.inf if given.stop_after is None else time.monotonic() + given.stop_after
    with tempfile.TemporaryDirectory() as folder:
        subject = _subject(given, Path(folder))
        about = About.here(subject.device, _plan(given, subject), allow_noise=given.allow_noise)
        records: list[Record] = []
        if given.results.exists():
            before, records = read(whole_lines(given.results))
            about = before.also(about)
        n_remembered = sum(each.section == "memory" for each in records)
        if n_remembered < (given.memory_tasks or SIZES[given.size].memory_tasks):  # of a process that is no more
            records = [each for each in records if each.section != "memory"]
        given.results.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            given.results, "".join([f"{written(about)}\n", *(f"{written(each)}\n" for each in records)]).encode()
        )
        warm = {(each.section, each.subject, each.place, each.name) for each in records if each.round == WARM_UP}
        schedule = Schedule(given.rounds or SIZES[given.size].rounds, given.allow_noise, until, finished(records))
        with given.results.open("a", encoding="utf-8") as file:
            for record in _records(subject, given, schedule):
                if record.round == WARM_UP and (record.section, record.subject, record.place, record.name) in warm:
                    continue  # warmed up anew
                print(written(record), file=file, flush=True)
                _say(record)
    return read(whole_lines(given.results))


def _say(record: Record) -> None:
    if record.section != "memory":
        place = f"{record.place}, " if record.place else ""
        line = f"{record.section}: {place}{record.name}, round {record.round + 1}: {record.seconds:.2f} s"
        print(line, file=sys.stderr, flush=True)


def _lacks_trl(given: argparse.Namespace) -> bool:
    """Say whether a peer is asked for, by name or by default, that cannot be measured here."""
    asked = given.variant or (_compared(torch.device("cpu")) if "compare" in (given.section or SECTIONS) else ())
    return not given.tables and TRL in asked and not given.without_trl and not has_trl()


def _plan(given: argparse.Namespace, subject: Subject) -> dict[str, object]:
    """Return what must be the same for a run to go on with another's results."""
    of_the_run = ("size", "variant", "model", "shape", "dtype", "seed")
    of_its_tasks = ("tasks", "n_tasks", "tasks_a_round", "max_tokens", "steps")
    asked: dict[str, object] = {
        name: None if getattr(given, name) is None else str(getattr(given, name)) for name in of_the_run + of_its_tasks
    }
    return asked | {
        "without_trl": str(given.without_trl),
        "capabilities": capabilities_here(),
        "prefers_bfloat16": str(subject.model.prefers_bfloat16),
        "fingerprint": subject.model.fingerprint,
        "sizes": repr(SIZES[given.size]),
        "lora": repr(LoraSettings()),
        "training": repr(_training(given)),
    }


def _training(given: argparse.Namespace) -> TrainingSettings:
    return TrainingSettings(steps=given.steps or SIZES[given.size].steps)


def _subject(given: argparse.Namespace, folder: Path) -> Subject:
    if given.shape is None:
        return trained_subject(given.model, given.device, given.dtype)
    device = "cuda" if given.device == "auto" and torch.cuda.is_available() else given.device.replace("auto", "cpu")
    return untrained_subject(given.shape, folder, torch.device(device))


def _records(subject: Subject, given: argparse.Namespace, schedule: Schedule) -> Iterator[Record]:
    size = SIZES[given.size]
    n_tasks = given.n_tasks or size.tasks
    if given.tasks:
        tasks = tasks_of_file(given.tasks, given.n_tasks, subject.model, most_tokens=given.max_tokens)
    else:
        tasks = held_out_tasks(n_tasks, subject.model, most_tokens=given.max_tokens, seed=given.seed)
    setting = Setting.of(subject.model, LoraSettings(), _training(given), n_views=size.n_views, seed=given.seed)
    bare = [labelled.task for labelled in tasks]
    ladder, growth = (
        replace(schedule, rounds=given.rounds or rounds) for rounds in (size.ladder_rounds, size.growth_rounds)
    )
    sections: dict[str, Callable[[], Iterator[Record]]] = {
        "compare": lambda: compare(
            subject,
            tasks,
            setting,
            _variants(given, _compared(subject.device), subject),
            schedule,
            repeats=size.repeats,
            tasks_a_round=given.tasks_a_round or max(size.tasks_a_round, 2 * given.threads),
        ),
        "ladder": lambda: compare(
            subject,
            tasks[: size.ladder_tasks],
            setting,
            _variants(given, LADDER, subject),
            ladder,
            repeats=size.repeats,
            section="ladder",
        ),
        "decode": lambda: decode_mixed(
            subject,
            setting,
            schedule,
            adapters=size.adapters,
            rows_each=size.rows_each,
            prompt_tokens=64,
            repeats=size.repeats,
        ),
        "route": lambda: route(subject, bare, replace(schedule, rounds=schedule.rounds * size.repeats)),
        "memory": lambda: remember(subject, setting, schedule, tasks=given.memory_tasks or size.memory_tasks),
        "growth": lambda: grow(
            subject,
            setting,
            size.axes,
            growth,
            steps=size.growth_steps,
            peer_tasks=size.peer_tasks,
            repeats=size.repeats,
        ),
    }
    return itertools.chain.from_iterable(sections[name]() for name in given.section or SECTIONS)


def _compared(device: torch.device) -> list[str]:
    """Name what the main comparison holds against each other on a device."""
    solved = "all together" if mixes_adapters(device) else "together"  # what `Router.solve_many` does there
    names = [*(each.name for each in PEERS if each.name != "P1 merged"), solved, IN_BF16, *QUICKER]
    return names + [each.name for each in IN_PROCESSES if each.name in map(in_processes, names)]


def _variants(given: argparse.Namespace, names: Sequence[str], subject: Subject) -> list[Variant]:
    """Return the variants that are asked for; by default those of `names`, without one that is not at home here."""
    left_out = {TRL} if given.without_trl else set()
    if not given.variant and not subject.model.prefers_bfloat16:
        of_bf16 = {FAIR_IN_BF16, IN_BF16}
        left_out |= of_bf16 | set(map(in_processes, of_bf16))
    if subject.device.type != "cpu":  # of which there is one
        left_out.update(each.name for each in IN_PROCESSES)
    return [each for each in VARIANTS if each.name in (given.variant or names) and each.name not in left_out]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=SIZES, default="cpu", help="how much is measured")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="all, where none is named")
    parser.add_argument("--variant", action="append", choices=[each.name for each in VARIANTS])
    parser.add_argument("--without-trl", action="store_true", help="leave the peer of TRL out")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the embedded one")
    parser.add_argument("--shape", choices=SHAPES, help="a model of random weights instead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tasks", type=Path, metavar="FILE", help="tasks as ARC writes them; default: generated ones")
    parser.add_argument("--n-tasks", type=int, metavar="N")
    parser.add_argument("--tasks-a-round", type=int, metavar="N", help="of the main comparison")
    parser.add_argument("--max-tokens", type=int, default=600, help="of a whole task; longer ones are left out")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--steps", type=int, metavar="N")
    parser.add_argument("--memory-tasks", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop-after", type=float, metavar="S", help="begin no round after so many seconds")
    parser.add_argument("--allow-noise", action="store_true", help="count rounds that another process disturbed, too")
    parser.add_argument("--results", type=Path, default=Path("runs/throughput.jsonl"))
    parser.add_argument("--tables", type=Path, metavar="FILE", help="measure nothing; make tables of these results")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a document whose tables are brought up to date")
    return parser


if __name__ == "__main__":
    main()
