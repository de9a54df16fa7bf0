"""Counting what came of many tasks."""

from __future__ import annotations

from router.tally import Tally
from tests.router.fakes import grid_task, solution_of, text_task

ROW, OTHER = ((0, 5, 4),), ((9, 9, 9),)


def test_a_task_is_solved_by_either_candidate() -> None:
    tally = Tally()
    tally.add(solution_of(grid_task("flip_1"), OTHER, ROW), (ROW,))
    tally.add(solution_of(grid_task("flip_2"), ROW, arm="ttt"), (ROW,))
    tally.add(solution_of(grid_task("flip_3"), OTHER), (ROW,))

    assert (tally.all.n, tally.all.solved, tally.all.first_right) == (3, 2, 1)
    assert tally.all.arms == {"icl": 2, "ttt": 1}


def test_tasks_without_a_solution_are_not_counted() -> None:
    tally = Tally()
    tally.add(solution_of(text_task(), "True"), (None,))

    assert tally.all.n == 0
    assert tally.kinds == {}


def test_kinds_are_counted_apart() -> None:
    tally = Tally()
    tally.add(solution_of(grid_task("flip_1"), ROW), (ROW,))
    tally.add(solution_of(grid_task("move_1"), OTHER), (ROW,))

    assert {kind: count.solved for kind, count in tally.kinds.items()} == {"flip": 1, "move": 0}
