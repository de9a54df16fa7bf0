"""What the user asks for is kept while tasks come in, over restarts too; every decision says so and can be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.decision import Policy, policy_id
from policies.feature_values import NamedFeatures
from policies.features import SCHEMA_HASH
from policies.fixed import AlwaysArm
from policies.learned import LearnedPolicy
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.pacing import WithinBudget
from policies.records import DecisionRow, MeasuredCost, OutcomeRow
from policies.regret_bound import BoundedRegret, RegretBound, nothing_shown
from policies.wishes import SecondsBudget, ShareBudget
from router.acting_policy import InCharge
from router.cli import main
from router.errors import SettingsError
from router.granting import bound_shown, granting, known_to, picks_nothing, so_far
from router.learned_policies import learner_of
from router.learning_rows import Experience, ExperienceReader, known_as
from router.router import Router
from router.settings import Settings
from router.traces import policy_named, read_trace, replay
from router.traces.why import why
from tests.policies.policy_fakes import PRICING, FakeGainModel, named, outcome_matrix
from tests.router.ledger_rows import written

LEARNED = LearnedPolicy(FakeGainModel(), "fake", PRICING)
SHOWN = RegretBound(0.2, 0.05, 0.05, 600, 300, 5)
SHARE = ShareBudget(("icl_vote",), 0.2)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path) as opened:
        yield opened


def acting(settings: Settings, ledger: Ledger | None) -> Callable[[Policy, int], Policy]:
    """Return what makes a policy, fitted up to a decision, keep to what is asked for by what the ledger knows."""
    known = None if ledger is None else known_to(ledger, settings, model_fingerprint=None)
    return lambda policy, trained_to_seq: granting(settings)(policy, trained_to_seq, known)


def test_a_budget_is_kept_over_a_stream_and_a_restart(folder: Path, tmp_path: Path) -> None:
    """Nothing is answered when held out, so the rule would let every task be voted on."""
    settings = Settings(home=tmp_path, arms=("icl", "icl_vote"), budget="icl_vote <= 20 %", n_views=2, epsilon=0.1)
    taken = []
    for first in (0, 30):
        with Router(settings, model=ScriptedModel(lambda task: "?")) as router:
            for i in range(first, first + 30):
                solution = router.solve(Task.from_pairs([("a", "A"), ("b", "B")], f"{i}", id=f"kind_{i}"))
                taken.append(solution.arm)
                assert "keeps icl_vote <= 20 %" in solution.reason
    with Ledger.open(tmp_path) as ledger:
        kept = so_far(settings, ledger)
        again = [replay(row) for row in ledger.latest(60)]
        said = [sentence.text for sentence in why(read_trace(ledger, "last"))]

    assert taken.count("icl_vote") <= 0.2 * (60 + 8) + 1
    assert taken.count("icl_vote") >= 0.2 * 60 - 1
    assert kept.wish == "icl_vote <= 20 %"
    assert f"{taken.count('icl_vote') / 60:.1%} over 60 tasks" in kept.said
    assert [each.equal for each in again] == [True] * 60
    assert "Asked for: icl_vote <= 20 %." in said


def test_a_forced_arm_is_no_spending_of_the_budget(folder: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, arms=("icl", "icl_vote"), budget="icl_vote <= 20 %", n_views=2)
    with Router(settings, model=ScriptedModel(lambda task: "?")) as router:
        router.solve(Task.from_pairs([("a", "A"), ("b", "B")], "c"), arm="icl_vote")
    with Ledger.open(tmp_path) as ledger:
        assert so_far(settings, ledger).said == "no task has been decided under it yet"


def test_under_a_bound_everything_is_trained_on_until_it_can_be_shown(ledger: Ledger, tmp_path: Path) -> None:
    """Training solves every task, the prompt those with half of the demonstrations right or more."""
    rng = np.random.default_rng(0)
    act_as = acting(Settings(home=tmp_path, max_regret_rate=0.1), ledger)
    scorer, easy, hard = LooThreshold(), features(1.0), features(0.0)

    unshown = act_as(scorer, 0)
    assert unshown.propensities(easy, ("icl", "ttt")) == (0.0, 1.0)
    assert "needs 500 calibration tasks and has 0" in unshown.decide(easy, rng, ("icl", "ttt")).reason

    written(ledger, [trained(i, unshown, share) for i, share in enumerate(rng.choice([0.0, 0.25, 0.75, 1.0], 700))])
    shown = act_as(scorer, 0)

    assert shown.propensities(easy, ("icl", "ttt")) == pytest.approx((0.95, 0.05))
    assert shown.propensities(hard, ("icl", "ttt")) == (0.0, 1.0)
    assert "700" not in policy_id(unshown)
    assert isinstance(late := act_as(scorer, 400), BoundedRegret)  # what it was fitted on is no evidence
    assert late.bound.reason == "the bound needs 500 calibration tasks and has 300, so every task is trained on"


def test_evidence_is_looked_at_after_500_tasks_1000_and_so_on_with_ever_less_to_lose() -> None:
    matrix = outcome_matrix(2100, arms=("icl", "ttt"))
    bounds = [bound_shown(LEARNED, matrix.take(range(n)), 0.3) for n in (400, 999, 1000, 2100)]

    assert [bound.n_calibration for bound in bounds] == [400, 500, 1000, 2000]
    assert [bound.delta for bound in bounds] == [0.025, 0.025, 0.0125, 0.00625]


def test_what_a_threshold_has_picked_is_no_evidence_for_the_next(ledger: Ledger, tmp_path: Path) -> None:
    act_as = acting(Settings(home=tmp_path, max_regret_rate=0.1), ledger)
    picked = BoundedRegret(LooThreshold(), SHOWN)
    written(ledger, [trained(i, picked, 0.0) for i in range(600)])

    found = act_as(LooThreshold(), 0)

    assert isinstance(found, BoundedRegret)
    assert found.bound.n_calibration == 0


def test_what_comes_late_changes_nothing_in_what_was_looked_at_first(ledger: Ledger, tmp_path: Path) -> None:
    """The 500 tasks of the first look are those heard of first, also for a process that reads it all anew."""
    settings = Settings(home=tmp_path, max_regret_rate=0.1)
    act_as = acting(settings, ledger)
    unshown, rng = act_as(LooThreshold(), 0), np.random.default_rng(0)
    rows = [trained(i, unshown, share) for i, share in enumerate(rng.choice([0.0, 0.25, 0.75, 1.0], 700))]
    written(ledger, [(row, outcomes if i >= 150 else ()) for i, (row, outcomes) in enumerate(rows)])
    before = act_as(LooThreshold(), 0)
    for _, outcomes in rows[:150]:
        ledger.add_outcomes([replace(each, value=1.0 - each.value) for each in outcomes])

    assert isinstance(before, BoundedRegret)
    assert before.bound.holds
    for reads in (act_as, acting(settings, ledger)):
        assert policy_id(reads(LooThreshold(), 0)) == policy_id(before)


def test_what_came_before_a_drift_alarm_shows_no_bound_after_it(ledger: Ledger, tmp_path: Path) -> None:
    act_as = acting(Settings(home=tmp_path, max_regret_rate=0.1), ledger)
    unshown = act_as(LooThreshold(), 0)
    written(ledger, [trained(i, unshown, 1.0) for i in range(600)])
    before = act_as(LooThreshold(), 0)
    ledger.policy_versions.point("champion", None, expected_epoch=0, reason="drift: ttt no longer does as expected")
    after = act_as(LooThreshold(), 0)

    assert isinstance(before, BoundedRegret)
    assert before.bound.holds
    assert isinstance(after, BoundedRegret)
    assert after.bound.n_calibration == 0


def test_who_follows_looks_at_the_evidence_again(ledger: Ledger, tmp_path: Path) -> None:
    loop = learner_of(Settings(home=tmp_path, max_regret_rate=0.1), ledger)
    loop.look()
    written(ledger, [trained(i, loop.policy.now().champion, 1.0) for i in range(600)])
    loop.look()
    at_once = loop.policy.now().champion
    loop.settings = replace(loop.settings, interval_s=0.0)  # as if that time had passed
    loop.look()
    later = loop.policy.now().champion

    assert isinstance(at_once, BoundedRegret)
    assert not at_once.bound.holds
    assert isinstance(later, BoundedRegret)
    assert later.bound.holds


def test_a_step_reads_the_ledger_once_for_learning_and_for_the_bounds_of_all_who_decide(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = learner_of(Settings(home=tmp_path, max_regret_rate=0.1), ledger)
    written(ledger, [trained(i, loop.policy.now().champion, 1.0) for i in range(600)])
    read, n_reads = ExperienceReader.read, 0

    def counted(reader: ExperienceReader, *, since: str = "") -> Experience:
        nonlocal n_reads
        n_reads += 1
        return read(reader, since=since)

    monkeypatch.setattr(ExperienceReader, "read", counted)
    loop.step()
    champion = loop.policy.now().champion

    assert n_reads == 1
    assert isinstance(champion, BoundedRegret)
    assert champion.bound.holds


@pytest.mark.parametrize(
    ("champion", "canary", "nothing"),
    [(nothing_shown(0.1), nothing_shown(0.1), True), (nothing_shown(0.1), SHOWN, False), (SHOWN, None, False)],
)
def test_a_canary_whose_bound_holds_picks_too(champion: RegretBound, canary: RegretBound | None, nothing: bool) -> None:
    beside = None if canary is None else BoundedRegret(LooThreshold(), canary)

    assert picks_nothing(policy_id(InCharge(BoundedRegret(LooThreshold(), champion), beside, 0.1))) is nothing
    assert not picks_nothing(policy_id(LooThreshold()))


def test_full_exploration_beside_a_bound_leaves_it_half(tmp_path: Path) -> None:
    act_as = acting(Settings(home=tmp_path, max_regret_rate=0.1, epsilon=1.0), None)

    made = act_as(LooThreshold(), 0)

    assert isinstance(made, BoundedRegret)
    assert made.explore == 0.5


def test_a_forced_arm_hides_no_bound_that_is_in_force(ledger: Ledger, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, max_regret_rate=0.05)
    row, _ = trained(0, BoundedRegret(LooThreshold(), SHOWN), 1.0)
    other, _ = trained(1, BoundedRegret(LooThreshold(), replace(SHOWN, max_rate=0.2)), 1.0)
    written(ledger, [(row, ()), (other, ()), (replace(other, decision_id="d2", policy="always_icl@1"), ())])

    assert so_far(settings, ledger).said == SHOWN.reason


COMPOSED: list[Policy] = [
    WithinBudget(LEARNED.at_price(0.1 + 0.2), 0.1 + 0.2, SHARE),
    WithinBudget(LEARNED.at_price(3.0), 3.0, SecondsBudget(2.5), exhausted=True),
    InCharge(LooThreshold(), LEARNED, 0.1),
    WithinBudget(InCharge(LEARNED.at_price(0.7), LEARNED.at_price(0.7), 0.25), 0.7, SHARE),
    BoundedRegret(LEARNED, SHOWN),
    BoundedRegret(LooThreshold(epsilon=0.1), nothing_shown(0.05), explore=0.1),
    InCharge(BoundedRegret(LEARNED, SHOWN), BoundedRegret(LEARNED.at_price(0.5), nothing_shown(0.05)), 0.1),
]


@pytest.mark.parametrize("policy", COMPOSED, ids=lambda policy: policy.name)
def test_a_policy_that_goes_by_others_is_made_again_by_its_name(policy: Policy) -> None:
    def learned(asked: str) -> Policy | None:
        if not asked.startswith("learned@"):
            return None
        return LEARNED.at_price(float(asked.partition("price=")[2].partition(",")[0]))

    made = policy_named(policy_id(policy), loaders=(learned,))
    for share in (0.0, 0.5, 1.0):
        known = named((("icl", 0.2), ("ttt", 6.0)), loo_exact_share=share, n_held_out=4.0, n_held_out_exact=4 * share)
        for seed in range(20):
            ours, theirs = (each.decide(known, np.random.default_rng(seed), ("icl", "ttt")) for each in (policy, made))

            assert ours == theirs


def test_a_policy_of_ones_own_beside_a_wish_is_refused(folder: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, budget="<= 20 s a task")
    with (
        Router(settings, model=ScriptedModel(lambda task: "?"), policy=AlwaysArm("icl")) as router,
        pytest.raises(SettingsError, match="budget and policy"),
    ):
        router.decide(Task.from_pairs([("a", "A"), ("b", "B")], "c"))


def test_status_says_what_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTT_ROUTER_MAX_REGRET_RATE", "0.05")

    assert main(["policy", "status"]) == 0
    assert "asked for   max_regret_rate = 0.05: no task has been decided under it yet" in capsys.readouterr().out
    assert main(["policy", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asked_for"] == "max_regret_rate = 0.05"


def features(share: float) -> NamedFeatures:
    return named(loo_exact_share=share, n_held_out=4.0, n_held_out_exact=4 * share, n_demonstrations=4.0)


def trained(i: int, policy: Policy, share: float) -> tuple[DecisionRow, list[OutcomeRow]]:
    """A task that was trained on, with what came of both answers."""
    row = DecisionRow(
        decision_id=f"d{i}", task_fingerprint=f"t{i}", task_id=f"kind_{i}", tenant="default",
        features_json=json.dumps({"loo_exact_share": share, "n_held_out": 4, "n_held_out_exact": 4 * share}),
        features_schema=SCHEMA_HASH, arm="ttt", propensity=1.0, propensities=(("icl", 0.0), ("ttt", 1.0)),
        policy=policy_id(policy), reason="", difficulty=0.5, predicted_cost_s=1.0,
        measured=MeasuredCost(1.0, 0.0, 1), degraded=(), seed=0, predicted_costs_s=(("icl", 0.1), ("ttt", 1.0)),
    )  # fmt: skip
    right = {"exact": 1.0, known_as("icl"): float(share >= 0.5)}
    return row, [OutcomeRow(row.decision_id, "solution", kind, value) for kind, value in right.items()]
