"""The budgeted oracle: the highest quality that a budget can buy, spent on the rows where it turned out to help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.budget import allocate, consumption, limit_of
from policies.wishes import Budget

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix


@dataclass(frozen=True, slots=True)
class BudgetedOracle:
    """Spend the budget where measured quality gains most for it. Sees the outcomes, so it decides matrices only."""

    budget: Budget

    @property
    def name(self) -> str:
        return "budgeted_oracle"

    @property
    def version(self) -> str:
        return f"1:budget=({self.budget})"

    def choose(self, matrix: OutcomeMatrix) -> npt.NDArray[np.float64]:
        """Return the best choice within the budget, (n_rows, n_arms); rows at the margin are drawn.

        Raises:
            BudgetUnreachable: even the cheapest arms spend more.
        """
        seconds = np.nan_to_num(matrix.cost_s).sum(axis=0).tolist()
        order = sorted(range(len(matrix.arms)), key=lambda j: (seconds[j], matrix.arms[j]))  # the first of equals wins
        consumed = consumption(matrix, self.budget)[:, order]
        found = allocate(matrix.quality[:, order], consumed, limit_of(self.budget))
        return found.propensities[:, np.argsort(order)]
