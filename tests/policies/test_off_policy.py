"""What another policy would have been worth is found from a log, with an interval that holds the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policies.off_policy import (
    Estimate,
    LoggedRows,
    cross_fitted,
    direct,
    doubly_robust,
    ips,
    known_probability,
    snips,
    snips_difference,
    switch_doubly_robust,
)
from tests.policies.logs import Floats, policy, world

PRICE = 0.1
N_LOGS = 300
LOGGING_P = np.where(world().features[:, 0] > 0, 0.6, 0.1)
WANTED = policy((world().features[:, 0] > 0.5).astype(float) * 0.9 + 0.05)

Estimator = Callable[[LoggedRows, Floats, Floats, Floats], Estimate]
ESTIMATORS: dict[str, Estimator] = {
    "ips": lambda rows, target, values, predictions: ips(rows, target, values),
    "snips": lambda rows, target, values, predictions: snips(rows, target, values),
    "dr": doubly_robust,
    "switch": switch_doubly_robust,
}


@pytest.fixture(scope="module")
def simulated() -> dict[str, list[Estimate]]:
    """The estimates of many logs of the same tasks, each by every estimator."""
    truth, rng = world(), np.random.default_rng(1)
    found: dict[str, list[Estimate]] = {name: [] for name in ESTIMATORS}
    for _ in range(N_LOGS):
        rows = truth.logged(rng, LOGGING_P)
        values = rows.utility(PRICE)
        predictions = cross_fitted(rows, values)
        for name, estimator in ESTIMATORS.items():
            found[name].append(estimator(rows, WANTED, values, predictions))
    return found


TRUE_VALUE = world().true_value(WANTED, PRICE)


@pytest.mark.parametrize("name", ["ips", "dr"])
def test_the_mean_over_many_logs_is_the_true_value(name: str, simulated: dict[str, list[Estimate]]) -> None:
    values = np.array([estimate.value for estimate in simulated[name]])

    assert abs(values.mean() - TRUE_VALUE) < 3 * values.std() / np.sqrt(N_LOGS)


def test_the_doubly_robust_estimate_varies_less_than_the_weighted_one(simulated: dict[str, list[Estimate]]) -> None:
    spread = {name: np.std([estimate.value for estimate in of]) for name, of in simulated.items()}

    assert spread["dr"] < 0.9 * spread["ips"]
    assert spread["switch"] < spread["ips"]


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_nineteen_of_twenty_intervals_hold_the_truth(name: str, simulated: dict[str, list[Estimate]]) -> None:
    inside = [low <= TRUE_VALUE <= high for low, high in (estimate.interval() for estimate in simulated[name])]

    assert np.mean(inside) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / N_LOGS)


def test_the_logging_policy_itself_is_worth_the_mean_of_what_was_logged() -> None:
    rows = world().logged(np.random.default_rng(2), LOGGING_P)
    values = rows.utility(PRICE)

    assert ips(rows, policy(LOGGING_P), values).value == pytest.approx(np.nansum(values) / len(rows))


def test_a_perfect_model_leaves_nothing_to_the_weights() -> None:
    truth = world()
    rows = truth.logged(np.random.default_rng(3), LOGGING_P)
    values = rows.utility(PRICE)
    perfect = truth.quality - PRICE * truth.cost

    assert doubly_robust(rows, WANTED, values, perfect).value == pytest.approx(TRUE_VALUE)
    assert direct(rows, WANTED, perfect).value == pytest.approx(TRUE_VALUE)


def test_the_doubly_robust_estimate_is_right_with_a_model_that_is_wrong() -> None:
    truth, rng = world(), np.random.default_rng(4)
    wrong = np.tile([0.9, -0.2], (len(truth.features), 1))
    values = [
        doubly_robust(rows, WANTED, rows.utility(PRICE), wrong).value
        for rows in (truth.logged(rng, LOGGING_P) for _ in range(N_LOGS))
    ]

    assert abs(np.mean(values) - TRUE_VALUE) < 3 * np.std(values) / np.sqrt(N_LOGS)
    assert abs(direct(truth.logged(rng, LOGGING_P), WANTED, wrong).value - TRUE_VALUE) > 0.05


def test_a_candidate_that_only_takes_training_away_is_scored_exactly_where_training_always_ran() -> None:
    truth = world()
    rows = truth.logged(np.random.default_rng(5), np.ones(len(truth.features)), one_sided=True)
    difference = policy((truth.features[:, 0] > 0).astype(float)) - policy(np.ones(len(truth.features)))
    values = rows.utility(PRICE)

    found = doubly_robust(rows, difference, values, np.zeros_like(values))

    assert found.value == pytest.approx(truth.true_value(difference, PRICE))


def test_audits_make_a_candidate_that_trains_more_cheaper_to_judge() -> None:
    truth, n = world(), len(world().features)
    more = policy(np.ones(n)) - policy(np.full(n, 0.05))
    errors = []
    for audit_rate in (0.0, 0.3):
        rng = np.random.default_rng(6)
        found = [
            doubly_robust(rows, more, rows.utility(PRICE), cross_fitted(rows, rows.utility(PRICE)))
            for rows in (truth.logged(rng, np.full(n, 0.05), one_sided=True, audit_rate=audit_rate) for _ in range(100))
        ]
        values = np.array([each.value for each in found])
        assert abs(values.mean() - truth.true_value(more, PRICE)) < 3 * values.std() / 10
        errors.append(values.std())

    assert errors[1] < 0.6 * errors[0]


def test_the_probability_of_knowing_counts_audits_and_what_has_run_anyway() -> None:
    known = known_probability(
        np.array([[0.8, 0.2], [0.8, 0.2]]),
        sunk=0,
        sunk_known=np.array([True, False]),
        audited=1,
        audit_rate=np.array([0.5, 0.0]),
    )

    assert known == pytest.approx(np.array([[1.0, 0.6], [0.8, 0.2]]))


def test_a_log_of_one_kind_of_row_carries_no_verdict() -> None:
    truth = world()
    few = truth.logged(np.random.default_rng(7), LOGGING_P).take(range(60))
    lonely = truth.logged(np.random.default_rng(8), np.full(len(truth.features), 0.002))

    assert "effective sample size" in str(ips(few, WANTED[:60], few.utility(PRICE)).refusal)
    assert ips(lonely, policy(np.ones(len(lonely))), lonely.utility(PRICE)).refusal is not None
    enough = truth.logged(np.random.default_rng(9), LOGGING_P)
    assert ips(enough, WANTED, enough.utility(PRICE)).refusal is None


def test_one_row_that_outweighs_the_rest_is_told() -> None:
    assert "of the weight" in str(Estimate(0.0, 0.1, n=1000, effective_n=400.0, max_weight_share=0.2).refusal)


def test_a_paired_difference_by_snips_cancels_what_both_share() -> None:
    rows = world().logged(np.random.default_rng(10), LOGGING_P)
    values = rows.utility(PRICE)

    assert snips_difference(rows, WANTED, WANTED, values).value == pytest.approx(0.0)
    assert snips_difference(rows, WANTED, WANTED, values).std_error == pytest.approx(0.0)


def test_no_row_is_predicted_by_a_model_that_has_seen_its_family() -> None:
    seen: list[set[float]] = []

    def fit(features: Floats, values: Floats, weights: Floats) -> Callable[[Floats], Floats]:
        seen.append(set(features[:, 0]))
        mine = seen[-1]
        return lambda rows: np.array([float(value in mine) for value in rows[:, 0]])

    rows = world(200).logged(np.random.default_rng(11), np.full(200, 0.5))

    assert not cross_fitted(rows, rows.quality, fit=fit).any()


def test_switching_drops_a_weight_whose_variance_costs_more_than_its_bias() -> None:
    truth = world(400)
    p_ttt = np.full(400, 0.3)
    p_ttt[:2] = 1e-4
    rows = truth.logged(np.random.default_rng(12), p_ttt)
    rows.quality[:2] = [np.nan, 1.0]  # two rows drawn against all odds
    values, target = rows.utility(PRICE), policy(np.full(400, 0.5))
    predictions = cross_fitted(rows, values)

    switched = switch_doubly_robust(rows, target, values, predictions)

    assert switched.std_error < 0.1 * doubly_robust(rows, target, values, predictions).std_error
    assert abs(switched.value - truth.true_value(target, PRICE)) < 3 * switched.std_error + 2 / 400
