"""Every augmentation can be undone, and the views of a task are different, spread out, and the same every time."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.augmentations import TRANSFORMS, Augmentation, random_augmentation, transforms_for, views
from icl_engine.errors import TaskRefused
from icl_engine.task import Task
from tests.icl_engine.task_strategies import grid_tasks, grids, text_tasks

WIDE = Task.from_pairs([([[1, 2, 3], [4, 5, 6]], [[7]]), ([[1, 0]], [[2], [3]]), ([[5]], [[0]])], [[1, 2], [3, 4]])
ROWS = Task.from_pairs([([1, 2], [2, 1]), ([3], [3]), ([1, 1, 5], [5, 1, 1])], [3, 4, 5])
TEXT = Task.from_pairs([("a", "b"), ("c", "d"), ("e", "f")], "g")


@given(task=grid_tasks() | text_tasks(), seed=st.integers(0, 99))
def test_undoing_an_augmentation_gives_the_task_back(task: Task, seed: int) -> None:
    augmentation = random_augmentation(task, Random(seed))

    assert augmentation.undo(augmentation.apply(task)) == task
    assert augmentation.apply(augmentation.undo(task)) == task


@given(task=grid_tasks(), transform=st.sampled_from(sorted(TRANSFORMS)))
def test_every_transform_is_undone_on_any_shape(task: Task, transform: str) -> None:
    augmentation = Augmentation(transform)

    assert augmentation.undo(augmentation.apply(task)) == task
    assert augmentation.undo_value(augmentation.apply_value(task.query)) == task.query


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("identity", ((1, 2, 3), (4, 5, 6))),
        ("rotate90", ((4, 1), (5, 2), (6, 3))),
        ("rotate180", ((6, 5, 4), (3, 2, 1))),
        ("rotate270", ((3, 6), (2, 5), (1, 4))),
        ("flip_horizontal", ((3, 2, 1), (6, 5, 4))),
        ("flip_vertical", ((4, 5, 6), (1, 2, 3))),
        ("transpose", ((1, 4), (2, 5), (3, 6))),
        ("anti_transpose", ((6, 3), (5, 2), (4, 1))),
    ],
)
def test_each_transform_does_what_its_name_says(transform: str, expected: object) -> None:
    assert Augmentation(transform).apply_value(((1, 2, 3), (4, 5, 6))) == expected


@given(grid=grids())
def test_four_quarter_turns_and_two_transposes_change_nothing(grid: tuple[tuple[int, ...], ...]) -> None:
    turn, transpose = TRANSFORMS["rotate90"], TRANSFORMS["transpose"]

    assert turn(turn(turn(turn(grid)))) == grid
    assert transpose(transpose(grid)) == grid
    assert TRANSFORMS["anti_transpose"](grid) == TRANSFORMS["rotate180"](transpose(grid))


def test_an_order_says_which_demonstration_comes_first() -> None:
    reordered = Augmentation(order=(2, 0, 1)).apply(TEXT)

    assert [demonstration.input for demonstration in reordered.demonstrations] == ["e", "a", "c"]
    assert reordered.query == "g"


@given(task=grid_tasks(), seed=st.integers(0, 99))
def test_the_background_colour_is_never_changed(task: Task, seed: int) -> None:
    augmentation = random_augmentation(task, Random(seed))

    assert augmentation.apply_value(((0,),)) == ((0,),)


@given(task=grid_tasks() | text_tasks(), n=st.integers(1, 24), seed=st.integers(0, 9))
def test_views_are_different_begin_with_the_task_itself_and_grow_at_the_end(task: Task, n: int, seed: int) -> None:
    chosen = views(task, n, seed)

    assert chosen[0].apply(task) == task
    assert 1 <= len(chosen) <= n
    assert len({(view.transform, view.order, view.colours) for view in chosen}) == len(chosen)
    assert views(task, n + 5, seed)[: len(chosen)] == chosen


def test_views_go_round_the_transforms() -> None:
    assert Counter(view.transform for view in views(WIDE, 16, 0)) == dict.fromkeys(TRANSFORMS, 2)
    assert Counter(view.transform for view in views(ROWS, 10, 0)) == {"identity": 5, "flip_horizontal": 5}
    assert {view.transform for view in views(TEXT, 5, 0)} == {"identity"}


def test_views_of_text_are_every_order_and_no_more() -> None:
    chosen = views(TEXT, 50, 0)

    assert {view.order or (0, 1, 2) for view in chosen} == {
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)
    }  # fmt: skip
    assert len(chosen) == 6


def test_views_stop_where_the_task_has_no_more() -> None:
    blank = Task.from_pairs([([[0, 0], [0, 0]], [[0], [0]])], [[0]])
    one_colour = Task.from_pairs([([[0, 4], [0, 0]], [[0], [4]])], [[0]])

    assert len(views(blank, 100, 0)) == 8  # the transforms
    assert len(views(one_colour, 100, 0)) == 8 * 9  # and nine colours for the one


def test_views_depend_on_the_content_and_the_seed_alone() -> None:
    renamed = WIDE.model_copy(update={"id": "other"})

    assert views(renamed, 12, 7) == views(WIDE, 12, 7)
    assert views(WIDE, 12, 8) != views(WIDE, 12, 7)
    assert views(WIDE, 2, 7)[1] == Augmentation("rotate90", (0, 4, 5, 7, 1, 2, 9, 8, 3, 6), (0, 2, 1))


def test_there_are_views_enough_for_a_small_model() -> None:
    chosen = views(WIDE, 510, 0)

    assert len({view.apply(WIDE).fingerprint for view in chosen}) == 510
    assert set(Counter(view.transform for view in chosen).values()) == {63, 64}


def test_no_views_are_asked_for_and_none_are_given() -> None:
    assert views(WIDE, 0, 0) == ()


def test_tasks_of_one_row_are_only_mirrored() -> None:
    assert transforms_for(ROWS) == ("identity", "flip_horizontal")
    assert transforms_for(TEXT) == ("identity",)
    assert transforms_for(WIDE) == tuple(TRANSFORMS)


@pytest.mark.parametrize(
    ("augmentation", "task", "field"),
    [
        (Augmentation("rotate90"), TEXT, "transform"),
        (Augmentation(colours=tuple(range(10))), TEXT, "transform"),
        (Augmentation(order=(1, 0)), TEXT, "order"),
    ],
)
def test_an_augmentation_that_does_not_fit_the_task_is_refused(
    augmentation: Augmentation, task: Task, field: str
) -> None:
    with pytest.raises(TaskRefused) as caught:
        augmentation.apply(task)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("transform", "colours", "order"),
    [
        ("spin", None, None),
        ("identity", (1, 0, *range(2, 10)), None),
        ("identity", (0,), None),
        ("identity", None, (1,)),
    ],
)
def test_an_augmentation_that_cannot_be_undone_is_refused(
    transform: str, colours: tuple[int, ...] | None, order: tuple[int, ...] | None
) -> None:
    with pytest.raises(TaskRefused):
        Augmentation(transform, colours, order)
