"""Features as a linear model takes them: standardised, with a flag for each that is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

CLIP = 5.0  # scales from the centre; a value further out says no more than one that far


@dataclass(frozen=True, slots=True)
class Scaler:
    """Centre, scale and share of unknown values of each feature, shape (n_features,) each."""

    center: Floats
    scale: Floats
    missing_share: Floats

    def __len__(self) -> int:
        return len(self.center)

    @classmethod
    def neutral(cls, n_features: int) -> Self:
        """Return the scaler of features nothing is known of; it leaves numbers as they are."""
        return cls(np.zeros(n_features), np.ones(n_features), np.zeros(n_features))

    @classmethod
    def of(cls, rows: Floats, weights: Floats, *, before: Scaler | None = None, worth: Floats | None = None) -> Self:
        """Return weighted means and standard deviations of what is known.

        Args:
            rows: (n_tasks, n_features), NaN where a value is not known.
            before: what was believed before any row was seen,
            worth: and how many tasks that belief is worth for each feature, shape (n_features,).
        """
        before = Scaler.neutral(rows.shape[1]) if before is None else before
        worth = np.zeros(rows.shape[1]) if worth is None else worth
        known = ~np.isnan(rows)
        values = np.where(known, rows, 0.0)
        mass = weights @ known
        total = np.where(mass + worth > 0.0, mass + worth, 1.0)
        center = (weights @ values + worth * before.center) / total
        squares = weights @ np.where(known, (values - center) ** 2, 0.0)
        squares += worth * (before.scale**2 + (before.center - center) ** 2)
        scale = np.sqrt(squares / total)
        constant = scale <= 1e-9 * np.maximum(np.abs(center), 1e-30)
        n_tasks = weights.sum() + worth
        unknown = np.maximum(weights.sum() - mass, 0.0) + worth * before.missing_share
        return cls(center, np.where(constant, 1.0, scale), unknown / np.where(n_tasks > 0.0, n_tasks, 1.0))

    def standardised(self, rows: Floats) -> Floats:
        """Return values in scales from the centre, within CLIP; 0 where a value is not known."""
        z = np.clip((rows - self.center) / self.scale, -CLIP, CLIP)
        return np.where(np.isnan(z), 0.0, z)

    def design(self, rows: Floats) -> Floats:
        """Return (n_tasks, 1 + 2 n_features): a one, the standardised values, and the flags less their mean."""
        flags = np.isnan(rows) - self.missing_share
        return np.hstack([np.ones((len(rows), 1)), self.standardised(rows), flags])
