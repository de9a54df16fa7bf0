"""The main comparison: every variant on the same tasks, round after round."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.throughput.floor import (
    answering_floor_s,
    lora_weights,
    measured_bytes_per_s,
    measured_flops_per_s,
    shape_of,
    training_flops,
)
from benchmarks.throughput.peers import FAIR
from benchmarks.throughput.records import WARM_UP, Record
from benchmarks.throughput.rounds import Schedule, interleaved_by_round, timed
from benchmarks.throughput.subject import Subject
from benchmarks.throughput.variants import (
    ONCE,
    Setting,
    Solved,
    Stages,
    Tensors,
    Variant,
    difference,
    n_solved,
    sequences_of,
)
from icl_engine.task import LabelledTask, Task

_GEMM_ROWS = {"cpu": (256, 1024, 4096), "cuda": (4096, 16_384, 65_536)}  # tokens in a pass of training


_TRIES = 5


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine gives at best, at a model's own sizes."""

    flops_per_s: float
    bytes_per_s: float

    @classmethod
    def measured(cls, subject: Subject, *, repeats: int) -> Rates:
        """Measure both, anew while another process disturbs it, up to a few times; the best counts."""
        tries = []
        for _ in range(_TRIES):
            _, noise, rates = timed(lambda: cls._once(subject, repeats), device=subject.device)
            tries.append(rates)
            if noise.quiet:
                break
        return cls(max(each.flops_per_s for each in tries), max(each.bytes_per_s for each in tries))

    @classmethod
    def _once(cls, subject: Subject, repeats: int) -> Rates:
        shape, device = shape_of(subject.model.module), subject.device
        rows = _GEMM_ROWS.get(device.type, _GEMM_ROWS["cpu"])
        return cls(
            measured_flops_per_s(shape, device, subject.model.module.dtype, rows=rows, repeats=repeats),
            measured_bytes_per_s(shape.weight_bytes, device, repeats=repeats),
        )


def training_floor_s(subject: Subject, tasks: Sequence[Task], setting: Setting, rates: Rates) -> float:
    """Return the least seconds of training on the tasks."""
    sequences = [each for task in tasks for each in sequences_of(subject.model, task, setting)]
    learned = sum(label >= 0 for each in sequences for label in each.labels)
    flops = training_flops(
        shape_of(subject.model.module),
        lora_weights(subject.model, setting.lora),
        [len(each.ids) for each in sequences],
        learned,
    )
    return flops / rates.flops_per_s


def compare(
    subject: Subject,
    tasks: Sequence[LabelledTask],
    setting: Setting,
    variants: Sequence[Variant],
    schedule: Schedule,
    *,
    repeats: int,
    tasks_a_round: int | None = None,
    section: str = "compare",
) -> Iterator[Record]:
    """Solve tasks with every variant in turn.

    Args:
        repeats: of each matrix product that the machine's rates are measured with.
        tasks_a_round: of which one part after the other is taken, those first that have the fewest rounds that count;
            None: all in each round.
    """
    place = section, subject.name, ""
    if not schedule.is_left(place, [variant.name for variant in variants]):
        return
    rates = Rates.measured(subject, repeats=repeats)
    parts = [tasks[i : i + (tasks_a_round or len(tasks))] for i in range(0, len(tasks), tasks_a_round or len(tasks))]
    bare = [[labelled.task for labelled in part] for part in parts]
    floors_s = [training_floor_s(subject, part, setting, rates) for part in bare]
    reference: Tensors | None = None
    for variant in variants:
        seconds, noise, (solved, _) = timed(
            functools.partial(_run, variant, subject, bare[0][:1], setting), device=subject.device
        )
        yield Record(*place, variant.name, WARM_UP, seconds, noise)
        if variant.name == FAIR:
            reference = solved.adapters[0]

    def calls_of(finished: Sequence[bool]) -> Mapping[str, Callable[[], tuple[int, tuple[Solved, Stages]]]]:
        part = part_after(finished, len(bare))
        return {
            variant.name: functools.partial(_run_part, part, variant, subject, bare, setting) for variant in variants
        }

    approximate = {variant.name for variant in variants if variant.column == "approximate"}
    names = [variant.name for variant in variants]
    for each in interleaved_by_round(names, calls_of, schedule, place, device=subject.device):
        part, (solved, stages) = each.given
        figures = {"part": float(part), "of_tasks": float(len(tasks))}
        figures |= _figures(subject, parts[part], solved, stages, rates)
        figures |= {"flops_per_s": rates.flops_per_s, "bytes_per_s": rates.bytes_per_s}
        if each.name not in approximate:  # which do less, or count in other numbers
            figures["train_floor_s"] = floors_s[part]
        is_of_some_layers = each.name in approximate and solved.adapters[0].keys() < (reference or {}).keys()
        if reference is not None and part == 0 and not is_of_some_layers:
            figures["differs"] = difference(solved.adapters[0], reference)
        seconds = each.seconds - stages.seconds.get(ONCE, 0.0)
        yield Record(*place, each.name, each.round, seconds, each.noise, figures)


def part_after(finished: Sequence[bool], n_parts: int) -> int:
    """Return which part of the tasks comes next, given of each round before whether it counts: the first of those that
    have the fewest rounds that do.
    """
    counts = [0] * n_parts
    for counted in finished:
        counts[counts.index(min(counts))] += counted
    return counts.index(min(counts))


def _run_part(
    part: int, variant: Variant, subject: Subject, parts: Sequence[Sequence[Task]], setting: Setting
) -> tuple[int, tuple[Solved, Stages]]:
    return part, _run(variant, subject, parts[part], setting)


def _run(variant: Variant, subject: Subject, tasks: Sequence[Task], setting: Setting) -> tuple[Solved, Stages]:
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
    stages = Stages(subject.device)
    return variant.run(subject, tasks, setting, stages), stages


def _figures(
    subject: Subject, tasks: Sequence[LabelledTask], solved: Solved, stages: Stages, rates: Rates
) -> dict[str, float]:
    reading_s, writing_s = answering_floor_s(
        shape_of(subject.model.module), stages.rows, flops_per_s=rates.flops_per_s, bytes_per_s=rates.bytes_per_s
    )
    figures = {
        "tasks": float(len(tasks)),
        "loss": statistics.mean(solved.losses),
        "answer_floor_s": reading_s + writing_s,
        **{f"task_{i}_s": seconds for i, seconds in enumerate(solved.task_s)},
        **{f"{stage}_s": seconds for stage, seconds in stages.seconds.items() if stage != ONCE},
        **{f"{stage}_tokens": float(n) for stage, n in stages.passed_tokens.items()},
    }
    if not subject.random_weights:
        figures["solved"] = float(n_solved(solved.answers, tasks))
    if subject.device.type == "cuda":
        figures["peak_bytes"] = float(torch.cuda.max_memory_allocated(subject.device))
    return figures
