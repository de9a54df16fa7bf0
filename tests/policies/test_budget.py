"""A budget is met exactly, and spent where it is worth most."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import AlwaysArm, LooThreshold, Policy
from policies.budget import Mixture, allocate, consumption, meet_budget, spending
from policies.errors import BudgetUnreachable
from policies.learned import LearnedPolicy
from policies.wishes import Budget, SecondsBudget, ShareBudget
from tests.policies.policy_fakes import PRICING, FakeGainModel, outcome_matrix

Floats = npt.NDArray[np.float64]
LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING)

small_numbers = st.integers(0, 4).map(lambda n: n / 4.0)  # few values, so that ties are common


@st.composite
def instances(draw: st.DrawFn) -> tuple[Floats, Floats, float]:
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    worth, consumed = (
        np.array(draw(st.lists(st.lists(small_numbers, min_size=m, max_size=m), min_size=n, max_size=n)))
        for _ in range(2)
    )
    least = consumed.min(axis=1).mean()
    return worth, consumed, float(least + draw(st.floats(0.0, 1.0)))


def best_by_brute_force(worth: Floats, consumed: Floats, budget: float) -> float:
    """Of all ways to choose, and all mixtures of two of them within the budget, the highest worth."""
    n, m = worth.shape
    rows = np.arange(n)
    ways = [
        (consumed[rows, list(way)].mean(), worth[rows, list(way)].mean())
        for way in itertools.product(range(m), repeat=n)
    ]
    within = [(c, w) for c, w in ways if c <= budget + 1e-12]
    found = max(w for _, w in within)
    for (c, w), (d, v) in itertools.product(within, ways):
        if d > budget + 1e-12:
            found = max(found, w + (v - w) * (budget - c) / (d - c))
    return float(found)


@settings(max_examples=150, deadline=None)
@given(instance=instances())
def test_no_other_choice_within_the_budget_is_worth_more(instance: tuple[Floats, Floats, float]) -> None:
    worth, consumed, budget = instance
    found = allocate(worth, consumed, budget)

    assert found.propensities.sum(axis=1) == pytest.approx(np.ones(len(worth)))
    assert found.propensities.min() >= 0.0
    assert (found.propensities * worth).sum(axis=1).mean() == pytest.approx(best_by_brute_force(*instance))


@settings(max_examples=150, deadline=None)
@given(instance=instances())
def test_the_budget_is_met_exactly_where_it_binds(instance: tuple[Floats, Floats, float]) -> None:
    worth, consumed, budget = instance
    found = allocate(worth, consumed, budget)
    spent = (found.propensities * consumed).sum(axis=1).mean()

    assert spent == pytest.approx(found.spent)
    assert spent == pytest.approx(budget) if found.price > 0.0 else spent <= budget + 1e-9


@settings(max_examples=80, deadline=None)
@given(instance=instances())
def test_every_arm_taken_is_a_best_one_at_the_price(instance: tuple[Floats, Floats, float]) -> None:
    worth, consumed, budget = instance
    found = allocate(worth, consumed, budget)
    utilities = worth - found.price * consumed

    assert (utilities.max(axis=1, keepdims=True) - utilities)[found.propensities > 0.0] == pytest.approx(0.0, abs=1e-9)


def test_equal_tasks_are_mixed_alike() -> None:
    found = allocate(np.tile([0.2, 0.8], (10, 1)), np.tile([0.0, 1.0], (10, 1)), 0.3)

    assert found.propensities[:, 1] == pytest.approx(0.3 * np.ones(10))
    assert found.price == pytest.approx(0.6)
    assert found.mix == pytest.approx(0.7)


def test_an_arm_that_is_not_there_is_never_taken() -> None:
    worth = np.array([[0.1, np.nan], [0.1, 0.9]])

    assert allocate(worth, np.array([[0.0, np.nan], [0.0, 1.0]]), 1.0).propensities.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_budget_below_the_cheapest_arms_is_refused_with_what_they_cost() -> None:
    with pytest.raises(BudgetUnreachable) as refused:
        allocate(np.ones((2, 1)), np.full((2, 1), 3.0), 2.0)

    assert refused.value.least == 3.0


BUDGETS: list[Budget] = [ShareBudget(("ttt",), 0.3), ShareBudget(("ttt", "ttt_short"), 0.2), SecondsBudget(3.0)]


@pytest.mark.parametrize("explore", [0.0, 0.05])
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_policy_spends_exactly_the_budget_on_the_matrix(budget: Budget, explore: float) -> None:
    matrix = outcome_matrix(80, ttt_missing=8)
    policy = meet_budget(LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=explore).at_price, matrix, budget)
    limit = budget.seconds if isinstance(budget, SecondsBudget) else budget.share

    assert spending(policy, matrix, budget) == pytest.approx(limit, rel=1e-6)


def test_a_policy_that_spends_less_without_a_price_has_none() -> None:
    assert meet_budget(LEARNED.at_price, outcome_matrix(), ShareBudget(("ttt",), 1.0)) == LEARNED.at_price(0.0)


def test_what_exploration_costs_cannot_be_saved() -> None:
    with pytest.raises(BudgetUnreachable, match="Explore less") as refused:
        meet_budget(LEARNED.at_price, outcome_matrix(), ShareBudget(("ttt",), 0.01))

    assert refused.value.least == pytest.approx(0.05 / 3, rel=1e-6)


def test_a_mixture_is_each_of_the_two_as_often_as_it_says() -> None:
    matrix = outcome_matrix(10)
    dear: Policy = AlwaysArm("ttt")
    features = matrix.features_at(0)

    assert Mixture(dear, AlwaysArm("icl"), 0.25).propensities(features, ("icl", "ttt")) == (0.25, 0.75)
    assert Mixture(dear, LooThreshold(), 0.0).propensities(features, ("icl", "ttt")) == (0.0, 1.0)


def test_seconds_are_those_of_the_features_and_of_the_arm_after_them() -> None:
    matrix = outcome_matrix(10)
    seconds = consumption(matrix, SecondsBudget(1.0))

    i = matrix.column("icl")
    assert seconds[:, i] == pytest.approx(np.maximum(matrix.feature_cost_s, matrix.cost_s[:, i]))
    assert seconds[:, matrix.column("ttt")] == pytest.approx(
        matrix.feature_cost_s + matrix.cost_s[:, matrix.column("ttt")]
    )
