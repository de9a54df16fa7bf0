"""The paper's views leave one demonstration out each, come in the number the paper has, and can be undone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.paper_views import PAPER_TRANSFORMS, LeaveOutView, paper_views
from icl_engine.task import Task
from tests.icl_engine.task_strategies import grid_tasks, text_tasks


def of(n: int, *, text: bool = False) -> Task:
    if text:
        return Task.from_pairs([(f"in {i}", f"out {i}") for i in range(n)], "in")
    return Task.from_pairs([([[i, 1], [2, 3]], [[i], [4]]) for i in range(n)], [[5, 6]])


@pytest.mark.parametrize(("n", "n_views"), [(1, 6), (2, 7), (3, 11), (4, 17), (5, 20), (9, 32)])
def test_there_are_three_for_each_demonstration_and_five_more(n: int, n_views: int) -> None:
    chosen = paper_views(of(n), 0)

    assert len(chosen) == n_views  # fewer than 4 demonstrations have not so many orders
    assert len(set(chosen)) == n_views
    assert Counter(view.transform for view in chosen) == {
        **dict.fromkeys(PAPER_TRANSFORMS, 1), "identity": n_views - 5
    }  # fmt: skip


def test_each_demonstration_is_left_out_once_before_the_turned_and_the_reordered() -> None:
    chosen = paper_views(of(4), 0)

    assert {view.shown for view in chosen[:4]} == {(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)}
    assert [view.transform for view in chosen[4:9]] == list(PAPER_TRANSFORMS)
    assert Counter(tuple(sorted(view.shown)) for view in chosen[9:]) == dict.fromkeys(
        [view.shown for view in chosen[:4]], 2
    )


@given(task=grid_tasks() | text_tasks(), seed=st.integers(0, 9), n_left_out=st.integers(1, 2))
def test_a_view_shows_what_it_says_and_is_undone_on_values(task: Task, seed: int, n_left_out: int) -> None:
    n = len(task.demonstrations)
    for view in paper_views(task, seed, n_left_out=n_left_out):
        seen = view.apply(task)

        assert len(seen.demonstrations) == max(n - n_left_out, 1)
        assert view.undo_value(seen.query) == task.query
        assert view.apply_value(task.query) == seen.query
        for i, shown in zip(view.shown, seen.demonstrations, strict=True):
            assert view.undo_value(shown.output) == task.demonstrations[i].output


def test_text_is_left_out_of_and_reordered_but_not_turned() -> None:
    assert {view.transform for view in paper_views(of(4, text=True), 0)} == {"identity"}
    assert len(paper_views(of(4, text=True), 0)) == 12


def test_tasks_of_one_row_are_only_mirrored() -> None:
    rows = Task.from_pairs([([i, 1], [1, i]) for i in range(4)], [1, 2])

    assert {view.transform for view in paper_views(rows, 0)} == {"identity", "flip_horizontal"}


def test_they_depend_on_the_content_and_the_seed_alone() -> None:
    renamed = of(4).model_copy(update={"id": "other"})

    assert paper_views(renamed, 7) == paper_views(of(4), 7)
    assert paper_views(of(4), 7) != paper_views(of(4), 8)
    assert paper_views(of(4), 7)[4] == LeaveOutView((3, 1, 0), "transpose")  # whatever the hash seed
