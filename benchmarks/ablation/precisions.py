"""Rows of machines whose products in training are in unlike precision: a block of tasks is answered in one of them, so
that variants are held against each other on the same task in the same precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from benchmarks.ablation.jobs import Item, Job, Place, blocks, jobs, keys
from benchmarks.ablation.solving import Row
from benchmarks.ablation.variants import DEFAULT, VARIANTS, Variant
from icl_engine.inference_settings import Precision
from icl_engine.transformers_model import TransformersModel


class Rows:
    """The rows of a plan, as far as they are there. A block is of this machine's precision, but where the default has
    answered all of it in another, and not in this one: there, what lacks is computed in that one, however slowly.

    Attributes:
        known: those that are of the plan, in either precision.
        counted: of these, the ones in the precision of their block.
        n_tasks: with rows that count, by precision.
    """

    def __init__(self, rows: Sequence[Row], tasks: Sequence[Item], model: TransformersModel) -> None:
        self._model, self._tasks = model, tasks
        self._done = {_place(row) for row in rows}
        precisions = sorted(get_args(Precision), key=lambda each: each != precision_here(model))
        self._precision: dict[tuple[str, str], Precision] = {}
        for block in blocks(tasks):
            whole = [p for p in precisions if keys(block, [VARIANTS[DEFAULT]], model, p) <= self._done]
            self._precision |= dict.fromkeys(map(_named, block), (whole or precisions)[0])
        every = list(VARIANTS.values())
        wanted = {each: keys(tasks, self._differing(every, each), model, each) for each in precisions}
        self.known = [row for row in rows if any(_place(row) in places for places in wanted.values())]
        self.counted = [row for row in self.known if _place(row) in wanted[self._precision[row.set, row.task_id]]]
        self.n_tasks = Counter(self._precision[task] for task in {(row.set, row.task_id) for row in self.counted})

    def left(self, variants: Sequence[Variant]) -> list[Job]:
        """Return what these variants lack, in the order of the tasks."""
        found = [
            job
            for precision in get_args(Precision)
            for job in jobs(self._tasks, self._differing(variants, precision), self._model, self._done, precision)
            if self._precision[_named(job.tasks[0])] == precision
        ]
        order = {_named(task): place for place, task in enumerate(self._tasks)}
        return sorted(found, key=lambda job: order[_named(job.tasks[-1])])

    def _differing(self, variants: Sequence[Variant], precision: Precision) -> list[Variant]:
        return [each for each in variants if not each.is_the_default(self._model, precision)]


def precision_here(model: TransformersModel) -> Precision:
    """Return the precision that the default trains in, on this machine and by these settings."""
    training = VARIANTS[DEFAULT].plan(model, "grid").training
    assert training is not None, "the default trains"
    return training.precision


def _place(row: Row) -> Place:
    return row.key, row.set, row.task_id


def _named(task: Item) -> tuple[str, str]:
    return task.set, task.labelled.task.id
