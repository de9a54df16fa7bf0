"""The outcome matrix: every task of a set answered by every arm, with what each answer was worth and cost.

Every policy can be replayed on it, paired: what it would have chosen has been measured already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from policies.feature_values import NamedFeatures

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """n rows, a row for each task and seed."""

    tasks: tuple[str, ...]  # of each row; rows of one task differ in their seed
    families: tuple[str, ...]  # kind of task: what splits hold out whole
    sets: tuple[str, ...]  # the benchmark a task belongs to
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    quality: Floats  # (n_rows, n_arms), in [0, 1]; NaN: not measured
    cost_s: Floats  # (n_rows, n_arms), seconds; NaN: not measured
    feature_names: tuple[str, ...]
    features: Floats  # (n_rows, n_features); NaN: not known
    feature_cost_s: Floats  # (n_rows,), seconds spent on the features before the decision, the answer of `icl` included

    def __len__(self) -> int:
        return len(self.tasks)

    def column(self, arm: str) -> int:
        """Return the column of `arm`; ValueError where it is not in the matrix."""
        return self.arms.index(arm)

    def features_at(self, row: int, predicted_cost_s: tuple[tuple[str, float], ...] = ()) -> NamedFeatures:
        """Return the features of one row as a policy reads them, with costs that were predicted elsewhere: those that
        were measured are known only afterwards.
        """
        values = tuple(None if np.isnan(value) else float(value) for value in self.features[row])
        return NamedFeatures(self.feature_names, values, predicted_cost_s)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Self:
        """Return the matrix of these rows alone (indices or a mask)."""
        picked = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            tasks=tuple(self.tasks[i] for i in picked),
            families=tuple(self.families[i] for i in picked),
            sets=tuple(self.sets[i] for i in picked),
            seeds=tuple(self.seeds[i] for i in picked),
            quality=self.quality[picked],
            cost_s=self.cost_s[picked],
            features=self.features[picked],
            feature_cost_s=self.feature_cost_s[picked],
        )
