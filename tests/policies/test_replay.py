"""Policies on matrices: what is offered to them, and what stands in where their arm is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from policies import AlwaysArm, ArmUnavailable
from policies.baselines import Uniform
from policies.feature_values import FeatureValues
from policies.replay import choices_of, predicted_costs
from tests.policies.policy_fakes import outcome_matrix


class Curious(Uniform):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        object.__setattr__(self, "asked", [])

    __slots__ = ("asked",)
    asked: list[tuple[tuple[str, ...], tuple[tuple[str, float], ...]]]

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        self.asked.append((tuple(arms), features.predicted_cost_s))
        return super().propensities(features, arms)


def test_only_arms_that_were_measured_are_offered() -> None:
    policy, matrix = Curious(), outcome_matrix(4, ttt_missing=2)
    choices_of(policy, matrix)

    assert [arms for arms, _ in policy.asked] == [("icl", "icl_vote")] * 2 + [matrix.arms] * 2


def test_predicted_costs_are_feature_columns_and_measured_ones_stay_hidden() -> None:
    matrix = outcome_matrix(2)
    with_costs = replace(
        matrix,
        feature_names=(*matrix.feature_names, "predicted_cost_s.ttt"),
        features=np.column_stack([matrix.features, [9.0, np.nan]]),
    )
    policy = Curious()
    choices_of(policy, with_costs)

    assert [predicted for _, predicted in policy.asked] == [(("ttt", 9.0),), ()]
    assert np.isnan(predicted_costs(matrix)).all()


def test_where_its_arm_is_missing_the_answer_in_context_stands() -> None:
    matrix = outcome_matrix(5, ttt_missing=2)
    chosen = choices_of(AlwaysArm("ttt"), matrix)

    assert chosen[:, matrix.column("icl")].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert chosen[:, matrix.column("ttt")].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_an_arm_that_no_row_has_is_a_mistake() -> None:
    with pytest.raises(ArmUnavailable, match="program_synthesis"):
        choices_of(AlwaysArm("program_synthesis"), outcome_matrix(3))
