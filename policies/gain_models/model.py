"""The gain model that has been fitted: calibrated heads, what their gains are made of, and how it explains itself.

The same for every kind; they differ in where the scores come from. Scikit-learn is not needed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.gain_model import Contribution, Estimates
from policies.gain_models.calibration import Calibration
from policies.gain_models.forest import ForestScores
from policies.gain_models.heads import mixtures_of
from policies.gain_models.linear_scores import LinearScores
from policies.gain_models.past_tasks import PastTask, PastTasks
from policies.gain_models.scaling import Scaler

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from."""

    n_rows: int  # it was fitted on
    training_digest: str  # SHA-256 of those rows
    feature_schema: str  # what the features mean, as the one who fitted it named it
    parent: str | None  # version id of the policy it was to replace
    made_with: tuple[tuple[str, str], ...]  # (library, version)
    settings: tuple[tuple[str, float], ...] = ()  # thresholds and the like that a policy keeps with its model


@dataclass(frozen=True, slots=True)
class LearnedGainModel:
    """A `policies.gain_model.GainModel`.

    Gains are `direct_weight` times the difference of `only` and `only_icl`, and for the rest the difference of the
    arm's `correct` head and that of `icl`. A standard error takes the heads of either pair as independent and the two
    ways to the gain as saying the same.
    """

    name: str
    feature_names: tuple[str, ...]
    arms: tuple[str, ...]
    scaler: Scaler
    scores: LinearScores | ForestScores  # log-odds of each head, a sum over features
    calibrations: tuple[Calibration, ...]  # of each head
    direct_weight: Floats  # (n_arms,), in [0, 1]
    past: PastTasks
    provenance: Provenance

    def estimate(self, rows: Floats) -> Estimates:
        """Estimate from rows of shape (n_tasks, n_features); NaN where a feature is not known."""
        log_odds, spread = self.scores.log_odds(self._checked(rows))
        chances = self.chances(log_odds)
        slopes = np.array([calibration.slope for calibration in self.calibrations])
        variance = (chances * (1.0 - chances) * slopes * spread) ** 2
        direct, indirect = mixtures_of(self.arms)
        by_heads, by_difference = np.sqrt(variance @ direct**2), np.sqrt(variance @ indirect**2)
        return Estimates(
            arms=self.arms,
            p_correct=chances[:, : len(self.arms)],
            gain=chances @ self._mixture(),
            p_only=chances @ np.maximum(direct, 0.0),
            gain_std=self.direct_weight * by_heads + (1.0 - self.direct_weight) * by_difference,
        )

    def average_gain(self, arm: str) -> float:
        """Return the gain of the average task, which contributions are counted from."""
        return float(self.chances(self.scores.base()[None])[0] @ self._mixture()[:, self.arms.index(arm)])

    def explain(self, row: Floats, arm: str) -> tuple[Contribution, ...]:
        """Return what each feature adds to the gain of `arm` for one row (n_features,), the largest first.

        A score is a sum over features, and a chance is a function of its score alone. So the integral of its gradient
        along the straight path of scores from the average task shares the change out in proportion to what each feature
        adds to the score, and the shares add up to it exactly.

        Source: Sundararajan, Taly, Yan 2017 (integrated gradients), in closed form for one path.
        """
        (row,) = self._checked(row[None])
        base, parts = self.scores.base(), self.scores.parts(row)
        mixture = self._mixture()[:, self.arms.index(arm)]
        ends = base + parts.sum(axis=1)
        per_score = [curve.secant(a, b) for curve, a, b in zip(self.calibrations, base, ends, strict=True)]
        gains = (mixture * per_score) @ parts
        found = [
            Contribution(name, None if np.isnan(value) else float(value), float(typical), float(gain))
            for name, value, typical, gain in zip(self.feature_names, row, self.scaler.center, gains, strict=True)
        ]
        return tuple(sorted(found, key=lambda contribution: -abs(contribution.gain)))

    def nearest(self, row: Floats, k: int = 5) -> tuple[PastTask, ...]:
        """Return the k kept training tasks most like one row (n_features,), the nearest first."""
        (row,) = self._checked(row[None])
        return self.past.nearest(row, self.scaler, self.arms, k)

    def percentiles(self, row: Floats) -> dict[str, float]:
        """Return the share of the kept training tasks below one row (n_features,), by feature, where both are known."""
        (row,) = self._checked(row[None])
        below = zip(self.feature_names, self.past.below(row).tolist(), strict=True)
        return {name: share for name, share in below if not np.isnan(share)}

    def chances(self, log_odds: Floats) -> Floats:
        """Return the calibrated chance of each head, (n_tasks, n_heads)."""
        return np.column_stack([curve.chance(log_odds[:, i]) for i, curve in enumerate(self.calibrations)])

    def _mixture(self) -> Floats:
        direct, indirect = mixtures_of(self.arms)
        return self.direct_weight * direct + (1.0 - self.direct_weight) * indirect

    def _checked(self, rows: Floats) -> Floats:
        if rows.ndim != 2 or rows.shape[1] != len(self.feature_names):
            names = ", ".join(self.feature_names)
            raise ValueError(
                f"rows must have the columns {names}, shape (n, {len(self.feature_names)}); got {rows.shape}"
            )
        return np.asarray(rows, dtype=np.float64)
