"""The task oracle: in each row the arm that turned out best there. Nothing that chooses can have a higher utility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Arm
from policies.exploration import best
from policies.replay import measured

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix
    from policies.pricing import Pricing

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TaskOracle:
    """Take the arm with the highest measured quality less price * measured cost; of equal ones the cheapest.

    It sees the outcomes, so it decides rows of matrices only.
    """

    pricing: Pricing

    @property
    def name(self) -> str:
        return "task_oracle"

    @property
    def version(self) -> str:
        return f"1:{self.pricing.described()}"

    def choose(self, matrix: OutcomeMatrix) -> Floats:
        """Return 1 for the best arm of each row, (n_rows, n_arms)."""
        costs = measured_costs(matrix, self.pricing)
        chosen = best(matrix.quality - self.pricing.price * costs, measured(matrix), costs)
        return np.eye(len(matrix.arms))[chosen]


def measured_costs(matrix: OutcomeMatrix, pricing: Pricing) -> Floats:
    """Return what each arm cost beyond the answer of `icl`, in mean costs of `ttt`; where it was not measured, 0."""
    costs: Floats = np.nan_to_num(matrix.cost_s) / dict(pricing.mean_cost_s)[Arm.TTT]
    if Arm.ICL in matrix.arms:
        costs[:, matrix.column(Arm.ICL)] = 0.0
    return costs
