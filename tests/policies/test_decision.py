"""The contract every policy keeps, and the pieces decisions are made of."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from policies import AlwaysArm, Arm, ArmUnavailable, Features, LooThreshold, Policy, policy_id
from policies.decision import draw, first_available
from tests.policies.fakes import features_with

ARMS = ("icl", "icl_vote", "ttt_short", "ttt")
POLICIES = [LooThreshold(), LooThreshold(threshold=0.5, epsilon=0.4), LooThreshold(epsilon=0.0), AlwaysArm("icl")]
SITUATIONS = [
    features_with((True, True, True)),
    features_with((True, False, False)),
    features_with((False, False), adapter_cached=True),
    features_with((), n_demonstrations=1),
]
ARM_SETS = [("icl",), ("icl", "ttt"), ARMS, ("program_synthesis", "icl")]

every_policy = pytest.mark.parametrize("policy", POLICIES, ids=policy_id)
every_situation = pytest.mark.parametrize("features", SITUATIONS)
every_arm_set = pytest.mark.parametrize("arms", ARM_SETS, ids="+".join)


@every_policy
@every_situation
@every_arm_set
def test_propensities_are_probabilities_and_sum_to_one(
    policy: Policy, features: Features, arms: tuple[str, ...]
) -> None:
    propensities = policy.propensities(features, arms)

    assert len(propensities) == len(arms)
    assert all(0.0 <= p <= 1.0 for p in propensities)
    assert sum(propensities) == pytest.approx(1.0)


@every_policy
@every_situation
@every_arm_set
def test_a_decision_holds_an_available_arm_and_exactly_the_propensities_it_was_drawn_from(
    policy: Policy, features: Features, arms: tuple[str, ...]
) -> None:
    decision = policy.decide(features, np.random.default_rng(0), arms)

    assert decision.arm in arms
    assert decision.propensities == tuple(zip(arms, policy.propensities(features, arms), strict=True))
    assert decision.propensity == dict(decision.propensities)[decision.arm]
    assert decision.propensity > 0.0
    assert decision.policy == f"{policy.name}@{policy.version}"
    assert 0.0 <= decision.difficulty <= 1.0
    assert decision.reason
    assert "\n" not in decision.reason


@every_policy
@every_situation
def test_the_same_seed_gives_the_same_decision(policy: Policy, features: Features) -> None:
    first = [policy.decide(features, np.random.default_rng(seed), ARMS) for seed in range(20)]
    second = [policy.decide(features, np.random.default_rng(seed), ARMS) for seed in range(20)]

    assert first == second


@every_policy
@every_situation
def test_the_share_of_draws_is_the_propensity(policy: Policy, features: Features) -> None:
    rng = np.random.default_rng(0)
    n = 2000
    drawn = [policy.decide(features, rng, ARMS).arm for _ in range(n)]

    for arm, p in zip(ARMS, policy.propensities(features, ARMS), strict=True):
        four_sigma = 4.0 * (p * (1.0 - p) / n) ** 0.5
        assert drawn.count(arm) / n == pytest.approx(p, abs=four_sigma + 1e-12)


@every_policy
@every_situation
def test_the_order_of_the_arms_changes_no_propensity(policy: Policy, features: Features) -> None:
    found = {
        tuple(sorted(zip(arms, policy.propensities(features, arms), strict=True)))
        for arms in itertools.permutations(ARMS)
    }

    assert len(found) == 1


@every_policy
@every_situation
def test_without_any_arm_there_is_no_decision(policy: Policy, features: Features) -> None:
    with pytest.raises(ArmUnavailable):
        policy.propensities(features, ())
    with pytest.raises(ArmUnavailable):
        policy.decide(features, np.random.default_rng(0), ())


def test_decisions_are_frozen() -> None:
    decision = AlwaysArm("icl").decide(features_with(), np.random.default_rng(0), ARMS)

    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.arm = "ttt"  # type: ignore[misc]


def test_built_in_arms_are_plain_strings() -> None:
    assert [str(arm) for arm in Arm] == ["zero_shot", "icl", "icl_vote", "ttt_short", "ttt"]
    assert Arm.TTT in ("icl", "ttt")


def test_an_arm_of_the_users_own_is_taken_where_no_preferred_one_is_available() -> None:
    assert first_available(("ttt", "icl"), ("icl", "other")) == "icl"
    assert first_available(("ttt", "icl"), ("other",)) == "other"


def test_an_arm_with_probability_one_is_always_drawn() -> None:
    rng = np.random.default_rng(0)

    assert {draw(rng, ("a", "b"), (0.0, 1.0)) for _ in range(100)} == {("b", 1.0)}
