"""The tasks of the benchmark. To fit on: ARC training tasks and generated families that the embedded model was never
trained on. To report on: the public sets that nothing was trained or chosen on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from icl_engine.embedded.corpus import is_held_out_arc_task
from icl_engine.families import FAMILIES, HELD_OUT, sample_task
from icl_engine.loaders import load_tasks, task_kind
from icl_engine.task import LabelledTask, Task
from router.model_eval import SETS, TEXT_SET, load_set

ARC_TRAINING, GENERATED = "arc-training", "generated"
TO_FIT = (ARC_TRAINING, GENERATED)
TO_REPORT = SETS
GRID_PAIRS, TEXT_PAIRS = 4, 6  # of a generated task, the query's among them


@dataclass(frozen=True, slots=True)
class BenchTask:
    """One task of a set, and the family that splits hold out whole."""

    set: str
    family: str
    labelled: LabelledTask
    group: str = ""  # of the queries of one file, which share their demonstrations; default: the task's id


def load_bench_set(
    name: str,
    data: Path,
    *,
    fits: Callable[[LabelledTask], bool],
    limit: int | None = None,
    per_family: int = 20,
    n_queries: int | None = None,
) -> list[BenchTask]:
    """Return the tasks of a set that `fits`. Each query of a text file is a task of its own, with the file's
    demonstrations.

    Args:
        data: where the public sets are; `generated` needs none.
        per_family: tasks drawn of each generated family.
        n_queries: of a text file, the first so many; None: all.

    Raises:
        UnreadableTaskFile: the set is not there.
    """
    if name == GENERATED:
        return [each for each in generated_tasks(per_family) if fits(each.labelled)][:limit]
    if name == ARC_TRAINING:
        tasks = load_tasks(data / "arc-agi-1" / "training.json")
        kept = [labelled for labelled in tasks if is_held_out_arc_task(labelled.task.id) and fits(labelled)]
        return [BenchTask(name, name, labelled) for labelled in kept[:limit]]
    found = load_set(name, data, fits=fits, limit=limit, n_queries=n_queries).tasks
    if name == TEXT_SET:
        return [
            BenchTask(name, whole.task.id, each, group=whole.task.id)
            for whole in found
            for each in _single_queries(whole)
        ]
    return [BenchTask(name, task_kind(labelled.task.id) or name, labelled) for labelled in found]


def generated_tasks(per_family: int) -> list[BenchTask]:
    """Draw tasks of the families that are never trained on."""
    tasks = []
    for family in FAMILIES:
        if family.name not in HELD_OUT:
            continue
        rng = random.Random(f"bench/{family.name}")
        for i in range(per_family):
            *shown, (query, solution) = sample_task(rng, family, TEXT_PAIRS if family.kind == "text" else GRID_PAIRS)
            task = Task.from_pairs(shown, query, id=f"{family.name}_{i}")
            tasks.append(BenchTask(GENERATED, family.name, LabelledTask.parse(task, [solution])))
    return tasks


def _single_queries(whole: LabelledTask) -> list[LabelledTask]:
    return [
        LabelledTask(whole.task.for_query(i).model_copy(update={"id": f"{whole.task.id}-{i}"}), (known,))
        for i, known in enumerate(whole.solutions)
    ]
