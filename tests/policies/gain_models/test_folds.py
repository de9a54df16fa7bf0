"""Folds keep families whole and of like size, or deal out runs of a log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.gain_models.folds import RUN, family_folds, run_folds
from tests.policies.gain_models.matrices import drawn


def test_no_family_is_in_two_folds() -> None:
    matrix = drawn(240).matrix

    folds = family_folds(matrix, 5)

    pairs = set(zip(matrix.families, folds.tolist(), strict=True))
    assert len(pairs) == len(set(matrix.families))
    assert np.bincount(folds).min() >= 40


@pytest.mark.parametrize("shared_by", ["the rows of a task", "the tasks of a file"])
def test_with_too_few_families_what_belongs_together_stays_together(shared_by: str) -> None:
    threes, alone = tuple(f"{i // 3}" for i in range(60)), tuple(f"{i}" for i in range(60))
    tasks = threes if shared_by == "the rows of a task" else alone
    matrix = replace(drawn(60).matrix, families=("one",) * 60, tasks=tasks, groups=threes)

    folds = family_folds(matrix, 4)

    assert np.bincount(folds).tolist() == [15, 15, 15, 15]
    assert all(len(set(folds[3 * i : 3 * i + 3])) == 1 for i in range(20))


def test_runs_of_a_log_are_dealt_out_in_turn() -> None:
    folds = run_folds(4 * RUN + 3, 3)

    assert folds.tolist() == [0] * RUN + [1] * RUN + [2] * RUN + [0] * RUN + [1] * 3
