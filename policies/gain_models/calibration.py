"""Calibration: from a head's log-odds to a chance that comes true as often as it says.

A sigmoid (Platt) for few outcomes, a monotone curve (isotonic regression) for many; both are plain numbers. Fitted on
scores of tasks whose families the head had not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.gain_models.newton import fit_logistic, sigmoid

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ISOTONIC_FROM = 1_000  # outcomes; a free curve through fewer follows their noise
PSEUDO_TASKS = 50.0  # what the belief that scores are calibrated already is worth


@dataclass(frozen=True, slots=True)
class Calibration:
    """A monotone map from log-odds to a chance: a sigmoid where there are no knots, else straight between them."""

    slope: float = 1.0
    offset: float = 0.0
    knots: Floats | None = None  # (n_knots,) log-odds, rising
    chances: Floats | None = None  # (n_knots,) at the knots, rising

    def chance(self, log_odds: Floats) -> Floats:
        """Return the chance for each score, in [0, 1]."""
        if self.knots is None or self.chances is None:
            return sigmoid(self.slope * log_odds + self.offset)
        return np.interp(log_odds, self.knots, self.chances)

    def secant(self, start: float, end: float) -> float:
        """Return the mean slope between two scores, in chance per log-odds; the slope itself where they are one.

        It is what the integral of the slope along a straight path comes to, per unit of score.
        """
        if abs(end - start) < 1e-9:
            start, end = start - 1e-6, start + 1e-6
        low, high = self.chance(np.array([start, end]))
        return float((high - low) / (end - start))


def fit_calibration(log_odds: Floats, targets: Floats, weights: Floats) -> Calibration:
    """Fit to scores of unseen tasks (n,), what came of them, in [0, 1], and their weights."""
    if len(log_odds) >= ISOTONIC_FROM:
        return _isotonic(log_odds, targets, weights)
    return fit_sigmoid(log_odds, targets, weights)


def fit_sigmoid(log_odds: Floats, targets: Floats, weights: Floats) -> Calibration:
    """Fit slope and offset, held towards 1 and 0.

    Source: Platt 1999, with the identity as a prior in place of smoothed targets.
    """
    design = np.column_stack([np.ones_like(log_odds), log_odds])
    prior, precision = np.array([0.0, 1.0]), np.full(2, PSEUDO_TASKS / 4.0)
    (offset, slope), _ = fit_logistic(design, targets, weights, prior=prior, precision=precision)
    if slope < 0.0:  # scores that point the wrong way say nothing: the mean alone is left
        slope = 0.0
        (offset,), _ = fit_logistic(design[:, :1], targets, weights, prior=prior[:1], precision=precision[:1])
    return Calibration(slope=float(slope), offset=float(offset))


def _isotonic(log_odds: Floats, targets: Floats, weights: Floats) -> Calibration:
    """Fit by pooling adjacent violators; the curve goes straight between the centres of the pools, so that it rises
    wherever there was evidence on both sides, and unequal scores within reach of it stay unequal.
    """
    from sklearn.isotonic import isotonic_regression

    scores, place = np.unique(log_odds, return_inverse=True)
    mass = np.bincount(place, weights)
    means = np.bincount(place, weights * targets) / mass
    levels = isotonic_regression(means, sample_weight=mass)
    starts = np.flatnonzero(np.diff(levels, prepend=-np.inf) > 0.0)
    pool_mass = np.add.reduceat(mass, starts)
    knots = np.add.reduceat(mass * scores, starts) / pool_mass
    least = 1.0 / (mass.sum() + 2.0)  # a chance never seen to fail is not certain
    return Calibration(knots=knots, chances=np.clip(levels[starts], least, 1.0 - least))
