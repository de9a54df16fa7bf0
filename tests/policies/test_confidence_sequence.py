"""A bound that is looked at after every row is wrong no oftener than it says, at any moment."""

from __future__ import annotations

import numpy as np
import pytest

from policies.confidence_sequence import (
    alpha_at,
    best_excursion,
    log_wealth,
    lower_bound,
    tamed,
)
from policies.off_policy import cross_fitted, pseudo_outcomes
from tests.policies.logs import policy, world

N_STREAMS, LENGTH, ALPHA = 400, 1000, 0.1
ALLOWED = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / N_STREAMS)


def best_wealth(values: np.ndarray, mean: float, at_least: float) -> float:
    """The most the gambler ever has: the largest over all lengths."""
    return max(log_wealth(values[:n], mean, at_least) for n in range(20, len(values) + 1, 20))


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 0; rarely +9, mostly -1: like inverse propensity scores."""
    return np.where(rng.random(n) < 0.1, 9.0, -1.0)


def even(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([-1.0, 0.0, 1.0], size=n)


@pytest.mark.parametrize("draw", [skewed, even])
def test_polled_all_along_it_is_wrong_in_no_more_than_alpha_of_all_streams(draw: object) -> None:
    rng = np.random.default_rng(0)
    assert callable(draw)
    ever = [best_wealth(draw(rng, LENGTH), 0.0, -1.0) >= np.log(1 / ALPHA) for _ in range(N_STREAMS)]

    assert np.mean(ever) <= ALLOWED


def test_a_normal_bound_polled_in_the_same_way_is_wrong_far_oftener() -> None:
    rng, n = np.random.default_rng(1), np.arange(1, LENGTH + 1)
    wrong = 0
    for _ in range(N_STREAMS):
        values = even(rng, LENGTH)
        bound = np.cumsum(values) / n - 1.2816 * np.sqrt(2 / 3 / n)
        wrong += bool((bound[19::20] > 0).any())

    assert wrong / N_STREAMS > 2 * ALLOWED


def test_the_bound_nears_the_mean_as_rows_come_in() -> None:
    values = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=8000)
    bounds = [lower_bound(values[:n], 0.05, at_least=-1.0) for n in (100, 1000, 8000)]

    assert bounds == sorted(bounds)
    assert 0.05 < bounds[-1] < 0.1
    assert -lower_bound(-values, 0.05, at_least=-1.0) > 0.1


def test_it_does_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.1, 0.3, 500).clip(-1, 1)

    assert lower_bound(rng.permutation(values), 0.05, at_least=-1.0) == pytest.approx(
        lower_bound(values, 0.05, at_least=-1.0)
    )


def test_with_no_rows_the_bound_is_the_smallest_value_there_may_be() -> None:
    assert lower_bound(np.array([]), 0.05, at_least=-2.0) == -2.0


def test_a_value_below_what_was_promised_is_refused() -> None:
    with pytest.raises(ValueError, match="lies below -1"):
        lower_bound(np.array([-1.5]), 0.05, at_least=-1.0)


def test_all_attempts_together_spend_no_more_than_alpha() -> None:
    spent = [alpha_at(k) for k in range(1, 10_000)]

    assert sum(spent) < 0.05
    assert sum(spent) == pytest.approx(0.05, rel=1e-3)
    with pytest.raises(ValueError, match="from 1"):
        alpha_at(0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_tamed_predictions_keep_every_pseudo_outcome_within_the_excursion(sign: float) -> None:
    truth = world(3000)
    rows = truth.logged(np.random.default_rng(4), np.full(3000, 0.05))
    values, target = rows.utility(0.1), sign * (policy(np.ones(3000)) - policy(np.full(3000, 0.05)))
    low, high = -0.3, 1.0
    for excursion in (0.5, 3.0):
        kept = tamed(rows, target, np.full_like(values, 0.8), low=low, high=high, excursion=excursion)

        assert pseudo_outcomes(rows, target, values, kept).min() >= low - high - excursion - 1e-9


def test_rows_that_were_often_drawn_need_no_excursion_and_rare_ones_do() -> None:
    truth = world(2000)
    found = []
    for p_ttt, wanted in ((1.0, 0.0), (0.05, 1.0)):
        logging = np.full(2000, p_ttt)
        rows = truth.logged(np.random.default_rng(5), logging, one_sided=True)
        target, values = policy(np.full(2000, wanted)) - policy(logging), rows.utility(0.1)
        found.append(best_excursion(rows, target, values, cross_fitted(rows, values), low=-0.3, high=1.0))

    assert found[0] < found[1]
