"""Folds to judge a model on what it was not fitted on: kinds of task it has not seen, or what a log goes on with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from policies.outcome_splits import task_groups

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix

RUN = 25  # rows that follow each other in a log and are held out together


def family_folds(matrix: OutcomeMatrix, n_folds: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row, (n_rows,), from 0 to at most n_folds - 1.

    Families go from the largest to the smallest into the fold with the fewest rows. Where there are fewer families than
    folds, tasks stand in for them: rows of one task, and tasks of one group, stay together all the same.
    """
    few = len(set(matrix.families)) < n_folds
    groups = list(map("/".join, task_groups(matrix))) if few else matrix.families
    sizes = Counter(groups)
    filled, fold_of = np.zeros(n_folds, dtype=np.int64), {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fold_of[group] = int(np.argmin(filled))
        filled[fold_of[group]] += sizes[group]
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def run_folds(n_rows: int, n_folds: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row of a log in the order of time, (n_rows,): runs of rows are dealt out in turn.

    What a log goes on with is mostly of the families it has. A model that is held to what predicts families it has
    never seen believes its own features too little there, and one that is judged row by row knows the neighbours.
    """
    folds: npt.NDArray[np.int64] = np.arange(n_rows) // RUN % n_folds
    return folds
