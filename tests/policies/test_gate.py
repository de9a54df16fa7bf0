"""A candidate takes the incumbent's place only where every condition holds, and the verdict says which did not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from policies.gate import GateRules, Outcome, Sides, Verdict, judge, weighted_auroc
from policies.off_policy import LoggedRows
from tests.policies.logs import Floats, World, policy, world

N = 3000
TRUTH = world(2 * N, seed=20)
P_TTT = np.full(2 * N, 0.3)
INCUMBENT = policy(P_TTT)


def skilled(truth: World = TRUTH) -> Floats:
    """Trains where the score says it helps."""
    return policy(np.where(truth.features[:, 0] > 0.3, 0.95, 0.05))


def sides(
    rows: LoggedRows, candidate: Floats, which: slice, *, incumbent: Floats = INCUMBENT, helps: Floats | None = None
) -> Sides:
    picked = range(*which.indices(len(rows)))
    return Sides(rows.take(picked), candidate[which], incumbent[which], None if helps is None else helps[which])


def verdict_on(
    candidate: Floats,
    *,
    n: int = N,
    attempt: int = 1,
    rules: GateRules | None = None,
    helps: Floats | None = None,
    rows: LoggedRows | None = None,
) -> Verdict:
    logged = rows or TRUTH.logged(np.random.default_rng(21), P_TTT, one_sided=True)
    earlier = sides(logged, candidate, slice(0, N), helps=helps)
    newest = sides(logged, candidate, slice(N, N + n), helps=helps)
    return judge(earlier, newest, attempt=attempt, rules=rules)


def failing(verdict: Verdict) -> set[str]:
    return {each.name for each in verdict.conditions if each.holds is not True}


def test_a_candidate_that_knows_where_training_helps_is_promoted() -> None:
    helps = np.clip(0.25 + 0.15 * TRUTH.features[:, 0], 0, 1)

    verdict = verdict_on(skilled(), helps=helps)

    assert (verdict.outcome, failing(verdict)) == (Outcome.PROMOTE, set())
    numbers = verdict.numbers()
    assert 0 < numbers["utility_lower"] < TRUTH.true_value(skilled() - INCUMBENT, 0.1) + 0.02
    assert numbers["auroc_lower"] > 0.5


def test_one_that_trains_where_it_does_not_help_is_refused() -> None:
    verdict = verdict_on(1 - skilled())

    assert verdict.outcome is Outcome.REFUSE
    assert "utility_lower" in failing(verdict)
    assert any("utility -" in reason for reason in verdict.reasons)


def test_on_few_rows_nothing_is_decided() -> None:
    verdict = verdict_on(skilled(), n=40)

    assert verdict.outcome is Outcome.UNDECIDED
    assert {"utility_lower", "effective_rows"} <= failing(verdict)
    assert verdict_on(skilled(), n=0).outcome is Outcome.UNDECIDED


def test_a_few_rows_of_bad_luck_refuse_nobody() -> None:
    """Bounds that are made for many rows exclude too much on ten, and every turn of the loop is another look."""
    worse = policy(np.full(2 * N, 0.02))
    one_family = replace(TRUTH.logged(np.random.default_rng(21), P_TTT, one_sided=True), families=("f",) * (2 * N))

    few = [verdict_on(worse, n=n, rows=one_family) for n in range(5, 95, 3)]

    assert {verdict.outcome for verdict in few} == {Outcome.UNDECIDED}
    assert verdict_on(worse, rows=one_family).outcome is Outcome.REFUSE


def test_the_incumbent_itself_is_not_promoted() -> None:
    assert verdict_on(INCUMBENT).outcome is not Outcome.PROMOTE


def test_a_later_attempt_needs_more_evidence() -> None:
    first, tenth = verdict_on(skilled()).numbers(), verdict_on(skilled(), attempt=10).numbers()

    assert tenth["utility_lower"] < first["utility_lower"]


def test_training_more_of_everything_has_no_skill_to_show() -> None:
    verdict = verdict_on(policy(np.full(2 * N, 0.9)))

    assert verdict.numbers()["utility_lower"] > 0
    assert "above_shuffled" in failing(verdict)
    assert verdict.outcome is not Outcome.PROMOTE


def test_saving_costs_at_the_price_of_accuracy_is_refused() -> None:
    verdict = verdict_on(policy(np.full(2 * N, 0.02)), rules=GateRules(price=0.9))

    assert verdict.outcome is Outcome.REFUSE
    assert "accuracy_lower" in failing(verdict)


def test_an_arm_that_could_never_be_drawn_leaves_it_undecided() -> None:
    logged = TRUTH.logged(np.random.default_rng(22), P_TTT, one_sided=True)
    blind = replace(logged, known_p=np.where(np.arange(2) == 1, 0.0, logged.known_p))

    assert "blind_share" in failing(verdict_on(skilled(), rows=blind))


def test_harm_to_one_family_is_seen_though_the_whole_gains() -> None:
    candidate = skilled()
    hurt = np.array(TRUTH.families) == "family_3"
    candidate[hurt] = [0.98, 0.02]
    rows = TRUTH.logged(np.random.default_rng(26), P_TTT, one_sided=True)
    rows.quality[hurt] = np.where(np.isnan(rows.quality[hurt]), np.nan, [0.0, 1.0])  # there only training helps

    verdict = verdict_on(candidate, rows=rows)

    assert verdict.outcome is Outcome.REFUSE
    assert any("family_3" in reason for reason in verdict.reasons)


def test_predictions_that_rank_nothing_keep_a_candidate_back() -> None:
    noise = np.random.default_rng(23).random(2 * N)

    assert {"auroc_lower", "brier_worse_by"} <= failing(verdict_on(skilled(), helps=noise))


def test_a_file_that_cannot_be_used_is_refused_whatever_its_numbers() -> None:
    logged = TRUTH.logged(np.random.default_rng(24), P_TTT)
    both = sides(logged, skilled(), slice(0, N))

    verdict = judge(both, both, attempt=1, unfit="made for other features")

    assert (verdict.outcome, verdict.reasons) == (Outcome.REFUSE, ("made for other features",))


def test_a_verdict_is_told_whole_in_json() -> None:
    verdict = verdict_on(skilled(), n=40)

    told = json.loads(verdict.as_json())
    assert told["outcome"] == "undecided"
    assert {each["name"] for each in told["conditions"]} == {each.name for each in verdict.conditions}


def test_the_weighted_area_under_the_curve_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(25)
    labels, scores = (rng.random(60) < 0.4).astype(float), rng.integers(10, size=60).astype(float)
    weights = rng.integers(1, 4, size=60)
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, x in zip(np.repeat(scores, weights), np.repeat(labels, weights), strict=True) if x
        for b, y in zip(np.repeat(scores, weights), np.repeat(labels, weights), strict=True) if not y
    ]  # fmt: skip

    assert weighted_auroc(labels, scores, weights.astype(float))[0] == pytest.approx(np.mean(pairs))
