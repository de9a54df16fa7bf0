"""The contract that every policy keeps: propensities, draws, names, reasons, and what it does without features."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from policies import AlwaysArm, ArmUnavailable, LooThreshold, Policy, policy_id
from policies.baselines import (
    BetaThompson,
    BudgetedOracle,
    CostMatchedShuffle,
    FamilyOracle,
    LinUcb,
    NearestNeighbours,
    Standardising,
    TaskOracle,
    Uniform,
    entropy_threshold,
    loo_exact_threshold,
    vote_cascade,
)
from policies.budget import Mixture
from policies.decision import LearningPolicy
from policies.feature_values import NamedFeatures
from policies.learned import LearnedPolicy
from policies.pacing import BudgetPacer, PacedPolicy
from policies.regret_bound import BoundedRegret, RegretBound
from policies.replay import ReplayPolicy, Scorer, choices_of, measured
from policies.wishes import ShareBudget
from tests.policies.policy_fakes import ARMS, NAMES, PRICING, FakeGainModel, named, outcome_matrix

MATRIX = outcome_matrix()
LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING)
SCALE = Standardising.of(MATRIX, NAMES)
BOUND = RegretBound(0.2, 0.05, 0.05, 600, 300, 5)


def exhausted_pacer() -> BudgetPacer:
    pacer = BudgetPacer(ShareBudget(("ttt",), 0.1), reserve=1.0)
    pacer.spent("ttt", 8.0)
    return pacer


def taught(policy: BetaThompson | LinUcb) -> BetaThompson | LinUcb:
    for row in range(len(MATRIX)):
        for j, arm in enumerate(MATRIX.arms):
            policy.update(MATRIX.features_at(row), arm, float(MATRIX.quality[row, j]))
    return policy


MAKERS: dict[str, Callable[[], Policy]] = {
    "always icl": lambda: AlwaysArm("icl"),
    "loo threshold": LooThreshold,
    "loo threshold, half": lambda: LooThreshold(threshold=0.5, epsilon=0.4),
    "loo threshold, sure": lambda: LooThreshold(epsilon=0.0),
    "learned": lambda: LEARNED,
    "learned, sure": lambda: LearnedPolicy(FakeGainModel(), "fake", PRICING, explore=0.0),
    "learned, two arms known": lambda: LearnedPolicy(FakeGainModel(arms=("icl", "ttt")), "fake", PRICING, explore=0.1),
    "mixture": lambda: Mixture(LEARNED, LEARNED.at_price(0.5), 0.25),
    "paced": lambda: PacedPolicy(LEARNED.at_price, BudgetPacer(ShareBudget(("ttt",), 0.3), price=0.2)),
    "paced, used up": lambda: PacedPolicy(LEARNED.at_price, exhausted_pacer()),
    "bounded regret": lambda: BoundedRegret(LEARNED, BOUND),
    "uniform": Uniform,
    "shuffle": lambda: CostMatchedShuffle.of(LEARNED, MATRIX),
    "one feature": loo_exact_threshold,
    "vote cascade": lambda: vote_cascade(0.7),
    "entropy": lambda: entropy_threshold(0.5),
    "neighbours": lambda: NearestNeighbours.of(MATRIX, NAMES, PRICING, k=5),
    "neighbours, unfitted": lambda: NearestNeighbours(SCALE, PRICING),
    "linucb": lambda: taught(LinUcb(SCALE, PRICING)),
    "linucb, unfitted": lambda: LinUcb(SCALE, PRICING),
    "thompson": lambda: taught(BetaThompson(PRICING)),
    "thompson, unfitted": lambda: BetaThompson(PRICING, n_draws=500),
}
POLICIES = {name: make() for name, make in MAKERS.items()}
FLOORS = {  # probability that no arm of ARMS falls below
    "loo threshold": 0.05 / 4,
    "loo threshold, half": 0.1,
    "learned": 0.05 / 3,
    "learned, two arms known": 0.1 / 3,
    "mixture": 0.05 / 3,
    "paced": 0.05 / 3,
    "uniform": 0.25,
}
ORACLES: list[ReplayPolicy] = [
    TaskOracle(PRICING),
    FamilyOracle(PRICING),
    BudgetedOracle(ShareBudget(("ttt", "ttt_short"), 0.2)),
]
SITUATIONS = {
    "all right": named(loo_exact_share=1.0, n_held_out=3.0, n_held_out_exact=3.0, answer_confidence=0.9),
    "all wrong": named(
        (("icl", 0.2), ("ttt", 4.0)),
        loo_exact_share=0.0,
        n_held_out=3.0,
        n_held_out_exact=0.0,
        answer_confidence=0.2,
        answer_entropy=1.4,
        vote_agreement=0.25,
    ),
    "only the share": named(loo_exact_share=0.5),
    "nothing known": NamedFeatures((), ()),
    "all None": NamedFeatures(NAMES, (None,) * len(NAMES)),
}
ARM_SETS = [("icl",), ("icl", "ttt"), ARMS, ("program_synthesis", "icl")]

CASES = list(itertools.product(SITUATIONS.values(), ARM_SETS))

every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


@every_policy
def test_propensities_are_probabilities_and_sum_to_one(policy: Policy) -> None:
    for features, arms in CASES:
        propensities = policy.propensities(features, arms)

        assert len(propensities) == len(arms)
        assert all(0.0 <= p <= 1.0 for p in propensities)
        assert math.fsum(propensities) == pytest.approx(1.0, abs=1e-12)


@every_policy
def test_a_decision_holds_an_available_arm_and_exactly_the_propensities_it_was_drawn_from(policy: Policy) -> None:
    for features, arms in CASES:
        decision = policy.decide(features, np.random.default_rng(0), arms)

        assert decision.arm in arms
        assert decision.propensities == tuple(zip(arms, policy.propensities(features, arms), strict=True))
        assert decision.propensity == dict(decision.propensities)[decision.arm]
        assert decision.propensity > 0.0
        assert decision.policy == f"{policy.name}@{policy.version}"
        assert 0.0 <= decision.difficulty <= 1.0


@every_policy
def test_the_reason_is_one_line_in_which_every_number_is_one(policy: Policy) -> None:
    for (features, arms), seed in itertools.product(CASES, range(3)):
        reason = policy.decide(features, np.random.default_rng(seed), arms).reason

        assert reason.strip()
        assert "\n" not in reason
        assert not {"nan", "none", "inf"} & set(re.split(r"[^a-z]+", reason.lower()))


@every_policy
def test_the_same_seed_gives_the_same_decision(policy: Policy) -> None:
    for features, seed in itertools.product(SITUATIONS.values(), range(3)):
        first, second = (policy.decide(features, np.random.default_rng(seed), ARMS) for _ in range(2))

        assert first == second


@every_policy
def test_draws_follow_the_propensities(policy: Policy) -> None:
    """A chi-square over seeds; with 3 degrees of freedom at most, 21.1 is exceeded once in 10,000."""
    n, features = 200, SITUATIONS["all wrong"]
    drawn = [policy.decide(features, np.random.default_rng(seed), ARMS).arm for seed in range(n)]
    expected = {arm: n * p for arm, p in zip(ARMS, policy.propensities(features, ARMS), strict=True)}

    assert all(expected[arm] > 0.0 for arm in drawn)
    assert sum((drawn.count(arm) - e) ** 2 / e for arm, e in expected.items() if e > 0.0) < 21.1


@every_policy
def test_the_order_of_the_arms_changes_no_propensity(policy: Policy) -> None:
    for features in SITUATIONS.values():
        found = {
            tuple(sorted(zip(arms, policy.propensities(features, arms), strict=True)))
            for arms in (ARMS, ARMS[::-1], ("ttt", "icl", "ttt_short", "icl_vote"))
        }

        assert len(found) == 1


@every_policy
def test_the_order_of_the_features_changes_no_propensity(policy: Policy) -> None:
    features = SITUATIONS["all wrong"]
    turned = NamedFeatures(features.names[::-1], features.values[::-1], features.predicted_cost_s[::-1])

    assert policy.propensities(turned, ARMS) == policy.propensities(features, ARMS)


@every_policy
def test_without_any_arm_there_is_no_decision(policy: Policy) -> None:
    features = SITUATIONS["all wrong"]

    with pytest.raises(ArmUnavailable):
        policy.propensities(features, ())
    with pytest.raises(ArmUnavailable):
        policy.decide(features, np.random.default_rng(0), ())


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_that_is_promised_is_kept(name: str) -> None:
    for features in SITUATIONS.values():
        assert min(POLICIES[name].propensities(features, ARMS)) >= FLOORS[name] - 1e-12


@every_policy
def test_a_matrix_is_decided_as_its_rows_are(policy: Policy) -> None:
    matrix = outcome_matrix(12, seed=1, ttt_missing=3)
    chosen = choices_of(policy, matrix)

    for row in range(len(matrix)):
        there = [j for j in range(len(ARMS)) if measured(matrix)[row, j]]
        arms = [matrix.arms[j] for j in there]
        one_by_one = np.zeros(len(ARMS))
        one_by_one[there] = policy.propensities(matrix.features_at(row), arms)
        assert chosen[row] == pytest.approx(one_by_one, abs=1e-12)


@pytest.mark.parametrize("policy", [*POLICIES.values(), *ORACLES], ids=policy_id)
def test_choices_on_a_matrix_are_probabilities_of_arms_that_were_measured(policy: Policy | ReplayPolicy) -> None:
    matrix = outcome_matrix(40, seed=2, ttt_missing=10)
    chosen = choices_of(policy, matrix)

    assert chosen.shape == matrix.quality.shape
    assert (chosen >= 0.0).all()
    assert chosen.sum(axis=1) == pytest.approx(np.ones(40))
    assert (chosen[~measured(matrix)] == 0.0).all()


@pytest.mark.parametrize("policy", [*POLICIES.values(), *ORACLES], ids=policy_id)
def test_the_order_of_the_columns_of_a_matrix_changes_no_choice(policy: Policy | ReplayPolicy) -> None:
    matrix = outcome_matrix(20, seed=3)
    turned = replace(matrix, arms=matrix.arms[::-1], quality=matrix.quality[:, ::-1], cost_s=matrix.cost_s[:, ::-1])

    assert choices_of(policy, turned)[:, ::-1] == pytest.approx(choices_of(policy, matrix), abs=1e-12)


@pytest.mark.parametrize(
    "scorer", [policy for policy in POLICIES.values() if isinstance(policy, Scorer)], ids=lambda policy: policy.name
)
def test_scores_are_finite_and_those_of_the_rows(scorer: Scorer) -> None:
    matrix = outcome_matrix(25, seed=4, ttt_missing=3)
    scores = scorer.scores(matrix)

    assert scores.shape == (25,)
    assert np.isfinite(scores).all()
    assert scores == pytest.approx([scorer.score(matrix.features_at(row)) for row in range(25)])


@pytest.mark.parametrize("name", ["thompson", "linucb", "neighbours"])
def test_an_outcome_is_another_version_and_raises_what_is_expected_of_the_arm(name: str) -> None:
    policy = MAKERS[name]()
    features, before = SITUATIONS["all wrong"], policy.version
    learner: LearningPolicy = policy  # type: ignore[assignment]
    for _ in range(200):
        learner.update(features, "icl_vote", 1.0)
        for arm in ("icl", "ttt_short", "ttt"):
            learner.update(features, arm, 0.0)

    assert policy.version != before
    assert policy.propensities(features, ARMS)[1] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", ["thompson", "linucb", "neighbours"])
def test_the_same_outcomes_are_the_same_version(name: str) -> None:
    assert MAKERS[name]().version == MAKERS[name]().version


def test_every_policy_of_the_suite_has_a_name_and_version_of_its_own() -> None:
    everyone: list[Policy | ReplayPolicy] = [*POLICIES.values(), *ORACLES]
    names = [policy_id(policy) for policy in everyone]

    assert len(set(names)) == len(names)
    assert all("\n" not in name for name in names)
