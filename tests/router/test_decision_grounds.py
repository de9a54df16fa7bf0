"""A policy that weighs its arms leaves its grounds in the trace; a rule leaves none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from policies.feature_values import FeatureValues, NamedFeatures
from policies.gain_model import Contribution
from policies.loo_threshold import LooThreshold
from router.decision_grounds import grounds_of
from router.trace import ContributionTrace, DecisionGrounds, DecisionTrace
from router.traces import arm_values, best_at

FEATURES = NamedFeatures((), (), (("icl", 0.5), ("ttt", 8.0)))


@dataclass(frozen=True)
class Weighed:
    arm: str
    gain: float | None
    gain_std: float | None
    cost: float
    utility: float | None


@dataclass(frozen=True)
class Weighing:
    arms: tuple[Weighed, ...]
    favourite: str
    rival: str | None
    p_icl: float = 0.4
    price: float = 0.1
    flip_price: float | None = 0.4


class WeighingPolicy:
    """Says of `ttt` that it gains 0.4 at a cost of 1, and that it does not know `zero_shot`."""

    def __init__(self, favourite: str = "ttt", rival: str | None = "icl") -> None:
        self.favourite, self.rival = favourite, rival

    def weigh(self, features: FeatureValues, arms: Sequence[str]) -> Weighing:
        known = {"icl": Weighed("icl", 0.0, 0.0, 0.0, 0.4), "ttt": Weighed("ttt", 0.4, 0.125, 1.0, 0.7)}
        return Weighing(
            tuple(known.get(arm, Weighed(arm, None, None, 1.0, None)) for arm in arms), self.favourite, self.rival
        )

    def contributions(self, features: FeatureValues, arm: str) -> tuple[Contribution, ...]:
        return tuple(Contribution(f"{arm}_{i}", float(i), 0.5, 0.3 / (i + 1)) for i in range(20))


def test_a_rule_has_no_grounds() -> None:
    assert grounds_of(LooThreshold(), FEATURES, ("icl", "ttt")) == DecisionGrounds()


def test_grounds_are_what_was_weighed() -> None:
    grounds = grounds_of(WeighingPolicy(), FEATURES, ("icl", "ttt", "zero_shot"))

    assert list(grounds.estimates) == ["icl", "ttt", "zero_shot"]
    assert (grounds.estimates["ttt"].p_correct, grounds.estimates["ttt"].predicted_cost_s) == (0.8, 8.0)
    assert grounds.estimates["zero_shot"].p_correct is None
    assert (grounds.price, grounds.flip_price, grounds.stage) == (0.1, 0.4, None)
    assert grounds.contributions[0] == ContributionTrace(feature="ttt_0", value=0.0, typical=0.5, gain=0.3)
    assert (len(grounds.contributions), grounds.contributions_arm) == (12, "ttt")


def test_contributions_are_to_the_gain_of_what_might_have_been_trained() -> None:
    assert grounds_of(WeighingPolicy("icl", "ttt"), FEATURES, ("icl", "ttt")).contributions_arm == "ttt"
    assert grounds_of(WeighingPolicy("icl", None), FEATURES, ("icl",)).contributions == ()


def test_the_costs_that_were_weighed_can_be_read_off_them() -> None:
    decision = DecisionTrace(
        **grounds_of(WeighingPolicy(), FEATURES, ("icl", "ttt")).model_dump(),
        arm="ttt", propensity=1.0, propensities={"icl": 0.0, "ttt": 1.0}, reason="", policy="p@1", difficulty=0.5,
        features={},
    )  # fmt: skip
    values = arm_values(decision)

    assert [value.cost for value in values] == pytest.approx([0.0, 1.0])
    assert (best_at(values, 0.39), best_at(values, 0.41)) == ("ttt", "icl")
