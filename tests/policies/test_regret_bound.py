"""Of the tasks answered in context, few would have been answered better by training, and that is shown before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from policies.errors import PolicySettingRefused
from policies.learned import LearnedPolicy
from policies.regret_bound import (
    BoundedRegret,
    RegretBound,
    binomial_cdf,
    bound_on,
    choose_threshold,
    clopper_pearson_upper,
    hypergeometric_cdf,
    regretted_rows,
)
from policies.replay import choices_of
from tests.policies.policy_fakes import PRICING, FakeGainModel, named, outcome_matrix, realised_regret_rate

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING)


def tasks(n: int, rng: np.random.Generator) -> tuple[Floats, Mask]:
    """Scores, and whether training would have been better: the more likely the higher the score."""
    scores = rng.random(n)
    return scores, rng.random(n) < 0.4 * scores**2


@pytest.mark.parametrize(("rate", "least_in_context"), [(0.05, 0.25), (0.1, 0.5)])
def test_what_is_realised_exceeds_the_rate_in_at_most_delta_of_a_thousand_resplits(
    rate: float, least_in_context: float
) -> None:
    rng = np.random.default_rng(0)
    scores, regretted = tasks(2400, rng)
    exceeded, in_context = 0, 0.0
    for _ in range(1000):
        order = rng.permutation(2400)
        fitted, held_out = order[:1200], order[1200:]
        bound = choose_threshold(scores[fitted], regretted[fitted], max_rate=rate, n_future=1200)
        below = scores[held_out] < bound.threshold
        exceeded += bool(below.any() and regretted[held_out][below].mean() > rate)
        in_context += below.mean() / 1000

    assert exceeded / 1000 <= 0.05
    assert in_context > least_in_context  # and it is no bound for nothing


def test_the_true_rate_is_exceeded_in_at_most_delta_of_a_thousand_calibrations() -> None:
    """The rate below t is E[0.4 s^2 | s < t] = 0.4 t^2 / 3."""
    rng = np.random.default_rng(1)
    bounds = [choose_threshold(*tasks(600, rng), max_rate=0.05, delta=0.1) for _ in range(1000)]
    exceeded = sum(0.4 * min(bound.threshold, 1.0) ** 2 / 3 > 0.05 for bound in bounds if bound.holds)

    assert exceeded / 1000 <= 0.1


def test_too_few_tasks_are_said_to_be_too_few_and_everything_is_trained_on() -> None:
    bound = choose_threshold(*tasks(499, np.random.default_rng(0)), max_rate=0.1)

    assert not bound.holds
    assert bound.reason == "the bound needs 500 calibration tasks and has 499, so every task is trained on"


def test_where_every_task_would_regret_everything_is_trained_on() -> None:
    bound = choose_threshold(np.random.default_rng(0).random(800), np.ones(800, dtype=np.bool_), max_rate=0.1)

    assert not bound.holds
    assert "show no threshold" in bound.reason


def test_where_no_task_would_regret_everything_is_answered_in_context() -> None:
    bound = choose_threshold(np.random.default_rng(0).random(800), np.zeros(800, dtype=np.bool_), max_rate=0.05)

    assert bound.threshold == math.inf
    assert bound.n_icl == 800


def test_a_wider_bound_never_lowers_the_threshold() -> None:
    scores, regretted = tasks(1500, np.random.default_rng(2))
    found = [choose_threshold(scores, regretted, max_rate=rate).threshold for rate in (0.02, 0.05, 0.08, 0.12, 0.2)]

    assert found == sorted(found)
    assert found[0] < found[-1]


def test_scores_that_are_all_alike_leave_all_or_nothing() -> None:
    bound = choose_threshold(np.zeros(1000), np.arange(1000) < 20, max_rate=0.05)

    assert bound.threshold == math.inf


def test_thresholds_that_were_fixed_before_are_the_only_ones_tried() -> None:
    scores, regretted = tasks(1500, np.random.default_rng(3))

    assert choose_threshold(scores, regretted, max_rate=0.08, thresholds=(0.2, 0.4)).threshold in (0.2, 0.4)


@pytest.mark.parametrize("field", ["max_rate", "delta"])
@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_what_is_no_probability_is_refused(field: str, value: float) -> None:
    rate, delta = (value, 0.05) if field == "max_rate" else (0.05, value)

    with pytest.raises(PolicySettingRefused, match=field):
        choose_threshold(np.zeros(600), np.zeros(600, dtype=np.bool_), max_rate=rate, delta=delta)


def test_the_cdf_is_the_sum_of_binomial_probabilities() -> None:
    expected = sum(math.comb(20, k) * 0.3**k * 0.7 ** (20 - k) for k in range(5))

    assert binomial_cdf(4, 20, 0.3) == pytest.approx(expected)
    assert binomial_cdf(20, 20, 0.3) == pytest.approx(1.0)


@pytest.mark.parametrize(("n_hits", "n"), [(0, 100), (3, 100), (50, 100), (99, 100)])
def test_the_upper_bound_is_the_rate_at_which_so_few_hits_have_probability_delta(n_hits: int, n: int) -> None:
    assert binomial_cdf(n_hits, n, clopper_pearson_upper(n_hits, n, 0.05)) == pytest.approx(0.05)


def test_the_hypergeometric_cdf_counts_ways_to_choose() -> None:
    expected = sum(math.comb(12, k) * math.comb(8, 6 - k) for k in range(3, 5)) / math.comb(20, 6)

    assert hypergeometric_cdf(4, 12, 20, 6) - hypergeometric_cdf(2, 12, 20, 6) == pytest.approx(expected)
    assert hypergeometric_cdf(6, 12, 20, 6) == pytest.approx(1.0)


def test_a_bound_on_ever_more_further_tasks_becomes_that_of_the_long_run() -> None:
    scores, regretted = tasks(1500, np.random.default_rng(4))
    found = [
        choose_threshold(scores, regretted, max_rate=0.08, n_future=n).threshold for n in (100, 1_000, 10_000_000, None)
    ]

    assert found == sorted(found)
    assert found[2] == found[3]


def test_without_a_hit_the_upper_bound_has_a_closed_form() -> None:
    assert clopper_pearson_upper(0, 59, 0.05) == pytest.approx(1.0 - 0.05 ** (1 / 59))


def test_other_seeds_of_a_task_are_no_further_evidence() -> None:
    matrix = outcome_matrix(600, arms=("icl", "ttt"), ttt_missing=20)
    twice = matrix.take([*range(600), *range(600)])

    assert bound_on(LEARNED, twice, max_rate=0.4) == bound_on(LEARNED, matrix, max_rate=0.4)
    assert bound_on(LEARNED, twice, max_rate=0.4).n_calibration == 580
    files = replace(matrix, groups=matrix.families)
    assert bound_on(LEARNED, files, max_rate=0.4).n_calibration == len(set(matrix.families))


def test_the_realised_rate_counts_tasks_answered_in_context_and_no_others() -> None:
    matrix = outcome_matrix(50, ttt_missing=5)
    in_context = np.zeros(matrix.quality.shape)
    in_context[:20, matrix.column("icl")] = 1.0
    in_context[20:, matrix.column("ttt")] = 1.0

    assert realised_regret_rate(in_context, matrix) == pytest.approx(regretted_rows(matrix)[5:20].mean())
    assert realised_regret_rate(np.zeros(matrix.quality.shape), matrix) == 0.0


def test_the_policy_answers_in_context_below_the_threshold_and_explores_by_training_only() -> None:
    bound = RegretBound(0.2, 0.05, 0.05, 600, 300, 5)
    policy = BoundedRegret(LEARNED, bound, explore=0.1)
    easy, hard = named(loo_exact_share=1.0), named(loo_exact_share=0.0)

    assert policy.propensities(easy, ("icl", "ttt")) == (0.9, 0.1)
    assert policy.propensities(hard, ("icl", "ttt")) == (0.0, 1.0)


def test_the_bound_holds_for_the_policy_that_is_made_of_it() -> None:
    matrix = outcome_matrix(4000, seed=5, arms=("icl", "ttt"))
    fitted, held_out = matrix.take(np.arange(2000)), matrix.take(np.arange(2000, 4000))
    bound = choose_threshold(LEARNED.scores(fitted), regretted_rows(fitted), max_rate=0.3)
    policy = BoundedRegret(LEARNED, bound)

    assert bound.holds
    assert realised_regret_rate(choices_of(policy, held_out), held_out) <= 0.3
