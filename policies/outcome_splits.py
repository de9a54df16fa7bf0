"""Splits of an outcome matrix into rows to fit on and rows to judge on: by task, by family, by set.

The rows of one group (one task under several seeds, or the queries of one file) are never on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import OutcomesRefused
from policies.outcome_matrix import OutcomeMatrix

if TYPE_CHECKING:
    import numpy.typing as npt

    Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows a policy is fitted on and which it is judged on."""

    name: str  # of what is held out
    fit: Rows
    judge: Rows


def task_folds(matrix: OutcomeMatrix, n_folds: int, rng: np.random.Generator) -> tuple[Split, ...]:
    """Hold out a share of the groups at a time: the judged tasks are like those that were fitted on (i.i.d.)."""
    return _folds(task_groups(matrix), n_folds, rng)


def family_folds(matrix: OutcomeMatrix, n_folds: int, rng: np.random.Generator) -> tuple[Split, ...]:
    """Hold out whole families, of each set for itself, in folds of about equal size (grouped K-fold).

    Raises:
        OutcomesRefused: there is only one family.
    """
    return _folds(list(zip(matrix.sets, matrix.families, strict=True)), n_folds, rng)


def set_folds(matrix: OutcomeMatrix) -> tuple[Split, ...]:
    """Hold out one set at a time.

    Raises:
        OutcomesRefused: there is only one set.
    """
    names = sorted(set(matrix.sets))
    if len(names) < 2:
        raise OutcomesRefused("set", f"only {names}", remedy="Holding out a set needs at least two.")
    of = np.array(matrix.sets)
    return tuple(Split(name, np.flatnonzero(of != name), np.flatnonzero(of == name)) for name in names)


def task_groups(matrix: OutcomeMatrix) -> list[tuple[str, str]]:
    """Return what stands or falls together, for each row: the set and the group of its task."""
    return list(zip(matrix.sets, matrix.groups, strict=True))


def _folds(groups: Sequence[tuple[str, str]], n_folds: int, rng: np.random.Generator) -> tuple[Split, ...]:
    """Deal whole groups, the largest first and equals in a drawn order, each to the fold that is smallest so far."""
    names = sorted(set(groups))
    if len(names) < 2:
        raise OutcomesRefused("family", f"only {names}", remedy="Holding out needs at least two.")
    n_folds = min(n_folds, len(names))
    sizes = dict.fromkeys(names, 0)
    for group in groups:
        sizes[group] += 1
    drawn = [names[i] for i in rng.permutation(len(names))]
    filled, fold_of = [0] * n_folds, {}
    for name in sorted(drawn, key=lambda name: -sizes[name]):
        fold_of[name] = min(range(n_folds), key=filled.__getitem__)
        filled[fold_of[name]] += sizes[name]
    folds = np.array([fold_of[group] for group in groups])
    return tuple(
        Split(f"fold {k + 1} of {n_folds}", np.flatnonzero(folds != k), np.flatnonzero(folds == k))
        for k in range(n_folds)
    )
