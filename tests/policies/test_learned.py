"""The learned policy: the arm that is worth its cost, chance near the margin, and why in words."""

from __future__ import annotations

import numpy as np
import pytest

from policies import ArmUnavailable
from policies.errors import PolicySettingRefused
from policies.exploration import annealed
from policies.learned import LearnedPolicy
from tests.policies.policy_fakes import ARMS, PRICING, FakeGainModel, named, outcome_matrix

HARD, EASY = named(loo_exact_share=0.0, answer_confidence=0.2), named(loo_exact_share=1.0, answer_confidence=0.9)
TWO = ("icl", "ttt")


def sure(**settings: float) -> LearnedPolicy:
    pricing = PRICING.at(settings.get("price", 0.1))
    return LearnedPolicy(FakeGainModel(arms=TWO), "fake", pricing, explore=0.0)


def test_two_arms_are_drawn_by_the_clipped_sigmoid_of_their_margin() -> None:
    policy = LearnedPolicy(FakeGainModel(arms=TWO), "fake", PRICING, explore=0.05, temperature=0.2)
    margin = 0.6 - 0.05 - 0.1  # gain less price * cost

    assert policy.propensities(HARD, TWO)[1] == pytest.approx(1.0 / (1.0 + np.exp(-margin / 0.2)))


def test_training_is_taken_where_its_gain_is_worth_its_cost() -> None:
    assert sure().propensities(HARD, TWO) == (0.0, 1.0)
    assert sure().propensities(EASY, TWO) == (1.0, 0.0)


def test_it_is_the_gain_that_counts_not_the_difficulty() -> None:
    harmful = LearnedPolicy(FakeGainModel(slope=0.1, harm=0.2, arms=TWO), "fake", PRICING, explore=0.0)

    assert harmful.propensities(HARD, TWO) == (1.0, 0.0)
    assert harmful.decide(HARD, np.random.default_rng(0), TWO).difficulty > 0.5


def test_a_predicted_cost_of_nothing_makes_training_worth_a_small_gain() -> None:
    slightly = {"loo_exact_share": 0.85, "answer_confidence": 0.5}

    assert sure().propensities(named(**slightly), TWO) == (1.0, 0.0)
    assert sure().propensities(named((("ttt", 0.0),), **slightly), TWO) == (0.0, 1.0)


@pytest.mark.parametrize("features", [HARD, EASY, named()])
def test_the_favourite_flips_exactly_at_the_price_that_is_named(features: object) -> None:
    policy = LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.0)
    weighing = policy.weigh(features, ARMS)  # type: ignore[arg-type]
    assert weighing.flip_price is not None
    step = 1e-6 if weighing.flip_price >= weighing.price else -1e-6

    before = policy.at_price(weighing.flip_price - step).weigh(features, ARMS)  # type: ignore[arg-type]
    after = policy.at_price(weighing.flip_price + step).weigh(features, ARMS)  # type: ignore[arg-type]

    assert before.favourite == weighing.favourite
    assert after.favourite == weighing.flips_to != weighing.favourite


def test_utilities_are_p_icl_and_gain_less_price_times_cost() -> None:
    weighing = LearnedPolicy(FakeGainModel(), "fake", PRICING).weigh(HARD, ARMS)

    assert [arm.arm for arm in weighing.arms] == list(ARMS)
    for arm in weighing.arms:
        assert arm.gain is not None
        assert arm.utility == pytest.approx(weighing.p_icl + arm.gain - 0.1 * arm.cost)
    assert weighing.margin == pytest.approx(max(a.utility or 0.0 for a in weighing.arms) - 0.22 - 0.5 * 0.55 + 0.025)


def test_the_reason_names_gain_cost_margin_feature_and_flip_price() -> None:
    reason = sure().decide(HARD, np.random.default_rng(0), TWO).reason

    assert reason == (
        "ttt: an expected gain of 0.55 ± 0.04 over icl for 1.00 times what training costs on average, "
        "at a price of 0.1; "
        "ahead of icl by 0.450; what weighs most, loo_exact_share 0 (typically 0.5), speaks for ttt (+0.55); "
        "above a price of 0.55 it would be icl; "
        "explore=0, so not evaluable off-policy"
    )


def test_the_reason_for_answering_in_context_says_what_training_would_have_brought() -> None:
    reason = sure().decide(EASY, np.random.default_rng(0), TWO).reason

    assert reason.startswith("icl: P(correct) 0.89; ahead of ttt by 0.150, which promises an expected gain of -0.05")
    assert "at any price" in reason


def test_an_arm_that_the_model_does_not_know_is_only_explored() -> None:
    arms = ("icl", "program_synthesis", "ttt")
    policy = LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.1)

    assert policy.propensities(HARD, arms)[1] == pytest.approx(0.05)
    assert sure().propensities(HARD, arms) == (0.0, 0.0, 1.0)


def test_where_the_model_knows_no_arm_the_careful_one_answers() -> None:
    policy = LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.0)
    decision = policy.decide(HARD, np.random.default_rng(0), ("program_synthesis",))

    assert decision.arm == "program_synthesis"
    assert "the model knows none of these arms" in decision.reason


def test_what_was_learned_makes_it_colder() -> None:
    close = named(loo_exact_share=0.7)
    young, old = (LearnedPolicy(FakeGainModel(arms=TWO), "fake", PRICING, n_outcomes=n) for n in (0, 3000))

    assert max(old.propensities(close, TWO)) > max(young.propensities(close, TWO))
    assert annealed(0.05, 3000) < 0.05


def test_scores_are_gains_whatever_they_cost() -> None:
    policy, matrix = LearnedPolicy(FakeGainModel(), "fake", PRICING), outcome_matrix(20)
    gains = FakeGainModel().estimate(matrix.features[:, [0, 3]]).gain[:, 2]

    assert policy.scores(matrix) == pytest.approx(gains)
    assert policy.at_price(5.0).scores(matrix) == pytest.approx(gains)


@pytest.mark.parametrize(
    "other",
    [
        LearnedPolicy(FakeGainModel(), "other", PRICING),
        LearnedPolicy(FakeGainModel(), "fake", PRICING.at(0.2)),
        LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.1),
        LearnedPolicy(FakeGainModel(), "fake", PRICING, temperature=0.1),
        LearnedPolicy(FakeGainModel(), "fake", PRICING, n_outcomes=1),
    ],
)
def test_whatever_could_change_a_decision_changes_the_version(other: LearnedPolicy) -> None:
    assert other.version != LearnedPolicy(FakeGainModel(), "fake", PRICING).version


@pytest.mark.parametrize(("setting", "value"), [("explore", 0.6), ("explore", -0.1), ("temperature", float("nan"))])
def test_a_setting_that_cannot_be_meant_is_refused(setting: str, value: float) -> None:
    with pytest.raises(PolicySettingRefused, match=setting):
        LearnedPolicy(FakeGainModel(), "fake", PRICING, **{setting: value})  # type: ignore[arg-type]


def test_contributions_of_an_arm_that_the_model_does_not_know_are_refused() -> None:
    with pytest.raises(ArmUnavailable):
        sure().contributions(HARD, "program_synthesis")
