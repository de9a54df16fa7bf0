"""The pieces decisions are made of. The contract of policies is in `test_policy_contract`."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from policies import AlwaysArm, Arm
from policies.decision import certain, counter_draw, draw, drawn, first_available
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


def test_a_counted_draw_hangs_on_task_policy_and_salt_alone() -> None:
    propensities = (0.25, 0.25, 0.25, 0.25)

    def drawn_for(task: str, policy: str, salt: int) -> str:
        return counter_draw(ARMS, propensities, task_fingerprint=task, policy=policy, salt=salt)[0]

    tasks = [f"{i:064x}" for i in range(40)]
    first = [drawn_for(task, "learned@1", 0) for task in tasks]

    assert [drawn_for(task, "learned@1", 0) for task in reversed(tasks)] == first[::-1]
    assert [drawn_for(task, "learned@2", 0) for task in tasks] != first
    assert [drawn_for(task, "learned@1", 1) for task in tasks] != first


def test_counted_draws_follow_the_propensities() -> None:
    """A chi-square with 2 degrees of freedom: 18.4 is exceeded once in 10,000."""
    propensities, n = (0.05, 0.0, 0.25, 0.7), 4000
    counts = Counter(counter_draw(ARMS, propensities, task_fingerprint=str(i), policy="p@1", salt=0) for i in range(n))
    expected = {(arm, p): n * p for arm, p in zip(ARMS, propensities, strict=True) if p}

    assert set(counts) == set(expected)
    assert sum((counts[key] - e) ** 2 / e for key, e in expected.items()) < 18.4


def test_the_counted_draw_is_the_same_on_every_machine() -> None:
    arms = [counter_draw(ARMS, (0.25,) * 4, task_fingerprint="a", policy="p@1", salt=i)[0] for i in range(6)]

    assert arms == ["icl_vote", "icl_vote", "icl_vote", "icl_vote", "icl_vote", "ttt_short"]


def test_probabilities_that_round_below_one_leave_no_draw_without_an_arm() -> None:
    third = (0.3, 0.3, 0.3, 0.0)  # sums to 0.9, far more than rounding takes away

    arms = {counter_draw(ARMS, third, task_fingerprint=str(i), policy="p@1", salt=0)[0] for i in range(200)}

    assert arms == {"icl", "icl_vote", "ttt_short"}


def test_an_arm_that_is_not_the_favourite_says_that_it_explores() -> None:
    policy, rng = AlwaysArm("icl"), np.random.default_rng(0)
    decision = drawn(policy, (0.0, 1.0), rng, ("icl", "ttt"), favourite="icl", reason="cheap", difficulty=0.5)

    assert decision.reason == "exploring ttt, drawn with 1.000; the rule takes icl: cheap"


def test_certainty_is_all_on_one_arm() -> None:
    assert certain("ttt", ARMS) == (0.0, 0.0, 0.0, 1.0)
