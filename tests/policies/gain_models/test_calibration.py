"""A calibrated chance comes true as often as it says, and leaves the order of scores as it is."""

from __future__ import annotations

import numpy as np
import pytest

from policies.gain_models.calibration import ISOTONIC_FROM, Calibration, fit_calibration, fit_sigmoid
from policies.gain_models.newton import sigmoid


def outcomes(n: int, *, slope: float, offset: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores and outcomes whose true log-odds are slope * score + offset."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=2.0, size=n)
    return scores, (rng.random(n) < sigmoid(slope * scores + offset)).astype(np.float64)


@pytest.mark.parametrize(("n", "worst"), [(900, 0.06), (5_000, 0.06)])
def test_overconfident_scores_are_put_right(n: int, worst: float) -> None:
    scores, right = outcomes(n, slope=0.4, offset=-0.5)
    grid = np.linspace(-3.0, 3.0, 30)

    curve = fit_calibration(scores, right, np.ones(n))

    assert (curve.knots is not None) == (n >= ISOTONIC_FROM)
    assert np.abs(curve.chance(grid) - sigmoid(0.4 * grid - 0.5)).max() < worst


def test_few_outcomes_hardly_move_it() -> None:
    scores, right = outcomes(10, slope=-1.0, offset=2.0)

    curve = fit_calibration(scores, right, np.ones(10))

    assert np.abs(curve.chance(scores) - sigmoid(scores)).max() < 0.25


def test_scores_that_point_the_wrong_way_say_nothing() -> None:
    scores, right = outcomes(900, slope=-1.0, offset=0.8)

    chances = fit_sigmoid(scores, right, np.ones(900)).chance(scores)

    assert np.ptp(chances) == 0.0
    assert chances[0] == pytest.approx(right.mean(), abs=0.01)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [200, 2_000])
def test_a_higher_score_never_has_a_lower_chance(n: int, seed: int) -> None:
    scores, right = outcomes(n, slope=0.7, offset=0.0, seed=seed)

    curve = fit_calibration(np.round(scores, 1), right, np.random.default_rng(seed).exponential(size=n))

    chances = curve.chance(np.sort(np.concatenate([scores, [-1e6, 1e6]])))
    assert np.all(np.diff(chances) >= 0.0)
    assert np.all((chances >= 0.0) & (chances <= 1.0))


def test_many_outcomes_that_never_failed_are_not_certain() -> None:
    curve = fit_calibration(np.linspace(-1.0, 1.0, 2_000), np.ones(2_000), np.ones(2_000))

    assert curve.chance(np.zeros(1))[0] == pytest.approx(1.0 - 1.0 / 2_002.0)


@pytest.mark.parametrize(
    "curve", [Calibration(0.7, -0.3), Calibration(knots=np.array([-1.0, 0.5]), chances=np.array([0.1, 0.8]))]
)
def test_the_secant_is_the_change_over_the_way(curve: Calibration) -> None:
    low, high = curve.chance(np.array([-0.4, 1.7]))

    assert curve.secant(-0.4, 1.7) * 2.1 == pytest.approx(high - low)
    assert curve.secant(0.2, 0.2) == pytest.approx(curve.secant(0.2, 0.2001), rel=1e-3)
