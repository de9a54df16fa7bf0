"""Training data are augmented sequences of the demonstrations alone: the same on every machine, for any query."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, permutations
from pathlib import Path
from typing import get_args

import pytest

from icl_engine.augmentations import TRANSFORMS, Augmentation, transforms_for
from icl_engine.errors import TooFewDemonstrations
from icl_engine.leave_one_out import leave_one_out, leave_two_out
from icl_engine.task import Task, Value
from tests.models import GRID_TASK, ROW_TASK, TEXT_TASK
from ttt_engine.config import AugmentationForm, DataForm
from ttt_engine.training_data import training_batches, typical_sequences

THREE = Task.from_pairs(
    [([[1, 2], [3, 4]], [[2, 1]]), ([[0, 7, 1]], [[1, 7], [0, 0]]), ([[5], [6]], [[6], [6]])], [[[4, 5], [1, 1]]]
)
FOUR = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")], "e")
Batches = list[list[tuple[Task, Value]]]
DATA: tuple[DataForm, ...] = get_args(DataForm)
AUGMENTATIONS: tuple[AugmentationForm, ...] = get_args(AugmentationForm)


def batches(
    task: Task,
    *,
    steps: int = 4,
    batch_size: int = 6,
    seed: int = 0,
    data: DataForm = "leave_one_out",
    augmentation: AugmentationForm = "invertible",
    max_sequences: int | None = None,
) -> Batches:
    return list(
        training_batches(
            task,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            data=data,
            augmentation=augmentation,
            max_sequences=max_sequences,
        )
    )


def items(task: Task, *, n: int, seed: int = 0) -> list[tuple[Task, Value]]:
    return [item for batch in batches(task, steps=n, batch_size=1, seed=seed) for item in batch]


def plain(task: Task, data: DataForm, *, n: int) -> list[tuple[Task, Value]]:
    """The first n items of a form, without augmentation."""
    (batch,) = batches(task, steps=1, batch_size=n, data=data, augmentation="none")
    return batch


def pairs_of(item: tuple[Task, Value]) -> list[tuple[Value, Value]]:
    """What is shown, in order, and, last, what is asked for."""
    task, answer = item
    return [*((shown.input, shown.output) for shown in task.demonstrations), (task.query, answer)]


def cells(values: Iterable[Value]) -> list[int | tuple[int, int]]:
    """All cells and, after each grid, its shape."""
    found: list[int | tuple[int, int]] = []
    for value in values:
        assert not isinstance(value, str)
        found += [cell for row in value for cell in row] + [(len(value), len(value[0]))]
    return found


def same_items(some: list[tuple[Task, Value]], others: list[tuple[Task, Value]]) -> bool:
    """Say whether these are the same items, as often, in whatever order."""
    return Counter(map(ascii, some)) == Counter(map(ascii, others))


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
        "from typing import get_args\n"
        "from icl_engine.task import Task\n"
        "from ttt_engine.config import AugmentationForm, DataForm\n"
        "from ttt_engine.training_data import training_batches\n"
        "task = Task.parse_json(sys.argv[1])\n"
        "for data in get_args(DataForm):\n"
        "    for augmentation in get_args(AugmentationForm):\n"
        "        for most in (None, 5):\n"
        "            choices = {'data': data, 'augmentation': augmentation, 'max_sequences': most}\n"
        "            print(ascii(list(training_batches(task, steps=4, batch_size=6, seed=0, **choices))))"
    )
    here = [
        ascii(batches(task, data=data, augmentation=augmentation, max_sequences=most))
        for data in DATA
        for augmentation in AUGMENTATIONS
        for most in (None, 5)
    ]
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

    assert told == ["\n".join(here)] * 2


def test_one_demonstration_is_too_few() -> None:
    single = THREE.replace(demonstrations=THREE.demonstrations[:1])

    with pytest.raises(TooFewDemonstrations):
        training_batches(single, steps=1, batch_size=1, seed=0)


# The other forms


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_of_every_form_the_same_holds(data: DataForm, augmentation: AugmentationForm) -> None:
    other = FOUR.model_copy(update={"queries": ("y", "z"), "id": "another"})
    drawn = batches(FOUR, data=data, augmentation=augmentation)

    assert batches(FOUR, data=data, augmentation=augmentation) == drawn
    assert batches(FOUR, steps=2, data=data, augmentation=augmentation) == drawn[:2]
    assert batches(FOUR, seed=1, data=data, augmentation=augmentation) != drawn
    assert [[pairs_of(item) for item in batch] for batch in batches(other, data=data, augmentation=augmentation)] == [
        [pairs_of(item) for item in batch] for batch in drawn
    ]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_every_item_is_made_of_demonstrations_of_the_task(data: DataForm, augmentation: AugmentationForm) -> None:
    given = {(shown.input, shown.output) for shown in FOUR.demonstrations}
    for batch in batches(FOUR, data=data, augmentation=augmentation):
        for item in batch:
            assert set(pairs_of(item)) <= given
            assert len(set(pairs_of(item))) == len(pairs_of(item))


def test_two_left_out_top_up_one_left_out_in_every_round() -> None:
    one, two = list(leave_one_out(FOUR)), list(leave_two_out(FOUR))
    n = len(one) + len(two)
    drawn = plain(FOUR, "leave_two_out", n=3 * n)

    assert (len(one), len(two)) == (4, 12)
    for start in range(0, 3 * n, n):
        assert same_items(drawn[start : start + 4], one)
        assert same_items(drawn[start + 4 : start + n], two)
    assert drawn[:n] != drawn[n : 2 * n]


def test_two_demonstrations_are_left_out_one_at_a_time() -> None:
    assert batches(GRID_TASK, data="leave_two_out") == batches(GRID_TASK)


def test_where_only_two_left_out_fit_the_context_they_are_used_alone() -> None:
    def fits(task: Task, answer: Value) -> bool:
        return len(task.demonstrations) <= 2

    (some,) = training_batches(FOUR, steps=1, batch_size=24, seed=0, fits=fits, data="leave_two_out")
    (none,) = training_batches(
        FOUR, steps=1, batch_size=16, seed=0, fits=lambda task, answer: False, data="leave_two_out"
    )

    assert {len(task.demonstrations) for task, _ in some} == {2}
    assert {len(task.demonstrations) for task, _ in none} == {2, 3}


def test_shuffles_show_all_demonstrations_in_any_order() -> None:
    drawn = [tuple(pairs_of(item)) for item in plain(FOUR, "shuffles", n=400)]

    assert set(drawn) == set(permutations((shown.input, shown.output) for shown in FOUR.demonstrations))
    assert all(task.instruction == TEXT_TASK.instruction for task, _ in plain(TEXT_TASK, "shuffles", n=5))


def test_shuffles_may_ask_for_the_same_demonstration_again() -> None:
    asked = [task.query for task, _ in plain(FOUR, "shuffles", n=100)]

    assert any(one == other for one, other in pairwise(asked))


def test_direct_shows_no_demonstrations_and_asks_for_each_in_turn() -> None:
    drawn = plain(FOUR, "direct", n=12)

    assert all(task.demonstrations == () for task, _ in drawn)
    for start in range(0, 12, 4):
        assert {(task.query, answer) for task, answer in drawn[start : start + 4]} == {
            (shown.input, shown.output) for shown in FOUR.demonstrations
        }
    assert all(task.instruction == TEXT_TASK.instruction for task, _ in plain(TEXT_TASK, "direct", n=5))


def test_direct_pairs_of_one_row_stay_of_one_row() -> None:
    (batch,) = batches(ROW_TASK, steps=1, batch_size=40, data="direct")

    assert {len(value) for item in batch for pair in pairs_of(item) for value in pair} == {1}


@pytest.mark.parametrize("data", ["shuffles", "direct"])
def test_one_demonstration_is_enough_where_none_is_left_out(data: DataForm) -> None:
    single = THREE.replace(demonstrations=THREE.demonstrations[:1])
    given = [(single.demonstrations[0].input, single.demonstrations[0].output)]

    assert [pairs_of(item) for item in plain(single, data, n=3)] == [given] * 3


@pytest.mark.parametrize("data", DATA)
def test_no_demonstration_is_too_few_for_any_form(data: DataForm) -> None:
    with pytest.raises(TooFewDemonstrations):
        training_batches(THREE.replace(demonstrations=()), steps=1, batch_size=1, seed=0, data=data)


# How many there are, and how long


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("most", [1, 5, 24])
def test_as_many_sequences_as_are_asked_for_are_drawn_and_then_drawn_again(data: DataForm, most: int) -> None:
    (free,) = batches(THREE, steps=1, batch_size=5 * most, data=data)
    (capped,) = batches(THREE, steps=1, batch_size=5 * most, data=data, max_sequences=most)

    assert capped[:most] == free[:most]
    for start in range(0, 5 * most, most):
        assert same_items(capped[start : start + most], free[:most])
    assert most == 1 or capped[most : 2 * most] != capped[2 * most : 3 * most]


def test_a_cap_that_is_not_reached_changes_nothing() -> None:
    assert batches(THREE, max_sequences=24) == batches(THREE)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("leave_one_out", list(leave_one_out(THREE))),
        ("leave_two_out", [*leave_one_out(THREE), *leave_two_out(THREE)]),
    ],
)
def test_sequences_that_keep_their_length_are_typical_as_they_are(
    data: DataForm, expected: list[tuple[Task, Value]]
) -> None:
    assert typical_sequences(THREE, seed=0, data=data) == expected
    assert typical_sequences(THREE, seed=0, data="shuffles") == list(leave_one_out(THREE))[-1:]
    assert [len(task.demonstrations) for task, _ in typical_sequences(THREE, seed=0, data="direct")] == [0, 0, 0]


def test_sequences_that_grow_are_typical_as_they_are_drawn() -> None:
    drawn = [item for batch in batches(THREE, steps=10, augmentation="paper") for item in batch]

    assert typical_sequences(THREE, seed=0, augmentation="paper") == drawn[:32]
    assert typical_sequences(TEXT_TASK, seed=0, augmentation="paper") == list(leave_one_out(TEXT_TASK))
