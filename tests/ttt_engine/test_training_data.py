"""Training data are augmented leave-one-out tasks of the demonstrations: the same on every machine, for any query."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import pytest

from icl_engine.augmentations import TRANSFORMS, Augmentation, transforms_for
from icl_engine.errors import TooFewDemonstrations
from icl_engine.leave_one_out import leave_one_out
from icl_engine.task import Task, Value
from tests.models import GRID_TASK, ROW_TASK, TEXT_TASK
from ttt_engine.training_data import training_batches

THREE = Task.from_pairs(
    [([[1, 2], [3, 4]], [[2, 1]]), ([[0, 7, 1]], [[1, 7], [0, 0]]), ([[5], [6]], [[6], [6]])], [[[4, 5], [1, 1]]]
)
Batches = list[list[tuple[Task, Value]]]


def batches(task: Task, *, steps: int = 4, batch_size: int = 6, seed: int = 0) -> Batches:
    return list(training_batches(task, steps=steps, batch_size=batch_size, seed=seed))


def items(task: Task, *, n: int, seed: int = 0) -> list[tuple[Task, Value]]:
    return [item for batch in batches(task, steps=n, batch_size=1, seed=seed) for item in batch]


def cells(values: Iterable[Value]) -> list[int | tuple[int, int]]:
    """All cells and, after each grid, its shape."""
    found: list[int | tuple[int, int]] = []
    for value in values:
        assert not isinstance(value, str)
        found += [cell for row in value for cell in row] + [(len(value), len(value[0]))]
    return found


def content(task: Task, answer: Value) -> list[Value]:
    return [value for shown in task.demonstrations for value in (shown.input, shown.output)] + [task.query, answer]


def is_recoloured(before: list[Value], after: list[Value]) -> bool:
    """Say whether one exchange of colours, which leaves 0 alone, makes `after` of `before`."""
    old, new = cells(before), cells(after)
    pairs = set(zip(old, new, strict=True)) if len(old) == len(new) else set()
    return (
        bool(pairs)
        and len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
        and all(a == b for a, b in pairs if isinstance(a, tuple) or isinstance(b, tuple) or 0 in (a, b))
    )


def is_leave_one_out_of(task: Task, item: tuple[Task, Value]) -> bool:
    """Say whether some augmentation makes `item` of one of the leave-one-out tasks of `task`."""
    rewritten, answer = item
    n = len(rewritten.demonstrations)
    for transform in transforms_for(task):
        for order in permutations(range(n)):
            undone = Augmentation(transform, None, order)
            after = content(undone.undo(rewritten), undone.undo_value(answer))
            if any(is_recoloured(content(*left_out), after) for left_out in leave_one_out(task)):
                return True
    return False


@pytest.mark.parametrize("task", [THREE, ROW_TASK, GRID_TASK])
def test_every_item_is_a_leave_one_out_task_under_an_augmentation(task: Task) -> None:
    assert all(is_leave_one_out_of(task, item) for item in items(task, n=24))
    assert not is_leave_one_out_of(task, (task, task.query))


def test_text_is_reordered_and_nothing_else() -> None:
    pairs = {(shown.input, shown.output) for shown in TEXT_TASK.demonstrations}
    orders = set()
    for task, answer in items(TEXT_TASK, n=24):
        shown = tuple((shown.input, shown.output) for shown in task.demonstrations)
        orders.add(shown)

        assert {*shown, (task.query, answer)} == pairs
        assert task.instruction == TEXT_TASK.instruction
    assert len(orders) == 6


def test_each_demonstration_is_held_out_once_before_any_is_held_out_again() -> None:
    n = len(TEXT_TASK.demonstrations)
    held_out = [task.query for task, _ in items(TEXT_TASK, n=4 * n)]

    for start in range(0, 4 * n, n):
        assert set(held_out[start : start + n]) == {shown.input for shown in TEXT_TASK.demonstrations}
    assert len({tuple(held_out[start : start + n]) for start in range(0, 4 * n, n)}) > 1


def test_every_transform_and_every_colour_comes_up() -> None:
    grid = ((0, 1, 1), (0, 0, 1))
    square = Task.from_pairs([(grid, grid)] * 2, grid)
    seen = [task.query for task, _ in items(square, n=200)]
    shapes = {tuple(tuple(cell > 0 for cell in row) for row in query) for query in seen if not isinstance(query, str)}
    colours = {max(cell for row in query for cell in row) for query in seen if not isinstance(query, str)}

    assert len(shapes) == len({transform(grid) for transform in TRANSFORMS.values()})
    assert colours == set(range(1, 10))


def test_what_does_not_fit_when_rewritten_is_left_as_it_is() -> None:
    def fits(task: Task, answer: Value) -> bool:
        return not isinstance(answer, str) and len(answer) > 1

    plain = list(leave_one_out(ROW_TASK))
    held_to = [item for batch in training_batches(ROW_TASK, steps=2, batch_size=6, seed=0, fits=fits) for item in batch]
    square = Task.from_pairs([([[1, 2], [3, 4]], [[1], [2]])] * 2, [[1]])
    some = [item for batch in training_batches(square, steps=5, batch_size=8, seed=0, fits=fits) for item in batch]
    free = [item for batch in batches(square, steps=5, batch_size=8) for item in batch]

    assert all(item in plain for item in held_to)
    assert some == [item if fits(*item) else next(leave_one_out(square)) for item in free]
    assert not all(fits(*item) for item in free)


def test_there_are_as_many_batches_as_steps_and_as_many_items_as_asked_for() -> None:
    assert [len(batch) for batch in batches(THREE, steps=5, batch_size=7)] == [7] * 5
    assert batches(THREE, steps=0) == []


def test_more_steps_only_add_to_the_end() -> None:
    assert batches(THREE, steps=9)[:4] == batches(THREE, steps=4)


def test_the_queries_and_the_id_play_no_part() -> None:
    other = THREE.model_copy(update={"queries": (((9, 9),), ((8,),)), "id": "another"})

    assert [[(t.demonstrations, t.query, a) for t, a in batch] for batch in batches(other)] == [
        [(t.demonstrations, t.query, a) for t, a in batch] for batch in batches(THREE)
    ]


def test_another_seed_and_other_demonstrations_give_other_data() -> None:
    assert batches(THREE, seed=1) != batches(THREE, seed=0)
    assert batches(ROW_TASK) != batches(THREE)


@pytest.mark.parametrize("task", [THREE, TEXT_TASK], ids=["grid", "text"])
def test_the_same_data_come_out_under_another_hash_seed(task: Task) -> None:
    script = (
        "import sys\n"
        "from icl_engine.task import Task\n"
        "from ttt_engine.training_data import training_batches\n"
        "print(ascii(list(training_batches(Task.parse_json(sys.argv[1]), steps=4, batch_size=6, seed=0))))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script, task.model_dump_json()],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "4242")
    ]

    assert told == [ascii(batches(task))] * 2


def test_one_demonstration_is_too_few() -> None:
    single = THREE.replace(demonstrations=THREE.demonstrations[:1])

    with pytest.raises(TooFewDemonstrations):
        training_batches(single, steps=1, batch_size=1, seed=0)
