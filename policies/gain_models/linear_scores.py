"""Scores of linear heads: log-odds as a weighted sum of features, with Laplace's standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.gain_models.scaling import Scaler

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LinearScores:
    """All heads of a model; d = 1 + 2 n_features, the columns of `Scaler.design`."""

    scaler: Scaler
    coef: Floats  # (n_heads, d)
    covariance: Floats  # (n_heads, d, d)

    def log_odds(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the scores of rows (n_tasks, n_features) and their standard errors, (n_tasks, n_heads) each."""
        design = self.scaler.design(rows)
        variance = np.sum((design @ self.covariance) * design, axis=2).T  # (n_heads, n_tasks, d) before the sum
        return design @ self.coef.T, np.sqrt(np.maximum(variance, 0.0))

    def base(self) -> Floats:
        """Return the scores of the average task, (n_heads,)."""
        return self.coef[:, 0]

    def parts(self, row: Floats) -> Floats:
        """Return what each feature of one row adds to the base, (n_heads, n_features)."""
        parts = (self.coef * self.scaler.design(row[None]))[:, 1:]
        n = len(self.scaler)
        return parts[:, :n] + parts[:, n:]
