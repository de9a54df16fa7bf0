"""The pieces decisions are made of. The contract of policies is in `test_policy_contract`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policies import AlwaysArm, Arm
from policies.decision import certain, draw, drawn, first_available
from tests.policies.policy_fakes import named

ARMS = ("icl", "icl_vote", "ttt_short", "ttt")


def test_decisions_are_frozen() -> None:
    decision = AlwaysArm("icl").decide(named(), np.random.default_rng(0), ARMS)

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


def test_an_arm_that_is_not_the_favourite_says_that_it_explores() -> None:
    policy, rng = AlwaysArm("icl"), np.random.default_rng(0)
    decision = drawn(policy, (0.0, 1.0), rng, ("icl", "ttt"), favourite="icl", reason="cheap", difficulty=0.5)

    assert decision.reason == "exploring ttt, drawn with 1.000, where icl is the favourite; cheap"


def test_certainty_is_all_on_one_arm() -> None:
    assert certain("ttt", ARMS) == (0.0, 0.0, 0.0, 1.0)
