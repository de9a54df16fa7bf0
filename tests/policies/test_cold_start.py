"""Before anything has been learned here, the shipped prior decides: marked as such, whatever the device."""

from __future__ import annotations

import numpy as np
import pytest

from policies import Arm, policy_id
from policies.cold_start import cold_start, cold_start_named
from policies.errors import PolicySettingRefused
from policies.feature_values import NamedFeatures
from policies.learned import LearnedPolicy
from policies.stages import Stage
from tests.policies.fakes import features_with

ARMS = (Arm.ICL, Arm.ICL_VOTE, Arm.TTT_SHORT, Arm.TTT)


def first(*, price: float = 0.1, votes: bool = False) -> LearnedPolicy:
    return cold_start(price=price, explore=0.0, votes=votes)


def test_it_is_marked_as_a_prior_that_has_seen_no_outcome() -> None:
    assert first().stage == "prior"
    assert "model=prior-" in first().version
    assert first().n_outcomes == 0


def test_the_same_task_is_decided_alike_on_a_device_a_hundred_times_slower() -> None:
    seconds = {"icl": 0.05, "icl_vote": 0.4, "ttt_short": 2.0, "ttt": 8.0}
    for price in (0.1, 0.5, 2.0):
        here, slow = (
            first(price=price).weigh(
                NamedFeatures(("prompt_tokens",), (300.0,), tuple((arm, s * factor) for arm, s in seconds.items())),
                ARMS,
            )
            for factor in (1.0, 100.0)
        )
        assert here.favourite == slow.favourite
        assert [arm.cost for arm in here.arms] == pytest.approx([arm.cost for arm in slow.arms])


def test_what_is_dear_is_trained_on_the_less() -> None:
    free, dear = (first(price=price).weigh(features_with(), ARMS).of("ttt").utility or 0.0 for price in (0.0, 1.0))

    assert free > dear
    assert first(price=50.0).weigh(features_with(), ARMS).favourite == Arm.ICL


def test_it_asks_for_views_only_where_it_is_told_to_read_them() -> None:
    features = features_with()

    assert first().stages_wanted(features) is None
    assert first(votes=True).stages_wanted(features) is Stage.VOTES


def test_but_for_one_decision_in_twenty_it_takes_the_arm_that_is_worth_most() -> None:
    policy = cold_start(price=0.1, explore=0.05)

    propensities = dict(zip(map(str, ARMS), policy.propensities(features_with(), ARMS), strict=True))

    assert propensities[policy.weigh(features_with(), ARMS).favourite] == pytest.approx(0.95)


def test_an_arm_that_it_has_never_seen_is_only_explored() -> None:
    policy = cold_start(price=0.1, explore=0.1)

    propensities = dict(zip((*ARMS, "remote"), policy.propensities(features_with(), (*ARMS, "remote")), strict=True))

    assert 0.0 < propensities["remote"] <= 0.1 / 4 + 1e-12


@pytest.mark.parametrize("votes", [False, True])
def test_it_is_made_again_from_its_name_and_decides_alike(votes: bool) -> None:
    policy = cold_start(price=0.3, explore=0.072, votes=votes)

    again = cold_start_named(policy_id(policy))

    assert again is not None
    assert policy_id(again) == policy_id(policy)
    for seed in range(20):
        one, other = (each.decide(features_with(), np.random.default_rng(seed), ARMS) for each in (policy, again))
        assert one == other


@pytest.mark.parametrize(
    "named",
    [
        "loo_threshold@1:threshold=1.0,sure_at=0.9,epsilon=0.05",
        "learned@1:model=logistic-0123456789ab,price=0.1,costs=00000000,explore=0.05,temperature=0.05,outcomes=7",
        "learned@1:model=prior-0123456789ab,price=0.1,costs=b54400a3,tokens=100.0,explore=0.05,temperature=0.0,outcomes=0",
    ],
)
def test_another_policy_or_the_prior_of_another_release_is_not_taken_for_it(named: str) -> None:
    assert cold_start_named(named) is None


def test_a_price_below_zero_is_refused() -> None:
    with pytest.raises(PolicySettingRefused, match="price"):
        cold_start(price=-1.0, explore=0.0)
