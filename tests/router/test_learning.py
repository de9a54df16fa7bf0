"""The loop finds the better policy by itself, takes it up step by step, and gives it up again when it fails."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from sqlalchemy import insert

from policies import outcome_log
from policies.decision import Decision, draw, paired
from policies.feature_values import FeatureValues, NamedFeatures
from policies.gate import GateRules
from policies.ledger import Ledger
from policies.outcome_matrix import OutcomeMatrix
from policies.policy_files import path_of
from policies.policy_versions import CHALLENGER, CHAMPION
from policies.records import DecisionRow, MeasuredCost, OutcomeRow, PolicyState, TraceRow
from policies.rows import decision_columns, trace_columns
from policies.tables import DECISIONS, TRACES, sealed
from policies.trace_log import TraceEntry
from router.acting_policy import ActingPolicy
from router.errors import TooFewOutcomes
from router.hindsight import Loaded
from router.learning import Learner, LearningSettings
from router.learning_loop import LearningLoop
from router.learning_rows import AUDIT_RATE, ExperienceReader, RowRules, implied_as, known_as
from router.policy_seal import sealed_for
from tests.router.ledger_rows import written

ARMS = ("icl", "ttt")
RULES = RowRules(arms=ARMS)
SETTINGS = LearningSettings(
    gate=GateRules(alpha=0.5), rows=RULES, least_rows=60, new_rows=60, shadow_decisions=40, canary_rows=40,
    canary_share=0.25, margin=0.1, interval_s=0.01,
)  # fmt: skip


@dataclass(frozen=True)
class Sloped:
    """Trains with `high` where the score is above 0, else with `low`."""

    low: float
    high: float
    name: str = "sloped"

    @property
    def version(self) -> str:
        return f"{self.low},{self.high}"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        p = self.high if (features.value("score") or 0.0) > 0 else self.low
        return tuple(p if arm == "ttt" else 1 - p for arm in arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        p = self.propensities(features, arms)
        arm, drawn_with = draw(rng, arms, p)
        return Decision(arm, drawn_with, paired(arms, p), "drawn", f"{self.name}@{self.version}", 0.5)


UNIFORM, SKILLED, REVERSED = Sloped(0.5, 0.5), Sloped(0.1, 0.9), Sloped(0.9, 0.1)


def load(content: bytes) -> Loaded:
    low, high = json.loads(content)
    return Loaded(Sloped(low, high, "learned"))


def content_of(policy: Sloped) -> bytes:
    return json.dumps([policy.low, policy.high]).encode()


class Decides(Protocol):
    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision: ...


class Stream:
    """Tasks with a score: above 0 training alone solves them, below it only the prompt does."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.rng = ledger, np.random.default_rng(0)
        self.n = ledger.last_seq()
        self.turned = False  # from now on it is the other way round

    def decide(
        self, policy: Decides, n: int = 40, *, gold: bool = True, model: str = "base", tasks: int | None = None
    ) -> None:
        """Decide `n` tasks and hear what came of each, in one transaction: hundreds would each wait for the disk.

        Args:
            tasks: that the solves are said to be repeats of; None: every one is another task.
        """
        trace = json.dumps({"model_fingerprint": model}, separators=(",", ":"))
        with self.ledger._database.writing() as connection:
            for _ in range(n):
                self.n += 1
                score = float(self.rng.normal())
                decision = policy.decide(Score(score), self.rng, ARMS)
                right = {"ttt": (score > 0) != self.turned, "icl": (score <= 0) != self.turned}
                row = replace(decision_row(f"trace-{self.n}", score, decision), created_at=self.ledger._now())
                if tasks is not None:
                    row = replace(row, task_fingerprint=f"task-{self.n % tasks}")
                connection.execute(insert(DECISIONS).values(sealed(DECISIONS, decision_columns(row))))
                traced = trace_columns(TraceRow(row.decision_id, 1, trace))
                connection.execute(insert(TRACES).values(sealed(TRACES, traced)))
                said = [OutcomeRow(row.decision_id, "solution", "exact", float(right[decision.arm]))]
                if gold:
                    said.append(OutcomeRow(row.decision_id, "solution", known_as("icl"), float(right["icl"])))
                for outcome in said:
                    outcome_log.write(connection, outcome_log.checked(outcome, self.ledger._now()), "")


@dataclass(frozen=True)
class Score:
    score: float
    predicted_cost_s: tuple[tuple[str, float], ...] = (("icl", 0.1), ("ttt", 1.0))

    def value(self, name: str) -> float | None:
        return self.score if name == "score" else None


def decision_row(decision_id: str, score: float, decision: Decision) -> DecisionRow:
    return DecisionRow(
        decision_id=decision_id, task_fingerprint=decision_id, task_id="flip_1", tenant="default",
        features_json=json.dumps({"kind": "grid", "score": score}), features_schema="schema", arm=decision.arm,
        propensity=decision.propensity, propensities=decision.propensities, policy=decision.policy, reason="",
        difficulty=0.5, predicted_cost_s=1.0, measured=MeasuredCost(1.0, 0.0, 1), degraded=(), seed=0,
        predicted_costs_s=(("icl", 0.1), ("ttt", 1.0)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def grown_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in which a skilled policy has become champion."""
    home = tmp_path_factory.mktemp("grown")
    with Ledger.open(home) as ledger:
        assert live(Stream(ledger), looping(ledger), 8)[-1] == "promoted"
    return home


@pytest.fixture
def grown(grown_home: Path, tmp_path: Path) -> Iterator[Ledger]:
    shutil.copytree(grown_home, tmp_path / "grown")
    with Ledger.open(tmp_path / "grown") as opened:
        yield opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path) as opened:
        yield opened


def looping(ledger: Ledger, fitted: Sloped = SKILLED, *, model: str = "base", prior: Sloped = UNIFORM) -> LearningLoop:
    def fit(matrix: OutcomeMatrix) -> bytes:
        assert matrix.arms == ARMS
        return content_of(fitted)

    learner = Learner(
        ledger, fit=fit, load=load, prior=Loaded(prior), model_fingerprint=model,
        settings=SETTINGS,
        fallback=Sloped(0.2, 0.2, "fallback"), schema="schema",
    )  # fmt: skip
    return LearningLoop(learner)


def live(stream: Stream, loop: LearningLoop, turns: int) -> list[str]:
    happened = []
    for _ in range(turns):
        stream.decide(loop.policy)
        happened += [event.kind for event in loop.turn()]
        assert loop.fault is None
    return happened


def test_a_better_policy_is_found_and_taken_up_step_by_step(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)

    happened = live(stream, loop, 8)

    assert happened == ["fitted", "shadow", "canary", "promoted"]
    champion = ledger.policy_versions.alias(CHAMPION).version_id
    assert champion is not None
    assert (loop.policy.name, loop.policy.version) == ("learned", SKILLED.version)
    told = {change.state: change.reason for change in ledger.policy_versions.history(champion)}
    verdict = told[PolicyState.SHADOW]
    assert json.loads(verdict[verdict.index("{") :])["outcome"] == "promote"
    assert "as they were decided" in told[PolicyState.CANARY]
    assert '"lower"' in told[PolicyState.CHAMPION]


def test_a_candidate_is_fitted_on_the_newest_of_what_is_known(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    seen: list[OutcomeMatrix] = []
    loop.learner.settings = replace(loop.learner.settings, window=50)

    def fit(matrix: OutcomeMatrix) -> bytes:
        seen.append(matrix)
        return content_of(SKILLED)

    loop.learner._fit = fit

    stream.decide(UNIFORM, 120)
    loop.turn()

    known = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read()
    assert [matrix.seeds for matrix in seen] == [tuple(known.seqs.tolist()[-50:])]


def test_where_the_newest_tell_nothing_of_training_nothing_is_fitted_and_nothing_fails(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    loop.learner.settings = replace(loop.learner.settings, window=60)
    stream.decide(UNIFORM, 40)
    stream.decide(Sloped(1e-9, 1e-9), 60)

    known = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read()
    assert np.isfinite(known.rows.quality[:-60, 1]).any()
    assert np.isnan(known.rows.quality[-60:, 1]).all()
    assert loop.turn() == ()
    assert loop.fault is None


def test_a_worse_policy_is_turned_down_with_its_numbers(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger, REVERSED)

    happened = live(stream, loop, 6)

    assert happened[:2] == ["fitted", "rejected"]
    assert "promoted" not in happened
    first = ledger.policy_versions.all()[0]
    assert first.state is PolicyState.REJECTED
    assert "utility -" in ledger.policy_versions.history(first.version_id)[-1].reason
    assert loop.policy.name == "sloped"


@pytest.mark.parametrize(("tasks", "said"), [(None, "promote"), (30, "undecided")])
def test_repeats_of_few_tasks_do_not_bring_a_candidate_through_where_as_many_tasks_would(
    ledger: Ledger, tasks: int | None, said: str
) -> None:
    """A task that is solved again draws the same number again: 300 rows of 30 tasks are 30 draws."""
    stream, loop = Stream(ledger), looping(ledger)
    stream.decide(UNIFORM, 60)
    event = loop.learner.train()
    assert event is not None
    stream.decide(UNIFORM, 300, tasks=tasks)

    verdict = loop.learner.verdict(str(event.version_id))

    assert verdict.outcome == said
    assert verdict.n_rows == (tasks or 300)


def test_a_champion_is_not_rolled_back_by_repeats_of_what_went_wrong_once(grown: Ledger) -> None:
    stream, loop = Stream(grown), looping(grown)
    good = grown.policy_versions.alias(CHAMPION)
    bad = grown.policy_versions.publish(sealed_for(content_of(Sloped(0.6, 0.4)), "base", "schema"))
    grown.policy_versions.promote(bad.version_id, expected_epoch=good.epoch, reason="by hand")
    stream.decide(UNIFORM, 400, tasks=3)
    loop.turn()
    repeated = grown.policy_versions.alias(CHAMPION).version_id
    stream.decide(UNIFORM, 400)

    happened = [event.kind for event in loop.turn()]

    assert repeated == bad.version_id
    assert happened == ["rolled back"]


def test_where_only_repeats_come_candidate_and_canary_are_given_up_in_the_end(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    loop.learner.settings = replace(SETTINGS, patience_rows=200)
    stream.decide(UNIFORM, 60)
    loop.turn()
    stream.decide(UNIFORM, 200, tasks=3)
    as_candidate = [(event.kind, event.reason[:24]) for event in loop.turn()]
    stream.decide(UNIFORM, 60)
    loop.learner._fit = lambda matrix: content_of(Sloped(0.1, 0.8))
    happened = [event.kind for event in loop.turn()]
    while "canary" not in happened:
        happened += live(stream, loop, 1)
    stream.decide(UNIFORM, 200, tasks=3)
    as_canary = [(event.kind, event.reason[:12]) for event in loop.turn()]

    assert as_candidate == [("rejected", "undecided after 200 rows")]
    assert as_canary == [("rejected", "only 0 tasks")]


def test_a_canary_takes_no_place_but_that_of_the_champion_it_was_compared_with(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person promotes another one while the bounds are computed."""
    stream, loop = Stream(ledger), looping(ledger)
    happened: list[str] = []
    while "canary" not in happened:
        happened += live(stream, loop, 1)
    other = ledger.policy_versions.publish(sealed_for(content_of(Sloped(0.05, 0.95)), "base", "schema")).version_id
    bounds = loop.learner._bounds

    def meanwhile(*given: object, **named: object) -> object:
        if ledger.policy_versions.alias(CHAMPION).version_id is None:
            ledger.policy_versions.promote(other, expected_epoch=0, reason="by hand")
        return bounds(*given, **named)  # type: ignore[arg-type]

    stream.decide(UNIFORM, 60)
    monkeypatch.setattr(loop.learner, "_bounds", meanwhile)

    assert loop.turn() == ()
    assert ledger.policy_versions.alias(CHAMPION).version_id == other


def test_a_canary_decides_its_share_and_every_probability_is_that_of_the_mixture(ledger: Ledger) -> None:
    loop = looping(ledger)
    loop.policy.use(Sloped(0.0, 0.0), Sloped(1.0, 1.0), 0.25)
    rng = np.random.default_rng(1)

    decisions = [loop.policy.decide(Score(1.0), rng, ARMS) for _ in range(2000)]

    trained = [decision for decision in decisions if decision.arm == "ttt"]
    assert len(trained) / 2000 == pytest.approx(0.25, abs=0.03)
    assert {decision.propensity for decision in trained} == {0.25}
    assert loop.policy.propensities(Score(1.0), ARMS) == (0.75, 0.25)


def test_a_restarted_loop_goes_on_where_it_was(ledger: Ledger) -> None:
    stream = Stream(ledger)
    happened = []
    for _ in range(8):
        happened += live(stream, looping(ledger), 1)

    assert happened == ["fitted", "shadow", "canary", "promoted"]
    assert looping(ledger).policy.version == SKILLED.version


def test_another_base_model_brings_back_the_prior(grown: Ledger) -> None:
    other = looping(grown, model="another")

    assert other.policy.name == "sloped"
    assert [event.kind for event in other.turn()] == ["reset"]
    assert grown.policy_versions.alias(CHAMPION).version_id is None
    assert "base model" in grown.policy_versions.moves(CHAMPION)[-1].reason


def test_after_a_drift_alarm_the_fallback_decides_and_what_was_known_no_longer_counts(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger, prior=SKILLED)  # the champion is never shown to be worse
    champion = ledger.policy_versions.publish(
        sealed_for(content_of(SKILLED), "base", "schema"), parent=None, trained_to_seq=0
    )
    ledger.policy_versions.promote(champion.version_id, expected_epoch=0, reason="by hand")
    live(stream, loop, 8)
    stream.turned = True

    happened: list[str] = []
    while "drift" not in happened and stream.n < 1500:
        happened += live(stream, loop, 1)

    assert "drift" in happened
    reset = next(move for move in ledger.policy_versions.moves(CHAMPION) if move.version_id is None)
    assert "no longer does as expected" in reset.reason
    assert loop.policy.name == "fallback"


def test_a_champion_of_after_a_drift_alarm_that_is_rolled_back_leaves_the_fallback(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    ledger.policy_versions.point(CHAMPION, None, expected_epoch=0, reason="drift: ttt no longer does as expected")
    bad = ledger.policy_versions.publish(sealed_for(content_of(REVERSED), "base", "schema"))
    ledger.policy_versions.promote(bad.version_id, expected_epoch=1, reason="by hand")
    loop.turn()

    happened: list[str] = []
    while "rolled back" not in happened and stream.n < 1500:
        happened += live(stream, loop, 1)

    assert "rolled back" in happened
    assert loop.policy.name == "fallback"


def test_what_is_heard_of_late_is_watched_too(ledger: Ledger) -> None:
    """What is known at once does as expected; what comes late does not, and belongs to earlier decisions."""
    stream, loop = Stream(ledger), looping(ledger, prior=SKILLED)  # the champion is never shown to be worse
    champion = ledger.policy_versions.publish(
        sealed_for(content_of(SKILLED), "base", "schema"), parent=None, trained_to_seq=0
    )
    ledger.policy_versions.promote(champion.version_id, expected_epoch=0, reason="by hand")
    live(stream, loop, 4)
    late = unheard(stream, SKILLED, 200)
    before = live(stream, loop, 1)
    hear(ledger, late, 0.0)
    after = [event.kind for event in loop.turn()]

    assert "drift" not in before
    assert "drift" in after


def test_what_is_heard_of_late_makes_a_new_candidate_due(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger, REVERSED)
    late = unheard(stream, UNIFORM, SETTINGS.new_rows)
    while "rejected" not in live(stream, loop, 1):
        assert stream.n < 1000
    before = loop.turn()
    hear(ledger, late, 1.0)
    loop.learner._fit = lambda matrix: content_of(SKILLED)

    assert before == ()
    assert [event.kind for event in loop.turn()] == ["fitted"]


def unheard(stream: Stream, policy: Sloped, n: int) -> list[DecisionRow]:
    """Decide `n` tasks of which nothing is heard for now."""
    drawn = [policy.decide(Score(1.0), stream.rng, ARMS) for _ in range(n)]
    at = stream.ledger._now()
    rows = [replace(decision_row(f"late-{i}", 1.0, each), created_at=at) for i, each in enumerate(drawn)]
    written(stream.ledger, [(row, ()) for row in rows])
    stream.ledger.traces.add(
        [TraceEntry(row, TraceRow(row.decision_id, 1, '{"model_fingerprint":"base"}')) for row in rows]
    )
    return rows


def hear(ledger: Ledger, rows: Sequence[DecisionRow], value: float) -> None:
    """Report all of them in one transaction."""
    ledger.add_outcomes([OutcomeRow(row.decision_id, "solution", "exact", value) for row in rows])


def test_who_follows_decides_by_whoever_is_promoted_elsewhere_whatever_happens_between(ledger: Ledger) -> None:
    loop = looping(ledger, prior=UNIFORM)
    loop.learner.settings = replace(SETTINGS, follow_s=0.02)
    before = loop.policy.name
    versions = [
        ledger.policy_versions.publish(sealed_for(content_of(policy), "base", "schema")).version_id
        for policy in (SKILLED, REVERSED)
    ]
    loop.follow()
    seen = []
    for epoch, version in enumerate(versions):
        ledger.policy_versions.promote(version, expected_epoch=epoch, reason="by hand")
        until = time.monotonic() + 20.0
        while not _learned(loop, (SKILLED, REVERSED)[epoch]) and time.monotonic() < until:
            time.sleep(0.01)
        seen.append(_learned(loop, (SKILLED, REVERSED)[epoch]))
        if epoch == 0:
            loop.learner._versions = None  # type: ignore[assignment]  # looks that fail
            time.sleep(0.2)
            loop.learner._versions = ledger.policy_versions
    loop.stop()

    assert before == UNIFORM.name
    assert seen == [True, True]


def _learned(loop: LearningLoop, policy: Sloped) -> bool:
    champion = loop.policy.now().champion
    return isinstance(champion, Sloped) and (champion.low, champion.high) == (policy.low, policy.high)


def test_a_champion_shown_to_be_worse_than_the_one_before_is_rolled_back(grown: Ledger) -> None:
    stream, loop = Stream(grown), looping(grown)
    good = grown.policy_versions.alias(CHAMPION)
    header = grown.policy_versions.load(str(good.version_id)).partition(b"\n")[0]
    bad = grown.policy_versions.publish(header + b"\n" + content_of(Sloped(0.6, 0.4)), trained_to_seq=stream.n)
    grown.policy_versions.promote(bad.version_id, expected_epoch=good.epoch, reason="by hand")
    loop.turn()

    happened: list[str] = []
    while "rolled back" not in happened and stream.n < 1500:
        happened += live(stream, loop, 1)

    assert "rolled back" in happened
    assert grown.policy_versions.alias(CHAMPION).version_id == good.version_id


def test_a_first_champion_shown_to_be_worse_than_the_stated_rule_gives_way_to_it(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    bad = ledger.policy_versions.publish(
        sealed_for(content_of(REVERSED), "base", "schema"), parent=None, trained_to_seq=0
    )
    ledger.policy_versions.promote(bad.version_id, expected_epoch=0, reason="by hand")
    loop.turn()

    happened: list[str] = []
    while "rolled back" not in happened and stream.n < 1500:
        happened += live(stream, loop, 1)

    assert "rolled back" in happened
    assert ledger.policy_versions.alias(CHAMPION).version_id is None
    assert loop.policy.version == UNIFORM.version
    assert loop.learner.verdict(bad.version_id).n_rows > 0  # what was known still counts


def test_a_person_may_fit_on_few_outcomes_and_is_told_how_many_there_are(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    with pytest.raises(TooFewOutcomes, match="0 decisions with known outcomes, 60 are needed"):
        loop.learner.train()
    stream.decide(Sloped(0.01, 0.01), 5)
    with pytest.raises(TooFewOutcomes, match="which has been trained on"):
        loop.learner.train(anyway=True)
    stream.decide(UNIFORM, 10)

    event = loop.learner.train(anyway=True)

    assert event is not None
    assert event.reason == "fitted on 15 decisions with known outcomes"
    assert ledger.policy_versions.alias(CHALLENGER).version_id == event.version_id


def test_a_challenger_that_a_person_replaces_is_turned_down(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    stream.decide(UNIFORM, 60)
    first = loop.learner.train()
    loop.learner._fit = lambda matrix: content_of(REVERSED)

    second = loop.learner.train()

    assert first is not None
    assert second is not None
    told = ledger.policy_versions.history(str(first.version_id))[-1]
    assert (told.state, told.reason) == (PolicyState.REJECTED, f"replaced by {str(second.version_id)[:12]}")
    assert ledger.policy_versions.alias(CHALLENGER).version_id == second.version_id


def test_who_comes_too_late_with_a_challenger_replaces_none_and_stays_no_candidate(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    others = ledger.policy_versions.publish(sealed_for(content_of(REVERSED), "base", "schema")).version_id

    def fit(matrix: OutcomeMatrix) -> bytes:
        ledger.policy_versions.point(CHALLENGER, others, expected_epoch=0, reason="by hand")
        return content_of(SKILLED)

    loop.learner._fit = fit
    stream.decide(UNIFORM, 60)
    loop.learner._used.clear()
    loop.learner.settings = replace(SETTINGS, new_rows=0)

    assert loop.turn() == ()
    assert ledger.policy_versions.alias(CHALLENGER).version_id == others
    assert ledger.policy_versions.all()[-1].state is PolicyState.REJECTED


def test_what_a_version_would_have_been_worth_is_told_by_every_estimator(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    live(stream, loop, 2)
    challenger = str(ledger.policy_versions.alias(CHALLENGER).version_id)
    assert loop.learner.worth(challenger) == {}
    stream.decide(UNIFORM, 400)

    ours, theirs = loop.learner.worth(challenger).values()

    assert list(ours) == ["inverse propensity", "self-normalised", "outcome model", "doubly robust", "switched"]
    apart = {name: ours[name].value - theirs[name].value for name in ours}
    for name in ("inverse propensity", "self-normalised", "doubly robust"):  # right in nine of ten, against one of two
        assert apart[name] == pytest.approx(0.4, abs=0.12)
    assert 0.1 < apart["outcome model"] < 0.4  # a straight line through a step


def test_a_challenger_that_was_turned_down_already_never_decides(ledger: Ledger) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    live(stream, loop, 2)
    challenger = str(ledger.policy_versions.alias(CHALLENGER).version_id)
    ledger.policy_versions.set_state(challenger, PolicyState.REJECTED, "and stopped before the alias was moved")

    loop.turn()

    assert ledger.policy_versions.alias(CHALLENGER).version_id is None
    assert ledger.policy_versions.version(challenger).state is PolicyState.REJECTED


def test_a_job_that_fails_costs_no_other_and_none_is_lost_at_the_end(ledger: Ledger) -> None:
    done: list[str] = []
    loop = looping(ledger)

    def fail() -> None:
        raise RuntimeError("no adapter")

    loop.later(fail)
    loop.later(lambda: done.append("first"))
    loop.turn()
    assert loop.fault == "RuntimeError: no adapter"
    loop.later(lambda: done.append("second"))
    loop.stop()

    assert done == ["first", "second"]


@pytest.mark.parametrize(("n_faults", "expected"), [(2, "done"), (9, "given up")])
def test_a_job_that_fails_is_tried_twice_again(ledger: Ledger, n_faults: int, expected: str) -> None:
    tried: list[str] = []
    loop = looping(ledger)

    def fails_at_first() -> None:
        tried.append("done")
        if len(tried) <= n_faults:
            tried[-1] = "given up"
            raise RuntimeError("no memory for now")

    loop.later(fails_at_first)
    for _ in range(5):
        loop.turn()

    assert (len(tried), tried[-1]) == (3, expected)
    assert loop.fault is None


def test_a_champion_that_cannot_be_read_is_a_fault_until_it_can_be(ledger: Ledger) -> None:
    version = ledger.policy_versions.publish(sealed_for(content_of(SKILLED), "base", "schema")).version_id
    ledger.policy_versions.promote(version, expected_epoch=0, reason="by hand")
    file = path_of(ledger.policy_versions.folder, version)
    whole = file.read_bytes()
    file.write_bytes(b"damaged")

    loop = looping(ledger)

    assert loop.policy.name == UNIFORM.name
    assert version[:12] in str(loop.fault)

    file.write_bytes(whole)
    loop.learner.look()

    assert loop.policy.version == SKILLED.version
    assert loop.fault is None


def test_who_follows_tells_of_a_champion_that_does_not_load_and_decides_as_before(ledger: Ledger) -> None:
    loop = looping(ledger)
    loop.learner.settings = replace(SETTINGS, follow_s=0.02)
    version = ledger.policy_versions.publish(sealed_for(content_of(SKILLED), "base", "schema")).version_id
    ledger.policy_versions.promote(version, expected_epoch=0, reason="by hand")
    file = path_of(ledger.policy_versions.folder, version)
    whole = file.read_bytes()
    file.write_bytes(b"damaged")
    loop.follow()
    try:
        until(lambda: loop.fault is not None)
        told, decides = str(loop.fault), loop.policy.name
        file.write_bytes(whole)
        until(lambda: loop.fault is None)
    finally:
        loop.stop()

    assert version[:12] in told
    assert decides == UNIFORM.name
    assert _learned(loop, SKILLED)


def test_a_decision_names_the_mixture_it_was_drawn_from() -> None:
    acting = ActingPolicy(SKILLED)
    acting.use(SKILLED, REVERSED, 0.1)
    decision = acting.decide(NamedFeatures(("score",), (1.0,)), np.random.default_rng(0), ARMS)

    assert decision.policy == f"{acting.name}@{acting.version}"
    assert "+canary:0.1:" in decision.policy
    assert dict(decision.propensities)["ttt"] == pytest.approx(0.9 * 0.9 + 0.1 * 0.1)


def test_a_policy_whose_file_is_damaged_is_turned_down(ledger: Ledger, tmp_path: Path) -> None:
    stream, loop = Stream(ledger), looping(ledger)
    live(stream, loop, 2)
    challenger = ledger.policy_versions.alias(CHALLENGER).version_id
    (ledger.policy_versions.folder / f"{challenger}.policy").write_bytes(b"something else")

    assert [event.kind for event in loop.turn()] == ["rejected"]


def test_a_fault_of_one_turn_is_told_and_the_loop_goes_on(ledger: Ledger) -> None:
    loop = looping(ledger)
    done: list[str] = []

    def fails() -> None:
        raise OSError("the disk is gone")

    loop.later(fails)  # three times
    loop.start()
    try:
        until(lambda: loop.fault is not None)
        assert "the disk is gone" in str(loop.fault)
        assert loop.alive
        loop.later(lambda: done.append("audited"))
        until(lambda: bool(done) and loop.fault is None)
    finally:
        loop.stop()

    assert not loop.alive
    assert (done, loop.fault) == (["audited"], None)


def until(happened: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_nobody_drew_or_another_model_answered_is_left_out(ledger: Ledger) -> None:
    stream = Stream(ledger)
    stream.decide(UNIFORM, 10)
    stream.decide(Sloped(1.0, 1.0), 10)
    stream.decide(UNIFORM, 10, model="another")
    forced = replace(decision_row("other features", 0.0, UNIFORM.decide(Score(0.0), stream.rng, ARMS)))
    ledger.record(replace(forced, features_schema="older"), '{"model_fingerprint":"base"}')

    known = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read()

    assert list(known.seqs) == list(range(1, 11))


def test_one_sided_outcomes_and_audits_are_known_with_their_probabilities(ledger: Ledger) -> None:
    stream = Stream(ledger)
    stream.decide(Sloped(0.2, 0.2), 40)
    for seq, row in ledger.decisions_after(0):
        audited = row.arm == "icl" and seq % 2
        more = [OutcomeRow(row.decision_id, "audit", known_as("ttt"), 1.0)] if audited else []
        ledger.add_outcomes([OutcomeRow(row.decision_id, "solution", AUDIT_RATE, 0.5), *more])

    known = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read().rows

    assert known.known_p == pytest.approx(np.tile([1.0, 0.2 + 0.8 * 0.5], (40, 1)))
    assert not np.isnan(known.quality[:, 0]).any()
    assert known.cost[:, 0] == pytest.approx(0.0)
    assert known.cost[:, 1] == pytest.approx(1.0)


def test_what_only_follows_is_fitted_on_and_not_judged_by(ledger: Ledger) -> None:
    stream = Stream(ledger)
    stream.decide(UNIFORM, 20, gold=False)
    for _, row in ledger.decisions_after(0):
        if row.arm == "ttt":
            ledger.add_outcomes([OutcomeRow(row.decision_id, "user", implied_as("icl"), 0.0)])

    known = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read()
    matrix = known.matrix()

    trained = known.taken == 1
    assert np.isnan(known.rows.quality[trained, 0]).all()
    assert known.rows.known_p == pytest.approx(0.5)
    assert (matrix.quality[trained, 0] == 0.0).all()
