"""Measure throughput, write every measurement to a file and the tables into a document.

    python -m benchmarks.throughput                           # some hours on two cores that do nothing else
    python -m benchmarks.throughput --size gpu --device cuda
    python -m benchmarks.throughput --tasks FILE --section compare --variant "P1 fair naive" --variant together
    python -m benchmarks.throughput --tables runs/throughput.jsonl --out docs/performance.md   # measure nothing

Set OMP_NUM_THREADS as `--threads`. A round that another process disturbs does not count.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.throughput.comparing import compare
from benchmarks.throughput.decoding import decode_mixed
from benchmarks.throughput.growth import Axes, Point, grow
from benchmarks.throughput.memory import remember
from benchmarks.throughput.peers import PEERS, has_trl
from benchmarks.throughput.records import About, Record, read, written
from benchmarks.throughput.report import report, write_between_marks
from benchmarks.throughput.routing import route
from benchmarks.throughput.subject import GRID_SHAPES, SHAPES, Subject, held_out_tasks, tasks_of_file
from benchmarks.throughput.subject import trained as trained_subject
from benchmarks.throughput.subject import untrained as untrained_subject
from benchmarks.throughput.variants import OURS, Setting, Variant
from ttt_engine.config import LoraSettings, TrainingSettings

SECTIONS = ("compare", "decode", "route", "memory", "growth")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    tasks: int
    rounds: int
    steps: int
    n_views: int
    repeats: int  # of matrix products, and of every task that is routed
    adapters: tuple[int, ...]
    rows_each: int  # of each adapter
    memory_tasks: int
    axes: Axes
    growth_steps: int
    growth_rounds: int
    peer_tasks: int


_GROWING = {"tasks": (1, 8, 32, 128), "tokens": (64, 128, 256, 512, 1024), "rank": (4, 16, 64)}
SIZES = {
    "toy": Size(
        2, 1, 3, 2, 1, (1, 2), 1, 4, Axes(Point(tasks=2, tokens=64), {"tasks": (1, 2), "model": ("20k",)}), 2, 1, 1
    ),
    "cpu": Size(
        32, 5, 40, 8, 5, (1, 8, 32), 4, 500, Axes(Point(), {**_GROWING, "model": tuple(GRID_SHAPES)}), 10, 3, 2
    ),
    "gpu": Size(
        128,
        5,
        40,
        8,
        20,
        (1, 8, 32, 128),
        4,
        500,
        Axes(Point(tasks=64), {**_GROWING, "tasks": (1, 8, 32, 128, 512), "model": SHAPES}),
        10,
        3,
        2,
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    given = _parser().parse_args(arguments)
    if given.tables:
        about, records = read(given.tables.read_text(encoding="utf-8").splitlines())
    else:
        torch.set_num_threads(given.threads)
        about, records = _measured(given)
    text = report(about, records)
    print(text)
    if given.out:
        write_between_marks(given.out, about.kind, text)
        print(f"Written into {given.out}.", file=sys.stderr)


def _measured(given: argparse.Namespace) -> tuple[About, list[Record]]:
    """Measure, and write each line as soon as it is there: a run that is broken off leaves what it has."""
    with tempfile.TemporaryDirectory() as folder:
        subject = _subject(given, Path(folder))
        about = About.here(subject.device, allow_noise=given.allow_noise)
        given.results.parent.mkdir(parents=True, exist_ok=True)
        records = []
        with given.results.open("w", encoding="utf-8") as file:
            print(written(about), file=file, flush=True)
            for record in _records(subject, given):
                print(written(record), file=file, flush=True)
                if record.section != "memory":
                    place = f"{record.place}, " if record.place else ""
                    print(
                        f"{record.section}: {place}{record.name}, round {record.round + 1}: {record.seconds:.2f} s",
                        file=sys.stderr,
                        flush=True,
                    )
                records.append(record)
    return about, records


def _subject(given: argparse.Namespace, folder: Path) -> Subject:
    if given.shape is None:
        return trained_subject(given.model, given.device, given.dtype)
    device = "cuda" if given.device == "auto" and torch.cuda.is_available() else given.device.replace("auto", "cpu")
    return untrained_subject(given.shape, folder, torch.device(device))


def _records(subject: Subject, given: argparse.Namespace) -> Iterator[Record]:
    size = SIZES[given.size]
    rounds, n_tasks = given.rounds or size.rounds, given.n_tasks or size.tasks
    if given.tasks:
        tasks = tasks_of_file(given.tasks, given.n_tasks, subject.model, most_tokens=given.max_tokens)
    else:
        tasks = held_out_tasks(n_tasks, subject.model, most_tokens=given.max_tokens, seed=given.seed)
    training = TrainingSettings(steps=given.steps or size.steps)
    setting = Setting.of(subject.model, LoraSettings(), training, n_views=size.n_views, seed=given.seed)
    sections = {
        "compare": lambda: compare(
            subject,
            tasks,
            setting,
            _variants(given),
            rounds=rounds,
            repeats=size.repeats,
            allow_noise=given.allow_noise,
        ),
        "decode": lambda: decode_mixed(
            subject,
            setting,
            adapters=size.adapters,
            rows_each=size.rows_each,
            prompt_tokens=64,
            rounds=rounds,
            repeats=size.repeats,
            allow_noise=given.allow_noise,
        ),
        "route": lambda: route(
            subject,
            [labelled.task for labelled in tasks],
            rounds=rounds,
            repeats=size.repeats,
            allow_noise=given.allow_noise,
        ),
        "memory": lambda: remember(subject, setting, tasks=given.memory_tasks or size.memory_tasks),
        "growth": lambda: grow(
            subject,
            setting,
            size.axes,
            steps=size.growth_steps,
            peer_tasks=size.peer_tasks,
            rounds=size.growth_rounds,
            repeats=size.repeats,
            allow_noise=given.allow_noise,
        ),
    }
    return itertools.chain.from_iterable(sections[name]() for name in given.section or SECTIONS)


def _variants(given: argparse.Namespace) -> list[Variant]:
    here = [each for each in (*PEERS, *OURS) if has_trl() or not each.name.startswith("P2")]
    return [each for each in here if not given.variant or each.name in given.variant]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=SIZES, default="cpu", help="how much is measured")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="all, where none is named")
    parser.add_argument("--variant", action="append", choices=[each.name for each in (*PEERS, *OURS)])
    parser.add_argument("--model", type=Path, help="folder of a model; default: the embedded one")
    parser.add_argument("--shape", choices=SHAPES, help="a model of random weights instead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tasks", type=Path, metavar="FILE", help="tasks as ARC writes them; default: generated ones")
    parser.add_argument("--n-tasks", type=int, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=600, help="of a whole task; longer ones are left out")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--steps", type=int, metavar="N")
    parser.add_argument("--memory-tasks", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow-noise", action="store_true", help="count rounds that another process disturbed, too")
    parser.add_argument("--results", type=Path, default=Path("runs/throughput.jsonl"))
    parser.add_argument("--tables", type=Path, metavar="FILE", help="measure nothing; make tables of these results")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a document whose tables are brought up to date")
    return parser


if __name__ == "__main__":
    main()
