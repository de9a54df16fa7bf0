"""What is to be done, in an order that can be broken off anywhere: tasks in one shuffled order, and on each of them all
that was asked for, so that every variant has answered the same tasks but for the last few.

A job is one training and all that is answered with it. Jobs whose rows are there are not done again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.ablation.variants import BOTH, Kind, Plan, Variant
from icl_engine.inference_settings import Precision
from icl_engine.task import LabelledTask
from icl_engine.transformers_model import TransformersModel

Fits = Callable[[LabelledTask], bool]
Place = tuple[str, str, str]  # of a row: its key, set and task id
SEED = 0
# is not said: rows from before there was a choice stay
_NOT_CHOSEN = (" dropout=0.0,", " top_layers=None,", " softmax_over='vocabulary',", ", views_precision='full'")
BLOCK: Mapping[Kind, int] = {"grid": 8, "text": 2}  # tasks that share an adapter; of text there are few


@dataclass(frozen=True, slots=True)
class Item:
    """A task and the set it is of."""

    set: str
    labelled: LabelledTask

    @property
    def kind(self) -> Kind:
        return self.labelled.task.kind


@dataclass(frozen=True, slots=True)
class Named:
    """The plan of a variant, and what says whether a row was made as it would be made now."""

    name: str
    plan: Plan
    key: str


@dataclass(frozen=True, slots=True)
class Job:
    """One training, and the variants that are answered with it."""

    tasks: tuple[Item, ...]  # one, or those that share an adapter
    plans: tuple[Named, ...]  # alike in what is trained


def shuffled(tasks: Sequence[Item]) -> list[Item]:
    """Return the tasks in the order that they are gone through, the same each time; sets are mixed."""
    ordered = sorted(tasks, key=lambda each: (each.set, each.labelled.task.id))
    random.Random("ablation/order").shuffle(ordered)
    return ordered


def blocks(tasks: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Return those that share an adapter: tasks of a kind that follow each other.

    Args:
        tasks: in the order they are gone through.
    """
    found: list[tuple[Item, ...]] = []
    for kind, size in BLOCK.items():
        alike = [each for each in tasks if each.kind == kind]
        found += [tuple(alike[start : start + size]) for start in range(0, len(alike), size)]
    return found


def jobs(
    tasks: Sequence[Item],
    variants: Sequence[Variant],
    model: TransformersModel,
    done: Collection[Place] = (),
    precision: Precision | None = None,
) -> Iterator[Job]:
    """Yield what is left to do.

    Args:
        tasks: in the order they are gone through.
        done: the rows that are there.
        precision: of products in training; None: as the settings say.
    """
    plans: dict[Kind, list[tuple[str, Plan]]] = {
        kind: [(each.name, each.plan(model, kind, precision)) for each in variants if kind in each.kinds]
        for kind in BOTH
    }
    ended = {id(block[-1]): block for block in blocks(tasks)}
    for task in tasks:
        yield from _left((task,), [each for each in plans[task.kind] if not _is_of_a_block(each[1])], model, done)
        if block := ended.get(id(task)):
            yield from _left(block, [each for each in plans[task.kind] if _is_of_a_block(each[1])], model, done)


def keys(
    tasks: Sequence[Item], variants: Sequence[Variant], model: TransformersModel, precision: Precision | None = None
) -> set[Place]:
    """Return what says which rows these would come to."""
    return {
        (named.key, task.set, task.labelled.task.id)
        for job in jobs(tasks, variants, model, precision=precision)
        for named in job.plans
        for task in job.tasks
    }


def _left(
    tasks: tuple[Item, ...],
    plans: Sequence[tuple[str, Plan]],
    model: TransformersModel,
    done: Collection[Place],
) -> Iterator[Job]:
    """Yield a job for each training that is left, with the plans whose rows are not all there."""
    together: dict[Plan, list[Named]] = {}
    for name, plan in plans:
        key = _key(name, plan, model, tasks)
        if any((key, each.set, each.labelled.task.id) not in done for each in tasks):
            together.setdefault(plan.trained, []).append(Named(name, plan, key))
    yield from (Job(tasks, tuple(alike)) for alike in together.values())


def _is_of_a_block(plan: Plan) -> bool:
    return plan.adapter in ("shared", "pooled", "begun")


def _key(name: str, plan: Plan, model: TransformersModel, tasks: Sequence[Item]) -> str:
    """Say what rows hang on: demonstrations and queries too. Rows of a block have one key."""
    of = [each.labelled.task.fingerprint for each in tasks]
    said = repr((name, model.fingerprint, SEED, plan, of))
    for not_chosen in _NOT_CHOSEN:
        said = said.replace(not_chosen, "")
    return hashlib.sha256(said.encode()).hexdigest()[:16]
