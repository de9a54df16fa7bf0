"""A sketch is alike where tasks are alike, and the same wherever it is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

from icl_engine.families import FAMILIES, sample_task
from icl_engine.task import Task
from tests.models import GRID_TASK, ROW_TASK, TASKS, TEXT_TASK
from ttt_engine.stores.sketch import PLACES, likeness, nearest, sketch_of


def of_family(name: str, seed: int) -> Task:
    family = next(each for each in FAMILIES if each.name == name)
    *shown, (query, _) = sample_task(Random(f"{name}/{seed}"), family, 4)
    return Task.from_pairs(shown, query)


def test_a_task_is_like_itself_whatever_its_query_and_order() -> None:
    for task in TASKS:
        sketch = sketch_of(task)

        assert len(sketch) == PLACES
        assert all(0 <= number < 2**32 for number in sketch)
        assert likeness(sketch, sketch) == 1.0
        assert sketch_of(task.replace(demonstrations=task.demonstrations[::-1])) == sketch
        assert sketch_of(task.replace(queries=task.queries * 2)) == sketch


def test_tasks_of_other_kinds_are_not_alike() -> None:
    assert likeness(sketch_of(ROW_TASK), sketch_of(TEXT_TASK)) < 0.1
    assert likeness(sketch_of(GRID_TASK), sketch_of(TEXT_TASK)) < 0.1
    assert likeness((), ()) == likeness((1,), (1, 2)) == 0.0


def test_the_nearest_come_first_and_the_unlike_not_at_all() -> None:
    sketches = {"a": (1, 2, 3, 4), "b": (1, 2, 0, 0), "c": (9, 9, 9, 9), "d": (1, 2, 3, 4)}

    assert nearest((1, 2, 3, 4), sketches, n=3, least=0.5) == [(1.0, "a"), (1.0, "d"), (0.5, "b")]
    assert nearest((7, 7, 7, 7), sketches, least=0.1) == []


def test_the_nearest_of_many_grid_tasks_is_more_often_of_the_same_family_than_by_chance() -> None:
    names = sorted({family.name for family in FAMILIES if family.kind == "row"})[:12]
    kept = {f"{name} {i}": sketch_of(of_family(name, i)) for name in names for i in range(3)}
    right = sum(nearest(sketch_of(of_family(name, 99)), kept)[0][1].startswith(f"{name} ") for name in names)

    assert right >= 5  # by chance: 1 of 12


def test_a_sketch_is_the_same_under_another_hash_seed() -> None:
    script = (
        "import sys\nfrom icl_engine.task import Task\nfrom ttt_engine.stores.sketch import sketch_of\n"
        "print(sketch_of(Task.parse_json(sys.argv[1])), 'torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, ROW_TASK.model_dump_json()],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.strip() == f"{sketch_of(ROW_TASK)} False"
