"""What is wished for is what the policy does."""

from __future__ import annotations

import numpy as np
import pytest

from policies.budget import spending
from policies.granting import granted
from policies.learned import LearnedPolicy
from policies.regret_bound import BoundedRegret
from policies.replay import choices_of
from policies.wishes import SecondsBudget, ShareBudget, read_wish
from tests.policies.policy_fakes import PRICING, FakeGainModel, outcome_matrix, realised_regret_rate

LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING)


def test_a_price_is_the_price() -> None:
    assert granted(read_wish("price = 0.4"), LEARNED, outcome_matrix()) == LEARNED.at_price(0.4)


@pytest.mark.parametrize(
    ("text", "budget", "limit"),
    [("ttt <= 20 %", ShareBudget(("ttt",), 0.2), 0.2), ("<= 2.5 s a task", SecondsBudget(2.5), 2.5)],
)
def test_a_budget_is_spent(text: str, budget: ShareBudget | SecondsBudget, limit: float) -> None:
    matrix = outcome_matrix()

    assert spending(granted(read_wish(text), LEARNED, matrix), matrix, budget) == pytest.approx(limit, rel=1e-6)


def test_a_bound_is_kept() -> None:
    matrix = outcome_matrix(2000, arms=("icl", "ttt"))
    policy = granted(read_wish("max_regret_rate = 30 %"), LEARNED, matrix.take(np.arange(1000)))
    rest = matrix.take(np.arange(1000, 2000))

    assert isinstance(policy, BoundedRegret)
    assert policy.bound.holds
    assert realised_regret_rate(choices_of(policy, rest), rest) <= 0.3


def test_a_bound_that_cannot_be_shown_trains_on_everything() -> None:
    policy = granted(read_wish("max_regret_rate = 5 %"), LEARNED, outcome_matrix(100))

    assert policy.propensities(outcome_matrix(1).features_at(0), ("icl", "ttt")) == (0.0, 1.0)
