"""The minimum is one, whatever the start."""

from __future__ import annotations

import numpy as np
import pytest

from policies.gain_models.newton import cross_entropy, fit_logistic, log_odds_of, sigmoid


@pytest.mark.parametrize("seed", range(8))
def test_the_gradient_vanishes_at_the_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(60), rng.normal(size=(60, 4)) * rng.choice([0.1, 1.0, 30.0], 4)])
    targets, weights = rng.random(60), rng.exponential(size=60)
    prior, precision = rng.normal(size=5), rng.exponential(size=5) + 0.01

    coef, hessian = fit_logistic(design, targets, weights, prior=prior, precision=precision)

    gradient = design.T @ (weights * (sigmoid(design @ coef) - targets)) + precision * (coef - prior)
    assert gradient @ np.linalg.solve(hessian, gradient) < 1e-8


def test_the_start_makes_no_difference() -> None:
    rng = np.random.default_rng(9)
    design, targets = rng.normal(size=(50, 3)), rng.random(50)
    prior, precision = np.zeros(3), np.ones(3)

    fits = [
        fit_logistic(design, targets, np.ones(50), prior=prior, precision=precision, start=start)[0]
        for start in (prior, np.full(3, 40.0), np.array([-30.0, 5.0, 100.0]))
    ]

    np.testing.assert_allclose(fits[1:], [fits[0]] * 2, atol=1e-5)


def test_without_rows_the_prior_is_the_answer() -> None:
    prior, precision = np.array([0.5, -2.0]), np.array([3.0, 4.0])

    coef, hessian = fit_logistic(np.zeros((0, 2)), np.zeros(0), np.zeros(0), prior=prior, precision=precision)

    np.testing.assert_array_equal(coef, prior)
    np.testing.assert_array_equal(hessian, np.diag(precision))


def test_extreme_log_odds_overflow_nothing() -> None:
    extreme = np.array([-1e4, 0.0, 1e4])

    np.testing.assert_array_equal(sigmoid(extreme), [0.0, 0.5, 1.0])
    np.testing.assert_allclose(cross_entropy(extreme, np.array([0.0, 0.5, 1.0])), [0.0, np.log(2.0), 0.0])
    assert log_odds_of(0.5) == 0.0
