"""Rows of machines whose products in training are in unlike precision: a block of tasks counts in one of them, so that
variants are held against each other on the same task in the same precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from benchmarks.ablation.jobs import Item, Job, Place, blocks, jobs, keys
from benchmarks.ablation.solving import Row
from benchmarks.ablation.variants import DEFAULT, VARIANTS, Variant
from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import Precision


class Rows:
    """The rows of a plan, as far as they are there.

    Attributes:
        known: those that are of the plan, in either precision.
        counted: of these, for each block, the ones in the precision of which more are there.
        n_tasks: with rows that count, by precision.
    """

    def __init__(self, rows: Sequence[Row], tasks: Sequence[Item], model: TransformersModel) -> None:
        self._model, self._tasks = model, tasks
        self._done = {place_of(row) for row in rows}
        self._blocks = blocks(tasks)
        own, *others = sorted(get_args(Precision), key=lambda each: each != precision_here(model))
        self._wanted = {each: keys(tasks, differing(model, each), model, each) for each in (own, *others)}
        self._precision: dict[tuple[str, str], Precision] = {}
        for block in self._blocks:
            there = Counter({each: len(self._of(block, self._done & self._wanted[each])) for each in self._wanted})
            most = max(self._wanted, key=lambda each: there[each])  # of as many, the machine's own
            self._precision |= {(task.set, task.labelled.task.id): most for task in block}
        self.known = [row for row in rows if any(place_of(row) in wanted for wanted in self._wanted.values())]
        self.counted = [
            row for row in self.known if place_of(row) in self._wanted[self._precision[row.set, row.task_id]]
        ]
        self.n_tasks = Counter(self._precision[task] for task in {(row.set, row.task_id) for row in self.counted})

    def left(self, variants: Sequence[Variant]) -> list[Job]:
        """Return what these variants lack, in this machine's precision; nothing of a block that is whole in another."""
        here = precision_here(self._model)
        others = [each for each in self._wanted if each != here]
        asked = {each: keys(self._tasks, variants, self._model, each) for each in others}
        whole = {
            id(task)
            for block in self._blocks
            if any(self._of(block, asked[each]) <= self._done for each in others)
            for task in block
        }
        found = jobs(self._tasks, variants, self._model, self._done, here)
        return [job for job in found if id(job.tasks[0]) not in whole]

    @staticmethod
    def _of(block: Sequence[Item], places: set[Place]) -> set[Place]:
        tasks = {(task.set, task.labelled.task.id) for task in block}
        return {place for place in places if place[1:] in tasks}


def place_of(row: Row) -> Place:
    """Return what says which row it is."""
    return row.key, row.set, row.task_id


def precision_here(model: TransformersModel) -> Precision:
    """Return the precision that the default trains in, on this machine and by these settings."""
    training = VARIANTS[DEFAULT].plan(model, "grid").training
    assert training is not None, "the default trains"
    return training.precision


def differing(model: TransformersModel, precision: Precision) -> list[Variant]:
    """Return the variants but for those that are the default in this precision."""
    return [each for each in VARIANTS.values() if not each.is_the_default(model, precision)]
