"""A budget is kept while tasks come in, also when they change."""

from __future__ import annotations

import numpy as np
import pytest

from policies.errors import PolicySettingRefused
from policies.learned import LearnedPolicy
from policies.pacing import BudgetPacer, PacedPolicy
from policies.wishes import Budget, SecondsBudget, ShareBudget
from tests.policies.policy_fakes import PRICING, FakeGainModel, named

N = 2000
LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.02)


def gains(n: int, rng: np.random.Generator, *, mean: float) -> list[float]:
    return list(rng.normal(mean, 0.2, n).tolist())


def run(
    pacer: BudgetPacer, expected_gains: list[float], rng: np.random.Generator, *, ttt_s: float = 8.0
) -> list[float]:
    """Train where the gain is worth its price; return what each task consumed, in budgets."""
    consumed = []
    for gain in expected_gains:
        arm = "ttt" if gain > pacer.price and not pacer.exhausted else "icl"
        seconds = float(0.2 + (arm == "ttt") * ttt_s * (0.5 + rng.random()))
        pacer.spent(arm, seconds)
        budget = pacer.budget
        if isinstance(budget, SecondsBudget):
            consumed.append(seconds / budget.seconds)
        else:
            consumed.append((arm in budget.arms) / budget.share)
    return consumed


BUDGETS: list[Budget] = [ShareBudget(("ttt",), 0.3), SecondsBudget(2.0)]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_over_two_thousand_tasks_at_most_a_hundredth_is_overspent(budget: Budget, seed: int) -> None:
    rng = np.random.default_rng(seed)
    consumed = run(BudgetPacer(budget), gains(N, rng, mean=0.3), rng)

    assert np.mean(consumed) <= 1.01
    assert np.mean(consumed) >= 0.97  # and little is left lying about


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_so_it_is_in_the_two_thousand_after_a_shift(budget: Budget, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pacer = BudgetPacer(budget)
    before = run(pacer, gains(N, rng, mean=0.0), rng)
    after = run(pacer, gains(N, rng, mean=0.5), rng, ttt_s=16.0)

    assert np.mean(after) <= 1.01
    assert np.mean(before) <= 1.01
    assert np.mean(after) >= 0.97


def test_the_price_settles_where_the_budget_is_spent() -> None:
    rng = np.random.default_rng(0)
    pacer = BudgetPacer(ShareBudget(("ttt",), 0.3))
    run(pacer, gains(N, rng, mean=0.3), rng)
    prices = []
    for gain in gains(N, rng, mean=0.3):
        pacer.spent("ttt" if gain > pacer.price else "icl", 1.0)
        prices.append(pacer.price)

    assert np.mean(prices) == pytest.approx(0.3 + 0.2 * 0.5244, abs=0.02)  # the 70% quantile of the gains


def test_no_price_below_zero_is_reached_however_little_is_spent() -> None:
    pacer = BudgetPacer(SecondsBudget(10.0), price=0.1)
    for _ in range(100):
        pacer.spent("icl", 0.1)

    assert pacer.price == 0.0
    assert not pacer.exhausted


def test_a_policy_that_cannot_save_is_made_to() -> None:
    """Exploration alone spends three times the budget; the arm is taken away until it is earned again."""
    rng = np.random.default_rng(0)
    pacer = BudgetPacer(ShareBudget(("ttt",), 0.01))
    policy = PacedPolicy(LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.1).at_price, pacer)
    features = named(loo_exact_share=0.2)
    trained = 0
    for _ in range(600):
        decision = policy.decide(features, rng, ("icl", "ttt"))
        trained += decision.arm == "ttt"
        pacer.spent(decision.arm, 1.0)

    assert trained <= 0.01 * (600 + 8) + 1


def test_a_budget_that_is_used_up_says_so_and_is_another_version() -> None:
    pacer = BudgetPacer(SecondsBudget(1.0), reserve=5.0)
    policy = PacedPolicy(LEARNED.at_price, pacer)
    before = policy.version
    pacer.spent("ttt", 20.0)
    decision = policy.decide(named(loo_exact_share=0.0), np.random.default_rng(0), ("icl", "ttt"))

    assert policy.version != before
    assert decision.propensities == (("icl", 1.0), ("ttt", 0.0))
    assert decision.reason.endswith("keeps <= 1 s a task (used up: only icl)")


@pytest.mark.parametrize("setting", ["step", "reserve"])
def test_a_pacer_that_would_not_move_is_refused(setting: str) -> None:
    with pytest.raises(PolicySettingRefused, match=setting):
        BudgetPacer(SecondsBudget(1.0), **{setting: 0.0})
