"""Variants once more, with a process for every core: each holds the model and has its share of the tasks.

What peers do is given the same processes: a task that is trained alone can be trained anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.throughput.peers import FAIR, PEERS
from benchmarks.throughput.subject import Subject, endless, trained
from benchmarks.throughput.variants import OURS, Run, Setting, Solved, Stages, Variant
from icl_engine.task import Task
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.executors import Batch
from ttt_engine.executors.processes import ProcessesExecutor

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
        self._subjects: dict[tuple[Path, str, bool], Subject] = {}

    def run(
        self,
        tasks: Sequence[Task],
        asked: Asked,
        deadline_s: float | None,
        cancelled: Callable[[], bool],
        spent: Callable[[float], None],
    ) -> list[Part]:
        """Solve the tasks as the variant of that name does. Nothing ends it early."""
        subject = self._subject(asked)
        stages = Stages(subject.device)
        setting = Setting.of(subject.model, asked.lora, asked.training, n_views=asked.n_views, seed=asked.seed)
        solved = next(each for each in (*PEERS, *OURS) if each.name == asked.variant).run(
            subject, tasks, setting, stages
        )
        adapters = tuple({name: each.float().numpy() for name, each in of.items()} for of in solved.adapters)
        return [Part(replace(solved, adapters=()), adapters, stages.seconds, stages.passed_tokens, stages.rows)]

    def bury(self, worker: str) -> None:
        """Take note of nothing: what was trained elsewhere is of no use here."""

    def close(self) -> None:
        """Give back nothing: the process ends."""

    def _subject(self, asked: Asked) -> Subject:
        key = asked.folder, asked.dtype, asked.random_weights
        if key not in self._subjects:
            subject = trained(asked.folder, "cpu", asked.dtype)
            if asked.random_weights:
                subject = Subject(subject.name, subject.folder, endless(subject), random_weights=True)
            self._subjects[key] = subject
        return self._subjects[key]


@functools.cache
def _executor() -> ProcessesExecutor[Asked, Part]:
    """Return the processes of this program, which are kept from one run to the next."""
    executor: ProcessesExecutor[Asked, Part] = ProcessesExecutor()
    executor.start(Process)
    return executor


def shared_out(tasks: Sequence[Task], n: int) -> list[list[int]]:
    """Share tasks out by their size, each to whoever has least so far; return the places of each share."""
    sizes = [sum(len(str(pair.input)) + len(str(pair.output)) for pair in task.demonstrations) for task in tasks]
    shares: list[list[int]] = [[] for _ in range(n)]
    for place in sorted(range(len(tasks)), key=lambda i: -sizes[i]):
        min(shares, key=lambda share: sum(sizes[i] for i in share)).append(place)
    return [sorted(share) for share in shares if share]


def a_process_a_core(variant: str) -> Run:
    """Return a run of a variant in as many processes as there are cores, of one thread each.

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
        executor = _executor()
        once = Batch((tasks[0],), replace(asked, training=replace(asked.training, steps=1)))
        while len(executor.workers) < executor.most:  # a process that has to start is slow the first time
            executor.run([once] * executor.most)
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


def _once_more(variant: Variant) -> Variant:
    return replace(
        variant,
        name=f"{variant.name}, a process a core",
        about=f"`{variant.name}` in a process for every core, the tasks shared out by their length",
        run=a_process_a_core(variant.name),
    )


IN_PROCESSES = tuple(_once_more(each) for each in (*PEERS, *OURS) if each.name in (FAIR, "all together", "shorter"))
VARIANTS = (*PEERS, *OURS, *IN_PROCESSES)
