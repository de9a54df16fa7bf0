"""A rewriting does the same to both sides of every pair, keeps to a task's limits, and leaves be what it cannot fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.leave_one_out import leave_one_out
from icl_engine.task import Demonstration, Grid, Task, Value
from icl_engine.values import DEFAULT_LIMITS
from tests.icl_engine.task_strategies import grids, text_tasks
from ttt_engine.augmenters import PAPER, VISUAL, VISUAL_ROW, Augmenter, Example, augmented, changes_length
from ttt_engine.config import AugmentationForm

FORMS: tuple[AugmentationForm, ...] = get_args(AugmentationForm)
G: Grid = ((1, 2, 3), (4, 5, 6))
SWAPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 9)  # a rule of cells, which leaves the background alone
ROWS = Task.from_pairs([([1, 2, 0], [0, 2, 1]), ([3, 0, 0], [0, 0, 3])], [4, 5, 0])


def task_of(inputs: list[Grid], rule: tuple[int, ...] = tuple(range(10))) -> Task:
    """A task of the rule that every cell becomes what `rule` says."""
    pairs = [(grid, tuple(tuple(rule[cell] for cell in row) for row in grid)) for grid in inputs]
    return Task.from_pairs(pairs, [inputs[0]])


def pairs_of(example: Example) -> list[tuple[Value, Value]]:
    shown, answer = example
    return [*((pair.input, pair.output) for pair in shown.demonstrations), (shown.query, answer)]


def grids_of(example: Example) -> Iterator[Grid]:
    for pair in pairs_of(example):
        for value in pair:
            assert not isinstance(value, str)
            yield value


def drawn(task: Task, form: AugmentationForm, n: int = 300) -> list[Example]:
    (first, *_), rng = leave_one_out(task), Random(0)
    return [augmented(first, form, rng) for _ in range(n)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", G),
        ("rotate90", ((4, 1), (5, 2), (6, 3))),
        ("rotate180", ((6, 5, 4), (3, 2, 1))),
        ("rotate270", ((3, 6), (2, 5), (1, 4))),
        ("flip_horizontal", ((3, 2, 1), (6, 5, 4))),
        ("flip_vertical", ((4, 5, 6), (1, 2, 3))),
        ("transpose", ((1, 4), (2, 5), (3, 6))),
        ("mirrored_below", ((1, 2, 3), (4, 5, 6), (4, 5, 6), (1, 2, 3))),
        ("mirrored_above", ((4, 5, 6), (1, 2, 3), (1, 2, 3), (4, 5, 6))),
        ("mirrored_right", ((1, 2, 3, 3, 2, 1), (4, 5, 6, 6, 5, 4))),
        ("mirrored_left", ((3, 2, 1, 1, 2, 3), (6, 5, 4, 4, 5, 6))),
        ("enlarged", ((1, 1, 2, 2, 3, 3), (1, 1, 2, 2, 3, 3), (4, 4, 5, 5, 6, 6), (4, 4, 5, 5, 6, 6))),
        ("heightened", ((1, 2, 3), (1, 2, 3), (4, 5, 6), (4, 5, 6))),
        ("widened", ((1, 1, 2, 2, 3, 3), (4, 4, 5, 5, 6, 6))),
        ("transpose_enlarged", ((1, 1, 4, 4), (1, 1, 4, 4), (2, 2, 5, 5), (2, 2, 5, 5), (3, 3, 6, 6), (3, 3, 6, 6))),
        ("repeated_below", ((1, 2, 3), (4, 5, 6), (1, 2, 3), (4, 5, 6))),
        ("repeated_right", ((1, 2, 3, 1, 2, 3), (4, 5, 6, 4, 5, 6))),
        ("repeated_both", ((1, 2, 3, 1, 2, 3), (4, 5, 6, 4, 5, 6)) * 2),
    ],
)
def test_each_augmenter_of_the_paper_does_what_its_name_says(name: str, expected: Grid) -> None:
    assert PAPER[name](Random(0))(G) == expected


def test_the_paper_has_twenty_three_and_the_identity() -> None:
    assert len(PAPER) == 24
    assert [name for name in PAPER if name.endswith("_enlarged")] == [
        f"{name}_enlarged"
        for name in ("rotate90", "rotate180", "rotate270", "flip_horizontal", "flip_vertical", "transpose")
    ]


@pytest.mark.parametrize("name", [name for name in PAPER if name.endswith("_enlarged")])
@given(grid=grids())
def test_a_chain_is_its_symmetry_enlarged(name: str, grid: Grid) -> None:
    symmetry = PAPER[name.removesuffix("_enlarged")](Random(0))

    assert PAPER[name](Random(0))(grid) == PAPER["enlarged"](Random(0))(symmetry(grid))


@given(grid=grids(), seed=st.integers(0, 99))
def test_what_is_rolled_out_of_a_grid_comes_back_in(grid: Grid, seed: int) -> None:
    rolled = PAPER["rolled"](Random(seed))(grid)
    shifts = {
        tuple(row[-along:] + row[:-along] for row in grid[-down:] + grid[:-down])
        for down in range(len(grid))
        for along in range(len(grid[0]))
    }

    assert rolled in shifts
    assert PAPER["rolled"](Random(17))(((1, 2, 3), (4, 5, 6))) != G


@pytest.mark.parametrize(("augmenters", "furthest_down"), [(VISUAL, 3), (VISUAL_ROW, 0)])
@given(grid=grids(), seed=st.integers(0, 99))
def test_a_translated_grid_is_whole_and_all_else_is_background(
    augmenters: Mapping[str, Augmenter], furthest_down: int, grid: Grid, seed: int
) -> None:
    moved = augmenters["translated"](Random(seed))(grid)
    n_rows, n_columns = len(grid), len(grid[0])
    corners = [
        (i, j)
        for i in range(len(moved) - n_rows + 1)
        for j in range(len(moved[0]) - n_columns + 1)
        if tuple(row[j : j + n_columns] for row in moved[i : i + n_rows]) == grid
    ]

    assert corners
    assert sum(map(sum, moved)) == sum(map(sum, grid))
    assert 0 <= len(moved) - n_rows <= furthest_down
    assert 0 <= len(moved[0]) - n_columns <= 3


def test_a_grid_is_translated_to_every_side() -> None:
    found = {VISUAL["translated"](Random(seed))(((5,),)) for seed in range(400)}

    assert {(5 in grid[0], 5 in grid[-1], len(grid)) for grid in found} >= {
        (True, True, 1), (True, False, 4), (False, True, 4), (False, False, 4)
    }  # fmt: skip
    assert {len(grid[0]) for grid in found} == {1, 2, 3, 4}


@given(inputs=st.lists(grids(), min_size=2, max_size=4), form=st.sampled_from(FORMS), seed=st.integers(0, 99))
def test_an_output_that_is_its_input_stays_so(inputs: list[Grid], form: AugmentationForm, seed: int) -> None:
    for example in leave_one_out(task_of(inputs)):
        assert all(given == wanted for given, wanted in pairs_of(augmented(example, form, Random(seed))))


@given(inputs=st.lists(grids(), min_size=2, max_size=4), form=st.sampled_from(FORMS), seed=st.integers(0, 99))
def test_a_rule_of_cells_stays_one_rule_of_cells(inputs: list[Grid], form: AugmentationForm, seed: int) -> None:
    for example in leave_one_out(task_of(inputs, SWAPPED)):
        becomes = {
            (a, b)
            for given, wanted in pairs_of(augmented(example, form, Random(seed)))
            for one, other in zip(given, wanted, strict=True)
            for a, b in zip(one, other, strict=True)
        }

        assert len({a for a, _ in becomes}) == len({b for _, b in becomes}) == len(becomes)
        assert all(a == b == 0 for a, b in becomes if 0 in (a, b))


@given(inputs=st.lists(grids(), min_size=2, max_size=4), form=st.sampled_from(FORMS), seed=st.integers(0, 99))
def test_the_same_draw_gives_the_same_sequence(inputs: list[Grid], form: AugmentationForm, seed: int) -> None:
    for example in leave_one_out(task_of(inputs)):
        assert augmented(example, form, Random(seed)) == augmented(example, form, Random(seed))


@given(task=text_tasks(), form=st.sampled_from(FORMS), seed=st.integers(0, 99))
def test_text_is_reordered_at_most(task: Task, form: AugmentationForm, seed: int) -> None:
    example = task, "the answer"
    shown, answer = augmented(example, form, Random(seed))

    assert (shown.queries, answer, shown.instruction) == (task.queries, "the answer", task.instruction)
    assert sorted(map(str, shown.demonstrations)) == sorted(map(str, task.demonstrations))


def test_none_changes_nothing_and_order_changes_the_order_alone() -> None:
    task = task_of([((1,),), ((2, 3),), ((4,), (5,)), ((6,),)])
    (first, *_) = leave_one_out(task)
    orders = {shown.demonstrations for shown, _ in drawn(task, "order", n=100)}

    assert {shown.demonstrations for shown, _ in drawn(task, "none")} == {first[0].demonstrations}
    assert len(orders) == 6
    assert {frozenset(order) for order in orders} == {frozenset(first[0].demonstrations)}
    assert {(shown.query, answer) for shown, answer in drawn(task, "order")} == {(first[0].query, first[1])}


@pytest.mark.parametrize(("form", "n_sizes"), [("invertible", 2), ("paper", 10), ("visual", 30)])
def test_sizes_are_those_that_the_augmenters_make(form: AugmentationForm, n_sizes: int) -> None:
    sizes = {(len(grid), len(grid[0])) for example in drawn(task_of([G, G]), form) for grid in grids_of(example)}
    paper = {(len(grid), len(grid[0])) for augmenter in PAPER.values() for grid in [augmenter(Random(0))(G)]}

    assert len(sizes) <= n_sizes
    assert sizes >= {(2, 3), (3, 2)}
    assert form != "paper" or sizes == paper
    assert form != "visual" or sizes >= {(6, 4), (4, 6), (6, 9), (9, 6), (5, 6)}


@pytest.mark.parametrize("form", ["paper", "visual"])
def test_no_grid_becomes_larger_than_a_task_may_have(form: AugmentationForm) -> None:
    for side in (12, 16, 30):
        task = task_of([((1, *[0] * (side - 1)),) * side, ((2,),)])
        held = [
            DEFAULT_LIMITS.hold(len(grid), len(grid[0]))
            for example in drawn(task, form, n=60)
            for grid in grids_of(example)
        ]

        assert all(held)


def test_what_does_not_fit_the_limits_is_dropped_and_the_rest_drawn_evenly() -> None:
    task = task_of([((1, *[0] * 15),) * 16, ((2,),)])
    queries = [shown.query for shown, _ in drawn(task, "paper", n=400) if not isinstance(shown.query, str)]
    n_turned = sum(len(set(query[0])) == 1 for query in queries)  # the column has become a row

    assert {(len(query), len(query[0])) for query in queries} == {(16, 16)}
    assert n_turned / len(queries) == pytest.approx(3 / 8, abs=0.09)  # of 8 that keep the size; 3.7 deviations
    assert len({max(map(max, query)) for query in queries}) == 9


def test_a_grid_beyond_the_limits_is_still_recoloured() -> None:
    large = Demonstration.model_construct(input=((1,) * 40,) * 40, output=((1,) * 40,) * 40)
    task = task_of([G, G]).replace(demonstrations=(large, large))

    assert len({max(map(max, shown.query)) for shown, _ in drawn(task, "visual", n=100)}) == 9


def test_what_does_not_fit_the_context_is_passed_over() -> None:
    (first, *_), rng = leave_one_out(task_of([G, G])), Random(0)

    def small(task: Task, answer: Value) -> bool:
        return len(answer) == 2

    kept = [augmented(first, "paper", rng, small) for _ in range(50)]

    assert {len(grid) for example in kept for grid in grids_of(example)} == {2}
    assert {len(grid[0]) for example in kept for grid in grids_of(example)} == {3, 6}
    assert all(augmented(first, form, rng, lambda task, answer: False) == first for form in FORMS)


def test_tasks_of_one_row_keep_it_but_for_the_paper_s_augmenters() -> None:
    rows = {form: {len(grid) for each in drawn(ROWS, form) for grid in grids_of(each)} for form in FORMS}
    widths = {len(grid[0]) for each in drawn(ROWS, "visual") for grid in grids_of(each)}

    assert rows["invertible"] == rows["order"] == rows["none"] == rows["visual"] == {1}
    assert rows["paper"] >= {1, 2, 3, 6}
    assert widths == {3, 4, 5, 6, 9}


def test_only_the_forms_that_change_sizes_are_said_to() -> None:
    assert [form for form in FORMS if changes_length(form)] == ["paper", "visual"]
