"""Variants once more, with a process for every core: each holds the model and has its share of the tasks.

What peers do is given the same processes: a task that is trained alone can be trained anywhere.
"""

from __future__ import annotations

import atexit
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.throughput.peers import FAIR, FAIR_IN_BF16, PEERS
from benchmarks.throughput.subject import Subject, endless, trained
from benchmarks.throughput.variants import IN_BF16, OURS, QUICKER, Run, Setting, Solved, Stages, Variant
from icl_engine.task import Task
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.executors import Batch
from ttt_engine.executors.processes import ProcessesExecutor

_START_S = 120.0  # for all processes

Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a process needs to be told; the first adapter it draws itself, from the same seed."""

    variant: str
    folder: Path
    dtype: str
    random_weights: bool
    lora: LoraSettings
    training: TrainingSettings
    n_views: int
    seed: int


@dataclass(frozen=True, slots=True)
class Part:
    """What came of the tasks of one process: `Solved` and `Stages` without what is torch's."""

    solved: Solved  # without adapters
    adapters: tuple[Arrays, ...]
    seconds: dict[str, float]
    passed_tokens: dict[str, int]
    rows: list[tuple[int, int]]


class Process:
    """A worker of the executor, which keeps its model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: dict[tuple[Path, str, bool, LoraSettings, TrainingSettings], tuple[Subject, Setting]] = {}

    def run(
        self,
        tasks: Sequence[Task],
        asked: Asked,
        deadline_s: float | None,
        cancelled: Callable[[], bool],
        spent: Callable[[float], None],
    ) -> list[Part]:
        """Solve the tasks as the variant of that name does. Nothing ends it early."""
        subject, setting = self._given(asked)
        stages = Stages(subject.device)
        solved = next(each for each in (*PEERS, *OURS) if each.name == asked.variant).run(
            subject, tasks, setting, stages
        )
        adapters = tuple({name: each.float().numpy() for name, each in of.items()} for of in solved.adapters)
        return [Part(replace(solved, adapters=()), adapters, stages.seconds, stages.passed_tokens, stages.rows)]

    def bury(self, worker: str) -> None:
        """Take note of nothing: what was trained elsewhere is of no use here."""

    def close(self) -> None:
        """Give back nothing: the process ends."""

    def _given(self, asked: Asked) -> tuple[Subject, Setting]:
        key = asked.folder, asked.dtype, asked.random_weights, asked.lora, asked.training
        if key not in self._kept:
            subject = trained(asked.folder, "cpu", asked.dtype)
            if asked.random_weights:
                subject = Subject(subject.name, subject.folder, endless(subject), random_weights=True)
            setting = Setting.of(subject.model, asked.lora, asked.training, n_views=asked.n_views, seed=asked.seed)
            self._kept[key] = subject, setting
        return self._kept[key]


_WARM: set[tuple[int, Asked]] = set()  # what every process of an executor of so many has done once


@functools.cache
def _executor(n: int) -> ProcessesExecutor[Asked, Part]:
    """Return so many processes of this program, which are kept from one run to the next."""
    executor: ProcessesExecutor[Asked, Part] = ProcessesExecutor(workers=n)
    executor.start(Process)
    atexit.register(executor.close)
    return executor


def _warmed_up(executor: ProcessesExecutor[Asked, Part], once: Batch[Asked]) -> None:
    """Have every process do something once: with the first batches they start, which takes seconds.

    Raises:
        RuntimeError: not all of them could be started.
    """
    until = time.monotonic() + _START_S
    executor.run([once] * executor.most)
    while len(executor.workers) < executor.most:
        if time.monotonic() > until:
            raise RuntimeError(f"only {len(executor.workers)} of {executor.most} processes could be started")
        executor.run([once] * executor.most)
    executor.run([once] * executor.most)


def shared_out(tasks: Sequence[Task], n: int) -> list[list[int]]:
    """Share tasks out by their size, each to whoever has least so far; return the places of each share."""
    sizes = [sum(len(str(pair.input)) + len(str(pair.output)) for pair in task.demonstrations) for task in tasks]
    shares: list[list[int]] = [[] for _ in range(n)]
    for place in sorted(range(len(tasks)), key=lambda i: -sizes[i]):
        min(shares, key=lambda share: sum(sizes[i] for i in share)).append(place)
    return [sorted(share) for share in shares if share]


def a_process_a_core(variant: str) -> Run:
    """Return a run of a variant in as many processes as this one has threads, of one thread each.

    What a stage took is the mean over the processes.
    """

    def run(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        asked = Asked(
            variant,
            subject.folder,
            str(subject.model.module.dtype).removeprefix("torch."),
            subject.random_weights,
            setting.lora,
            setting.training,
            setting.n_views,
            setting.seed,
        )
        executor = _executor(torch.get_num_threads())
        if (executor.most, asked) not in _WARM:  # the first call, which does not count
            _warmed_up(executor, Batch(tuple(tasks[:1]), asked))
            _WARM.add((executor.most, asked))
        shares = shared_out(tasks, executor.most)
        parts = [part for (part,) in executor.run([Batch(tuple(tasks[i] for i in share), asked) for share in shares])]
        for part in parts:
            for stage, seconds in part.seconds.items():
                stages.seconds[stage] = stages.seconds.get(stage, 0.0) + seconds / len(parts)
            for stage, n_tokens in part.passed_tokens.items():
                stages.passed_tokens[stage] = stages.passed_tokens.get(stage, 0) + n_tokens
            stages.rows += part.rows
        return _in_order(shares, parts)

    return run


def _in_order(shares: Sequence[Sequence[int]], parts: Sequence[Part]) -> Solved:
    found = {
        place: (part.solved.answers[i], _tensors(part.adapters[i]), part.solved.losses[i], part.solved.task_s[i])
        for share, part in zip(shares, parts, strict=True)
        for i, place in enumerate(share)
    }
    answers, adapters, losses, task_s = zip(*(found[place] for place in sorted(found)), strict=True)
    return Solved(answers, adapters, losses, task_s)


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def in_processes(variant: str) -> str:
    """Return what a variant is called in processes."""
    return f"{variant}, a process a core"


def _once_more(variant: Variant) -> Variant:
    return replace(
        variant,
        name=in_processes(variant.name),
        about=f"`{variant.name}` in a process for every core, the tasks shared out by their length",
        run=a_process_a_core(variant.name),
    )


_IN_PROCESSES = (FAIR, FAIR_IN_BF16, "together", "all together", IN_BF16, *QUICKER)
IN_PROCESSES = tuple(_once_more(each) for each in (*PEERS, *OURS) if each.name in _IN_PROCESSES)
VARIANTS = (*PEERS, *OURS, *IN_PROCESSES)
