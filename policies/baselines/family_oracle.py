"""The family oracle: the arm that turned out best on average for each kind of task.

A policy that does not beat it may only have recognised the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.baselines.task_oracle import measured_costs
from policies.exploration import best
from policies.replay import measured

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix
    from policies.pricing import Pricing

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FamilyOracle:
    """Take the arm with the highest mean of measured quality less price * measured cost in the row's family.

    It sees the outcomes, so it decides rows of matrices only. Where a row lacks that arm, the next best answers.
    """

    pricing: Pricing

    @property
    def name(self) -> str:
        return "family_oracle"

    @property
    def version(self) -> str:
        return f"1:{self.pricing.described()}"

    def choose(self, matrix: OutcomeMatrix) -> Floats:
        """Return 1 for the best arm of each row's family, (n_rows, n_arms)."""
        there, costs = measured(matrix), measured_costs(matrix, self.pricing)
        utilities = np.where(there, matrix.quality - self.pricing.price * costs, 0.0)
        families = np.array(["/".join(names) for names in zip(matrix.sets, matrix.families, strict=True)])
        mean_utilities, mean_costs = np.full(costs.shape, -np.inf), np.zeros(costs.shape)
        for family in np.unique(families):
            rows = families == family
            n = np.maximum(there[rows].sum(axis=0), 1)
            mean_utilities[rows] = utilities[rows].sum(axis=0) / n
            mean_costs[rows] = (costs * there)[rows].sum(axis=0) / n
        return np.eye(len(matrix.arms))[best(mean_utilities, there, mean_costs)]
