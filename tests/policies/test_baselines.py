"""What each baseline is for: the oracles bound, the control costs the same, the learners learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from policies import AlwaysArm, Policy
from policies.baselines import (
    BetaThompson,
    BudgetedOracle,
    CostMatchedShuffle,
    FamilyOracle,
    FeatureThreshold,
    LinUcb,
    NearestNeighbours,
    Standardising,
    TaskOracle,
    Uniform,
    entropy_threshold,
    loo_exact_threshold,
    vote_cascade,
)
from policies.baselines.task_oracle import measured_costs
from policies.budget import consumption, limit_of
from policies.errors import PolicySettingRefused
from policies.learned import LearnedPolicy
from policies.outcome_matrix import OutcomeMatrix
from policies.replay import ReplayPolicy, choices_of
from policies.wishes import Budget, SecondsBudget, ShareBudget
from tests.policies.policy_fakes import ARMS, NAMES, PRICING, FakeGainModel, named, outcome_matrix

Floats = npt.NDArray[np.float64]
LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING)
TWO = ("icl", "ttt")


def utility(choices: Floats, matrix: OutcomeMatrix) -> float:
    worth = np.nan_to_num(matrix.quality - PRICING.price * measured_costs(matrix, PRICING))
    return float((choices * worth).sum(axis=1).mean())


RIVALS: list[Policy | ReplayPolicy] = [
    *(AlwaysArm(arm) for arm in ARMS),
    Uniform(),
    LEARNED,
    loo_exact_threshold(),
    NearestNeighbours.of(outcome_matrix(), NAMES, PRICING),
]


@pytest.mark.parametrize("rival", RIVALS, ids=lambda policy: policy.name)
def test_no_policy_beats_the_task_oracle(rival: Policy | ReplayPolicy) -> None:
    matrix = outcome_matrix(ttt_missing=5)

    assert utility(choices_of(rival, matrix), matrix) <= utility(TaskOracle(PRICING).choose(matrix), matrix)


def test_the_family_oracle_lies_between_the_best_single_arm_and_the_task_oracle() -> None:
    matrix = outcome_matrix(80)
    families, tasks = (utility(oracle(PRICING).choose(matrix), matrix) for oracle in (FamilyOracle, TaskOracle))
    single = max(utility(choices_of(AlwaysArm(arm), matrix), matrix) for arm in ARMS)

    assert single <= families <= tasks


def test_with_a_family_for_each_row_the_two_oracles_are_one() -> None:
    matrix = outcome_matrix(30, n_families=30)

    assert FamilyOracle(PRICING).choose(matrix).tolist() == TaskOracle(PRICING).choose(matrix).tolist()


def test_the_family_oracle_takes_the_next_best_where_its_arm_was_not_measured() -> None:
    matrix = outcome_matrix(40, ttt_missing=8)

    assert FamilyOracle(PRICING).choose(matrix)[:8].sum(axis=1).tolist() == [1.0] * 8


@pytest.mark.parametrize("budget", [ShareBudget(("ttt",), 0.15), SecondsBudget(2.0)], ids=str)
def test_no_policy_within_the_budget_is_right_more_often_than_the_budgeted_oracle(budget: Budget) -> None:
    matrix = outcome_matrix(60)
    spent_by_arm = consumption(matrix, budget)
    oracle = BudgetedOracle(budget).choose(matrix)
    within = [
        choices
        for price in (0.0, 0.2, 0.5, 1.0, 4.0)
        for choices in (choices_of(LEARNED.at_price(price), matrix), TaskOracle(PRICING.at(price)).choose(matrix))
        if (choices * spent_by_arm).sum(axis=1).mean() <= limit_of(budget)
    ]

    assert within
    assert (oracle * spent_by_arm).sum(axis=1).mean() <= limit_of(budget) + 1e-9
    for choices in within:
        assert (choices * matrix.quality).sum() <= (oracle * matrix.quality).sum() + 1e-9


def test_the_shuffle_has_the_shares_of_the_policy_it_controls() -> None:
    matrix = outcome_matrix()
    shuffle = CostMatchedShuffle.of(LEARNED, matrix)

    assert choices_of(shuffle, matrix).mean(axis=0) == pytest.approx(choices_of(LEARNED, matrix).mean(axis=0))
    assert np.ptp(choices_of(shuffle, matrix), axis=0) == pytest.approx(np.zeros(4))


def test_a_shuffle_of_nothing_is_refused() -> None:
    with pytest.raises(PolicySettingRefused, match="shares"):
        CostMatchedShuffle((("icl", 0.0),), "p@1")


@pytest.mark.parametrize(
    ("policy", "kept", "trained"),
    [
        (loo_exact_threshold(0.5), {"loo_exact_share": 0.5}, {"loo_exact_share": 0.25}),
        (vote_cascade(0.75), {"vote_agreement": 0.75}, {"vote_agreement": 0.5}),
        (entropy_threshold(0.7), {"answer_entropy": 0.7}, {"answer_entropy": 0.8}),
    ],
)
def test_a_threshold_trains_on_one_side_of_its_limit_only(
    policy: FeatureThreshold, kept: dict[str, float], trained: dict[str, float]
) -> None:
    assert policy.propensities(named(**kept), TWO) == (1.0, 0.0)
    assert policy.propensities(named(**trained), TWO) == (0.0, 1.0)
    assert policy.propensities(named(), TWO) == (1.0, 0.0)
    assert policy.score(named(**trained)) > policy.score(named(**kept)) > policy.score(named())


def test_the_cascade_keeps_the_vote_it_has_taken() -> None:
    assert vote_cascade(0.75).propensities(named(vote_agreement=1.0), ARMS) == (0.0, 1.0, 0.0, 0.0)


def test_linucb_finds_out_in_which_tasks_training_helps() -> None:
    rng = np.random.default_rng(0)
    policy = LinUcb(Standardising(("loo_exact_share",), (0.5,), (0.5,)), PRICING, alpha=0.3)
    for _ in range(400):
        share = float(rng.integers(0, 2))
        features = named(loo_exact_share=share)
        arm = policy.decide(features, rng, TWO).arm
        policy.update(features, arm, float(rng.random() < (0.9 if arm == "ttt" or share else 0.1)))

    assert policy.propensities(named(loo_exact_share=1.0), TWO) == (1.0, 0.0)
    assert policy.propensities(named(loo_exact_share=0.0), TWO) == (0.0, 1.0)


def test_linucb_expects_what_ridge_regression_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2))
    y = rng.random(50)
    policy = LinUcb(Standardising(("a", "b"), (0.0, 0.0), (1.0, 1.0)), PRICING, ridge=2.0)
    for (a, b), quality in zip(x.tolist(), y.tolist(), strict=True):
        policy.update(named(a=a, b=b), "ttt", quality)
    design = np.column_stack([x, np.ones(50)])
    weights = np.linalg.solve(design.T @ design + 2.0 * np.eye(3), design.T @ y)

    assert policy.score(named(a=0.3, b=-0.4)) == pytest.approx(weights @ [0.3, -0.4, 1.0])


def test_a_nearest_neighbour_of_itself_is_worth_what_it_was() -> None:
    matrix = outcome_matrix(40, seed=7, arms=TWO)
    features = np.column_stack([matrix.features, np.arange(40.0)])
    unique = OutcomeMatrix(
        matrix.tasks,
        matrix.families,
        matrix.sets,
        matrix.seeds,
        TWO,
        matrix.quality,
        matrix.cost_s,
        (*NAMES, "row"),
        features,
        matrix.feature_cost_s,
    )
    policy = NearestNeighbours.of(unique, ("row",), PRICING, k=1)

    assert policy.scores(unique) == pytest.approx(unique.quality[:, 1] - unique.quality[:, 0])


def test_neighbours_are_kept_beyond_the_first_array() -> None:
    policy = NearestNeighbours(Standardising(("a",), (0.0,), (1.0,)), PRICING, k=1000)
    for i in range(300):
        policy.update(named(a=float(i % 7)), "ttt", float(i < 150))

    assert policy.score(named(a=0.0)) == pytest.approx(0.5 - 0.5)


def test_thompson_takes_an_arm_as_often_as_it_may_be_best() -> None:
    policy = BetaThompson(PRICING.at(0.0), n_draws=20_000)
    for quality in (1.0, 0.0, 1.0):
        policy.update(named(), "icl", quality)

    # P(X > Y), X from Beta(3, 2), Y uniform, is the mean of X
    assert policy.propensities(named(), TWO)[0] == pytest.approx(3 / 5, abs=0.02)


def test_standardised_features_have_mean_zero_and_deviation_one_and_zero_where_unknown() -> None:
    matrix = outcome_matrix(200)
    scale = Standardising.of(matrix, (*NAMES, "unheard_of"))
    rows = scale.rows(np.column_stack([matrix.features, np.full(200, np.nan)]))
    unknown = np.isnan(matrix.features)

    assert (rows[:, :-1][unknown] == 0.0).all()
    assert (rows[:, -1] == 0.0).all()
    for j, name in enumerate(NAMES):
        known = rows[~unknown[:, j], j]
        assert known.mean() == pytest.approx(0.0, abs=1e-9)
        assert known.std() == pytest.approx(0.0 if name in ("n_held_out", "n_demonstrations") else 1.0)


def test_a_wild_value_counts_no_more_than_five_deviations() -> None:
    assert Standardising(("a",), (0.0,), (1.0,)).row(named(a=1e9)).tolist() == [5.0]
