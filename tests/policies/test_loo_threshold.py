"""The rule: what it takes, how far it explores, and that its reasons hold the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from policies import Decision, LooThreshold
from policies.feature_values import FeatureValues, NamedFeatures
from tests.policies import fakes
from tests.policies.policy_fakes import as_values, named, outcome_matrix

ARMS = ("icl", "icl_vote", "ttt_short", "ttt")


def features_with(
    loo_exact: tuple[bool, ...] = (True, False, False),
    *,
    n_demonstrations: int | None = None,
    confidence: float = 0.5,
    adapter_cached: bool = False,
) -> NamedFeatures:
    return as_values(
        fakes.features_with(
            loo_exact, n_demonstrations=n_demonstrations, confidence=confidence, adapter_cached=adapter_cached
        )
    )


def decided(features: FeatureValues, arms: tuple[str, ...] = ARMS, policy: LooThreshold | None = None) -> Decision:
    policy = policy or LooThreshold(epsilon=0.0)
    return policy.decide(features, np.random.default_rng(0), arms)


def test_every_held_out_demonstration_right_is_answered_in_context() -> None:
    decision = decided(features_with((True, True, True)))

    assert decision.arm == "icl"
    assert decision.reason == "3 of 3 demonstrations answered when held out, at least 1.00: no training needed"


def test_below_the_threshold_is_trained_on() -> None:
    decision = decided(features_with((True, False, False)), policy=LooThreshold(threshold=0.67, epsilon=0.0))

    assert decision.arm == "ttt"
    assert decision.reason == "1 of 3 demonstrations answered when held out, below 0.67: training"


def test_one_miss_among_many_is_no_reason_to_train_when_the_answer_is_sure() -> None:
    nine_of_ten = (True,) * 9 + (False,)

    sure = decided(features_with(nine_of_ten, confidence=0.95))
    unsure = decided(features_with(nine_of_ten, confidence=0.2))

    assert sure.arm == "icl"
    assert "P(icl correct) 0.90" in sure.reason
    assert unsure.arm == "ttt"


@pytest.mark.parametrize(
    ("arms", "taken"),
    [
        (("icl", "icl_vote", "ttt_short", "ttt"), "ttt"),
        (("icl", "icl_vote", "ttt_short"), "ttt_short"),
        (("icl", "icl_vote"), "icl_vote"),
        (("icl",), "icl"),
    ],
)
def test_a_hard_task_gets_the_most_thorough_arm_there_is(arms: tuple[str, ...], taken: str) -> None:
    assert decided(features_with((False, False)), arms).arm == taken


def test_the_reason_says_when_training_was_wanted_but_not_available() -> None:
    assert decided(features_with((False, False)), ("icl", "icl_vote")).reason.endswith(
        "training is not available, so icl_vote"
    )


@pytest.mark.parametrize("loo_exact", [(True, True), (True, False), (False, False), ()])
def test_a_cached_adapter_does_not_change_the_arm(loo_exact: tuple[bool, ...]) -> None:
    cached, not_cached = (
        decided(features_with(loo_exact, n_demonstrations=2, adapter_cached=cached)) for cached in (True, False)
    )

    assert cached.arm == not_cached.arm
    assert cached.propensities == not_cached.propensities


def test_training_that_is_already_done_is_no_training_in_the_reason() -> None:
    decision = decided(features_with((False, False), n_demonstrations=2, adapter_cached=True))

    assert decision.arm == "ttt"
    assert decision.reason.endswith("its adapter is at hand")


@pytest.mark.parametrize(("arms", "taken"), [(ARMS, "icl_vote"), (("icl", "ttt"), "icl")])
def test_one_demonstration_cannot_be_held_out(arms: tuple[str, ...], taken: str) -> None:
    decision = decided(features_with((), n_demonstrations=1), arms)

    assert decision.arm == taken
    assert decision.reason == "1 demonstration, leave-one-out needs 2 demonstrations: answering in context"


def test_leave_one_out_that_was_not_run_is_not_a_failed_one() -> None:
    decision = decided(features_with((), n_demonstrations=3))

    assert decision.arm == "icl_vote"
    assert "none was held out" in decision.reason


def test_epsilon_is_spread_evenly_over_the_available_arms() -> None:
    propensities = LooThreshold(epsilon=0.2).propensities(features_with((False, False)), ARMS)

    assert propensities == pytest.approx((0.05, 0.05, 0.05, 0.85))


def test_every_available_arm_has_a_chance() -> None:
    assert all(p > 0.0 for p in LooThreshold().propensities(features_with((True, True)), ARMS))


def test_an_explored_arm_says_so_and_names_what_the_rule_takes() -> None:
    policy = LooThreshold(epsilon=1.0)
    rng = np.random.default_rng(0)
    drawn = (policy.decide(features_with((False, False)), rng, ARMS) for _ in range(50))
    explored = next(decision for decision in drawn if decision.arm == "icl")

    assert explored.propensity == pytest.approx(0.25)
    assert explored.reason.startswith("exploring icl, drawn with 0.250, where ttt is the favourite; 0 of 2")


def test_difficulty_is_one_minus_the_estimate_that_icl_is_right() -> None:
    assert decided(features_with((True, False, False), confidence=0.5)).difficulty == pytest.approx(1 - 1.5 / 4)


def test_other_settings_are_another_version() -> None:
    assert LooThreshold().version != LooThreshold(epsilon=0.1).version


@pytest.mark.parametrize("setting", ["threshold", "sure_at", "epsilon"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_setting_that_is_no_share_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        LooThreshold(**{setting: value})


def test_logs_that_hold_the_share_alone_are_read() -> None:
    assert decided(named(loo_exact_share=1.0)).arm == "icl"
    assert decided(named(loo_exact_share=0.5)).arm == "ttt"


def test_logs_without_leave_one_out_are_answered_in_context() -> None:
    decision = decided(named())

    assert decision.arm == "icl_vote"
    assert decision.reason == "nothing is known of held-out demonstrations: answering in context"


def test_scores_are_difficulties() -> None:
    matrix = outcome_matrix(10)
    decisions = [decided(matrix.features_at(row)) for row in range(10)]

    assert LooThreshold().scores(matrix) == pytest.approx([decision.difficulty for decision in decisions])
