"""Generated tasks: every family draws valid, informative tasks, and the same ones everywhere for a seed."""

import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from icl_engine.families import FAMILIES, GRID_FAMILIES, HELD_OUT, ROW_FAMILIES, Family, Pair, Raw, sample_task
from icl_engine.families.family import Rejected, is_allowed_size

GRID_AND_ROW = [family for family in FAMILIES if family.kind != "text"]
PRINT_DRAWS = """
import random
from icl_engine.families import FAMILIES, sample_task
print([sample_task(random.Random(7), family, 3) for family in FAMILIES if family.kind != "text"])
"""


def drawn(family: Family, n_tasks: int = 4, n_pairs: int = 4) -> list[list[Pair]]:
    rng = random.Random(f"{family.name} in tests")
    return [sample_task(rng, family, n_pairs) for _ in range(n_tasks)]


def is_grid(value: Raw) -> bool:
    if isinstance(value, str):
        return False
    same_width = len({len(row) for row in value}) == 1
    cells = [cell for row in value for cell in row]
    return is_allowed_size(value) and same_width and all(0 <= cell <= 9 for cell in cells)


@pytest.mark.parametrize("family", GRID_AND_ROW, ids=lambda family: family.name)
def test_all_values_are_rectangular_grids_of_digits_of_allowed_size(family: Family) -> None:
    values = [value for task in drawn(family) for pair in task for value in pair]

    assert all(map(is_grid, values))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_task_has_the_asked_number_of_pairs_with_different_inputs(family: Family) -> None:
    for task in drawn(family):
        assert len(task) == 4
        assert len({repr(given) for given, _ in task}) == 4


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_task_is_not_trivial(family: Family) -> None:
    for task in drawn(family):
        assert any(given != answer for given, answer in task)
        assert len({repr(answer) for _, answer in task}) > 1


@pytest.mark.parametrize("family", ROW_FAMILIES, ids=lambda family: family.name)
def test_row_tasks_have_one_row(family: Family) -> None:
    heights = {len(value) for task in drawn(family) for pair in task for value in pair if not isinstance(value, str)}

    assert heights == {1}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_seed_decides_the_task(family: Family) -> None:
    first, again = (sample_task(random.Random(3), family, 3) for _ in range(2))

    assert first == again


def test_draws_do_not_depend_on_the_hash_seed() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT_DRAWS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]

    assert printed[0] == printed[1]


def test_names_are_unique() -> None:
    counts = Counter(family.name for family in FAMILIES)

    assert max(counts.values()) == 1


def test_held_out_names_are_sorted_families_and_about_a_tenth() -> None:
    names = [family.name for family in FAMILIES]

    assert list(HELD_OUT) == sorted(set(HELD_OUT))
    assert set(HELD_OUT) <= set(names)
    assert 0.07 <= len(HELD_OUT) / len(names) <= 0.13


def test_there_are_families_enough() -> None:
    assert len(GRID_FAMILIES) >= 60
    assert len(ROW_FAMILIES) >= 30


def test_most_grid_tasks_are_short() -> None:
    lengths = sorted(
        sum(len(value) * (len(value[0]) + 1) + 2 for pair in task for value in pair)
        for family in GRID_AND_ROW
        for task in drawn(family)
    )

    assert lengths[len(lengths) * 3 // 4] < 500


def test_a_family_that_only_repeats_its_input_is_rejected() -> None:
    idle = Family("idle", "grid", lambda rng, n_pairs: [([[i]], [[i]]) for i in range(n_pairs)])

    with pytest.raises(Rejected):
        sample_task(random.Random(0), idle, 3)


def test_the_rule_of_gravity_keeps_the_cells_of_every_column_or_row() -> None:
    gravity = next(family for family in FAMILIES if family.name == "gravity")

    for task in drawn(gravity):
        for given, answer in task:
            columns = [Counter(column) for column in zip(*given, strict=True)], [Counter(row) for row in given]
            fallen = [Counter(column) for column in zip(*answer, strict=True)], [Counter(row) for row in answer]
            assert columns[0] == fallen[0] or columns[1] == fallen[1]
