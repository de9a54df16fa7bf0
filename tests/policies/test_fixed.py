"""The policy that always takes one arm."""

from __future__ import annotations

import numpy as np
import pytest

from policies import AlwaysArm, ArmUnavailable
from tests.policies.policy_fakes import named


@pytest.mark.parametrize("arm", ["icl", "ttt", "program_synthesis"])
def test_the_arm_asked_for_is_taken_with_certainty(arm: str) -> None:
    decision = AlwaysArm(arm).decide(named(), np.random.default_rng(0), ("other", arm))

    assert decision.arm == arm
    assert decision.propensity == 1.0
    assert decision.propensities == (("other", 0.0), (arm, 1.0))
    assert decision.reason == "asked for"


def test_it_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    AlwaysArm("icl").decide(named(), rng, ("icl",))

    assert rng.random() == np.random.default_rng(0).random()


def test_an_arm_that_is_not_available_is_an_error_naming_those_that_are() -> None:
    with pytest.raises(ArmUnavailable, match=r"'ttt' is not available here\. Available: icl, icl_vote"):
        AlwaysArm("ttt").propensities(named(), ("icl", "icl_vote"))
