"""Features on one scale: mean 0 and deviation 1 on the tasks it was fitted on, 0 where a value is not known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from policies.feature_values import feature_row
from policies.replay import feature_columns

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]

_FARTHEST = 5.0  # deviations; one wild value must not outweigh everything else


@dataclass(frozen=True, slots=True)
class Standardising:
    """Mean and deviation of each feature."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]  # above 0

    @classmethod
    def of(cls, matrix: OutcomeMatrix, names: Sequence[str]) -> Self:
        """Take means and deviations from a matrix; of a feature that is nowhere known, or the same everywhere, 1."""
        columns = feature_columns(matrix, tuple(names)).T
        known = [column[~np.isnan(column)] for column in columns]
        means = [float(values.mean()) if len(values) else 0.0 for values in known]
        deviations = [float(values.std()) if len(values) else 0.0 for values in known]
        return cls(tuple(names), tuple(means), tuple(std if std > 1e-12 else 1.0 for std in deviations))

    def row(self, features: FeatureValues) -> Floats:
        """Return the features of one task, shape (n_features,)."""
        row: Floats = self.rows(feature_row(features, self.names)[None, :])[0]
        return row

    def rows(self, values: Floats) -> Floats:
        """Return the features of many, (n_tasks, n_features), from the raw ones with NaN for what is not known."""
        scaled = (values - np.array(self.means)) / np.array(self.deviations)
        clipped: Floats = np.clip(np.nan_to_num(scaled, nan=0.0), -_FARTHEST, _FARTHEST)
        return clipped

    def described(self) -> str:
        """Return what a version must name."""
        said = repr((self.names, self.means, self.deviations))
        return f"features={hashlib.sha256(said.encode()).hexdigest()[:8]}"
