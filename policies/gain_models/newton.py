"""Logistic regression towards a prior, on targets anywhere in [0, 1], by Newton's method. NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

N_STEPS = 60
TOLERANCE = 1e-10  # nats that the next step promises


def sigmoid(log_odds: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    half = np.tanh(0.5 * log_odds)
    return np.asarray(0.5 * (1.0 + half), dtype=np.float64)


def log_odds_of(chance: float) -> float:
    """Return log(p / (1 - p)) for p within (0, 1)."""
    return float(np.log(chance) - np.log1p(-chance))


def cross_entropy(log_odds: Floats, targets: Floats) -> Floats:
    """Return -t log p - (1 - t) log(1 - p) for each, in nats."""
    return np.asarray(np.logaddexp(0.0, log_odds) - targets * log_odds, dtype=np.float64)


def fit_logistic(
    design: Floats,
    targets: Floats,
    weights: Floats,
    *,
    prior: Floats,
    precision: Floats,
    offset: Floats | None = None,
    start: Floats | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[Floats, Floats]:
    """Minimise sum w * cross_entropy + 1/2 sum precision * (coef - prior)^2.

    Args:
        design: (n, d), its first column usually ones.
        targets: (n,), in [0, 1]: a fraction counts as that much of a success and the rest of a failure.
        weights: (n,), >= 0.
        prior: (d,), where the coefficients stay without data.
        precision: (d,), > 0, of each about its prior; one task is worth up to 1/4 for a standardised feature.
        offset: (n,), log-odds that come on top of the design's; None: none.
        start: where to begin, for a known neighbour of the solution.
        tolerance: how far above the minimum to stop, about, in nats.

    Returns:
        The coefficients (d,), and the Hessian (d, d), whose inverse is their covariance by Laplace's method.
    """
    coef = (prior if start is None else start).copy()
    base = np.zeros(len(targets)) if offset is None else offset

    def objective_at(at: Floats) -> float:
        fit = weights @ cross_entropy(base + design @ at, targets)
        return float(fit + 0.5 * precision @ (at - prior) ** 2)

    objective = objective_at(coef)
    hessian = np.diag(precision)
    for _ in range(N_STEPS):
        chance = sigmoid(base + design @ coef)
        gradient = design.T @ (weights * (chance - targets)) + precision * (coef - prior)
        hessian = _hessian(design, weights, chance, precision)
        step = np.linalg.solve(hessian, gradient)
        promised = float(gradient @ step)
        if promised <= tolerance:
            break
        shrink = 1.0
        while shrink > 1e-6:  # the full step may overshoot far from the solution
            moved = coef - shrink * step
            lower = objective_at(moved)
            if lower <= objective - 1e-4 * shrink * promised:
                break
            shrink /= 2.0
        else:
            break  # rounding is all that is left
        coef, objective = moved, lower
    return coef, hessian


def _hessian(design: Floats, weights: Floats, chance: Floats, precision: Floats) -> Floats:
    scaled = design * np.sqrt(weights * chance * (1.0 - chance))[:, None]
    return scaled.T @ scaled + np.diag(precision)  # of one matrix with itself: half the multiplications
