"""Policies on outcome matrices: what each would do with every row.

A policy for live tasks is asked row by row. One that can do all rows at once, or that must see more than features (an
oracle sees what came of every arm), says so by having `choose`. Where `ttt` is worth most, a policy may also put in
numbers, for frontiers and rankings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from policies.decision import Arm, Policy
from policies.errors import ArmUnavailable
from policies.feature_values import FeatureValues

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

PREDICTED_COST = "predicted_cost_s."  # feature columns of this name and an arm's: seconds predicted for that arm


@runtime_checkable
class ReplayPolicy(Protocol):
    """Decides every row of a matrix at once."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def choose(self, matrix: OutcomeMatrix) -> Floats:
        """Return the probability of each arm in each row, (n_rows, n_arms); 0 for an arm that was not measured there.

        Rows sum to 1.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """Says of tasks how much more `ttt` is worth there than `icl`; only the order counts."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def score(self, features: FeatureValues) -> float:
        """Return a finite number, the higher the more `ttt` is worth."""
        ...

    def scores(self, matrix: OutcomeMatrix) -> Floats:
        """Return the score of every row, shape (n_rows,)."""
        ...


def choices_of(policy: Policy | ReplayPolicy, matrix: OutcomeMatrix) -> Floats:
    """Return the probability with which `policy` takes each arm in each row, (n_rows, n_arms); rows sum to 1.

    Where the arm a policy insists on was not measured in a row, the answer in context stands, as in a solve.

    Raises:
        ArmUnavailable: the matrix does not have that arm at all, or a row has no measured arm.
    """
    if isinstance(policy, ReplayPolicy):
        return policy.choose(matrix)
    chosen = np.zeros((len(matrix), len(matrix.arms)))
    there, costs = measured(matrix), predicted_costs(matrix)
    for row in range(len(matrix)):
        columns = np.flatnonzero(there[row])
        arms = tuple(matrix.arms[j] for j in columns)
        predicted = tuple((arm, s) for arm, s in zip(matrix.arms, costs[row].tolist(), strict=True) if s == s)
        features = matrix.features_at(row, tuple(sorted(predicted)))
        try:
            chosen[row, columns] = policy.propensities(features, arms)
        except ArmUnavailable as error:
            if error.arm not in matrix.arms or Arm.ICL not in arms:
                raise
            chosen[row, matrix.column(Arm.ICL)] = 1.0
    return chosen


def measured(matrix: OutcomeMatrix) -> Mask:
    """Return which arms each row can be answered with, (n_rows, n_arms): those whose quality is known."""
    return ~np.isnan(matrix.quality)


def predicted_costs(matrix: OutcomeMatrix) -> Floats:
    """Return the seconds that were predicted before the decision, (n_rows, n_arms); NaN where none are recorded.

    They are feature columns: `predicted_cost_s.ttt` holds those of `ttt`.
    """
    predicted = np.full((len(matrix), len(matrix.arms)), np.nan)
    for j, arm in enumerate(matrix.arms):
        if f"{PREDICTED_COST}{arm}" in matrix.feature_names:
            predicted[:, j] = matrix.features[:, matrix.feature_names.index(f"{PREDICTED_COST}{arm}")]
    return predicted


def feature_columns(matrix: OutcomeMatrix, names: tuple[str, ...]) -> Floats:
    """Return the named features of all rows, (n_rows, n_names); NaN where a value or a whole column is not known."""
    columns = np.full((len(matrix), len(names)), np.nan)
    for j, name in enumerate(names):
        if name in matrix.feature_names:
            columns[:, j] = matrix.features[:, matrix.feature_names.index(name)]
    return columns
