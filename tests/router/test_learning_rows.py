"""What the ledger's rows teach is the same however it is read, and what was not drawn is not taken for drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from policies.decision import policy_id
from policies.errors import LedgerUnavailable
from policies.fixed import AlwaysArm
from policies.gain_models.fitting import fit_gain_model
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.off_policy import LoggedRows
from policies.outcome_matrix import OutcomeMatrix
from policies.records import DecisionRow, EffectiveOutcome, MeasuredCost, OutcomeRow, TraceRow
from policies.regret_bound import BoundedRegret, nothing_shown
from policies.trace_log import TraceEntry
from router.hindsight import helps, knowing_enough, propensities_of
from router.learning_rows import (
    AUDIT_RATE,
    Experience,
    ExperienceReader,
    RowRules,
    implied_as,
    known_as,
)
from tests.router.ledger_rows import written

RULES = RowRules(arms=("icl", "ttt"), window_s=3600.0)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path) as opened:
        yield opened


def decision(i: int, **given: object) -> DecisionRow:
    arm = "ttt" if i % 3 == 0 else "icl"
    row = DecisionRow(
        decision_id=f"d{i}", task_fingerprint=f"t{i}", task_id=f"kind{i % 4}_{i}", tenant="default",
        features_json=json.dumps({"kind": "grid", "score": i / 10.0}), features_schema="schema", arm=arm,
        propensity=0.5, propensities=(("icl", 0.5), ("ttt", 0.5)), policy="uniform@1", reason="", difficulty=0.5,
        predicted_cost_s=1.0, measured=MeasuredCost(1.0 + i, 0.0, 1), degraded=(), seed=0,
        predicted_costs_s=(("icl", 0.1), ("ttt", 1.0)),
    )  # fmt: skip
    return DecisionRow(**{**{field.name: getattr(row, field.name) for field in fields(row)}, **given})


def test_what_is_read_bit_by_bit_is_what_is_read_at_once(ledger: Ledger) -> None:
    """Decisions, traces and outcomes in any order, late ones, corrections, another model's and another schema's."""
    rng = np.random.default_rng(5)
    reader = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema")
    decided: list[int] = []
    for turn in range(12):
        for i in range(len(decided), len(decided) + int(rng.integers(0, 8))):
            schema = "older" if i % 11 == 10 else "schema"
            decided_at = (START + timedelta(minutes=i)).isoformat(timespec="microseconds")
            row = ledger.record_decision(decision(i, features_schema=schema, created_at=decided_at))
            document = json.dumps({"model_fingerprint": "another" if i % 7 == 6 else "base"}, separators=(",", ":"))
            if i % 5:
                ledger.traces.add([TraceEntry(row, TraceRow(row.decision_id, 2, document))])
            decided.append(i)
        for i in rng.choice(decided, size=min(5, len(decided)), replace=False):
            say(ledger, int(i), rng)
        if turn == 6:
            for i in decided[::5]:
                document = json.dumps({"model_fingerprint": "base"}, separators=(",", ":"))
                ledger.traces.add([TraceEntry(ledger.decision(f"d{i}"), TraceRow(f"d{i}", 2, document))])

        at_once = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read()
        assert same(reader.read(), at_once)

    everything, since = reader.read(), ledger.decision("d10").created_at or ""
    later = ExperienceReader(ledger, RULES, model_fingerprint="base", schema="schema").read(since=since)
    assert same(reader.read(since=since), later)
    assert len(decided) > 30
    assert 0 < len(later) < len(everything) < len(decided)


def say(ledger: Ledger, i: int, rng: np.random.Generator) -> None:
    """Report something of a decision, in time or late; or take back what was said."""
    kinds = ("exact", known_as("icl"), known_as("ttt"), implied_as("icl"), AUDIT_RATE)
    kind, source = str(rng.choice(kinds)), str(rng.choice(["user", "solution", "other"]))
    at = START + timedelta(minutes=i + int(rng.choice([5, 90])))
    outcome = OutcomeRow(f"d{i}", source, kind, float(rng.random() < 0.5), at.isoformat(timespec="microseconds"))
    (stands,) = ledger.add_outcomes([outcome])
    if rng.random() < 0.3:
        ledger.correct_outcome(f"d{i}", source=source, kind=kind, value=1.0 - stands.value, reason="looked again")


def same(one: Experience, other: Experience) -> bool:
    def pairs(a: object, b: object) -> bool:
        if isinstance(a, LoggedRows) and isinstance(b, LoggedRows):
            return all(pairs(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
        return a == b

    return all(pairs(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def test_only_what_is_new_is_read_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    written(ledger, [(decision(i), [OutcomeRow(f"d{i}", "user", "exact", 1.0)]) for i in range(50)])
    reader = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema")
    reader.read()
    asked: list[int] = []
    outcomes_of = ledger.outcomes_of

    def counted(ids: Sequence[str]) -> dict[str, tuple[EffectiveOutcome, ...]]:
        asked.append(len(ids))
        return outcomes_of(ids)

    monkeypatch.setattr(ledger, "outcomes_of", counted)
    written(ledger, [(decision(i), [OutcomeRow(f"d{i}", "user", "exact", 0.0)]) for i in range(50, 53)])

    assert len(reader.read()) == 53
    assert len(reader.read()) == 53
    assert asked == [3, 0]


def test_what_is_not_heard_of_in_time_is_let_go_and_taken_up_where_it_counts_after_all(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    at = [(now - timedelta(hours=hours)).isoformat(timespec="microseconds") for hours in (9, 8, 7, 0)]
    rows = [decision(i, created_at=at[i]) for i in range(4)]
    reader = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema")
    written(ledger, [(row, ()) for row in rows])
    reader.read()
    let_go = set(reader._decided)
    said = [OutcomeRow("d2", "user", "exact", 1.0, at[2]), OutcomeRow("d0", "user", "exact", 1.0, at[0])]
    ledger.add_outcomes([*said, OutcomeRow("d1", "user", "exact", 1.0)])  # too late, and not dated back

    known = reader.read()

    assert let_go == {"d3"}
    assert list(known.seqs) == [1, 3]
    assert set(reader._decided) == {"d0", "d2", "d3"}
    assert list(reader.read(since=at[2]).seqs) == [3]
    assert set(reader._decided) == {"d2", "d3"}


def test_only_the_first_known_decision_of_a_task_and_seed_is_judged_by(ledger: Ledger) -> None:
    """The first is not heard of, the third is solved with another seed; all that is known may be fitted on."""
    rows = [decision(i, task_fingerprint="t", seed=int(i == 3)) for i in range(5)]
    said = [() if i == 0 else (OutcomeRow(f"d{i}", "user", "exact", 1.0),) for i in range(5)]
    written(ledger, zip(rows, said, strict=True))

    known = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema").read()

    assert list(known.seqs) == [2, 3, 4, 5]
    assert list(known.drawn_anew().seqs) == [2, 4]
    assert list(known.take(known.seqs > 2).drawn_anew().seqs) == [4]
    assert len(known.matrix().tasks) == 4


@pytest.mark.parametrize("fails", ["decisions_after", "outcomes_of"])
def test_what_a_fault_of_the_database_kept_from_one_read_the_next_one_reads(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    reader = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema")
    written(ledger, [(decision(i), [OutcomeRow(f"d{i}", "user", "exact", 1.0)]) for i in range(5)])

    def away(*given: object) -> None:
        raise LedgerUnavailable("here", "away", remedy="Wait.")

    with monkeypatch.context() as fault:
        fault.setattr(ledger, fails, away)
        with pytest.raises(LedgerUnavailable):
            reader.read()

    at_once = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema").read()
    assert len(at_once) == 5
    assert same(reader.read(), at_once)


def test_the_gate_sees_a_difference_where_everything_is_trained_on_for_a_bound(ledger: Ledger) -> None:
    """`icl` could not have been drawn, and yet it is known what came of it: another policy may be judged by that."""
    unshown = policy_id(BoundedRegret(LooThreshold(), nothing_shown(0.1)))
    rows = [decision(i, arm="ttt", propensity=1.0, propensities=(("icl", 0.0), ("ttt", 1.0)), policy=unshown)
            for i in range(4)]  # fmt: skip
    written(ledger, [(row, [OutcomeRow(row.decision_id, "solution", kind, 1.0) for kind in ("exact", known_as("icl"))])
                     for row in rows])  # fmt: skip

    known = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema").read()

    assert known.offered.all()
    assert propensities_of(AlwaysArm("icl"), known) == pytest.approx(np.tile([1.0, 0.0], (4, 1)))
    assert propensities_of(AlwaysArm("ttt"), known) == pytest.approx(np.tile([0.0, 1.0], (4, 1)))


def test_a_policy_is_judged_by_decisions_that_know_what_it_asks_for_and_by_no_others(ledger: Ledger) -> None:
    told = [{"n_demonstrations": n, "n_held_out": n_held_out} for n, n_held_out in ((3, 3), (3, None), (1, None))]
    rows = [decision(i, features_json=json.dumps({"kind": "grid", **each})) for i, each in enumerate(told)]
    written(ledger, [(row, [OutcomeRow(row.decision_id, "user", "exact", 1.0)]) for row in rows])

    known = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema").read()

    assert knowing_enough(known, LooThreshold(), AlwaysArm("icl")).seqs.tolist() == [1, 3]
    assert knowing_enough(known, AlwaysArm("icl")).seqs.tolist() == [1, 2, 3]


def test_the_probabilities_are_those_among_the_arms_that_count(ledger: Ledger) -> None:
    """A task that `zero_shot` answers leaves no row: among the rows `ttt` was drawn with 0.2 of 0.8."""
    odds = (("icl", 0.6), ("ttt", 0.2), ("zero_shot", 0.2))
    drawn = [decision(0, propensities=odds, arm="ttt"), decision(1, propensities=odds, arm="zero_shot")]
    written(ledger, [(row, [OutcomeRow(row.decision_id, "user", "exact", 1.0)]) for row in drawn])

    known = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema").read()

    assert list(known.seqs) == [1]
    assert known.rows.known_p == pytest.approx(np.array([[0.75, 0.25]]))


def test_what_is_judged_is_the_chance_that_training_alone_is_right(ledger: Ledger) -> None:
    """Every task is solved by one of the two: nothing is gained on average, and training alone is right for half."""
    written(ledger, [(decision(i), [OutcomeRow(f"d{i}", "user", "exact", 1.0)]) for i in range(6)])
    known = ExperienceReader(ledger, RULES, model_fingerprint=None, schema="schema").read()
    model = fit_gain_model("logistic", solved_by_one_of_two(600))

    assert helps(model, known) == pytest.approx(np.full(6, 0.5), abs=0.08)
    assert model.estimate(np.full((1, len(model.feature_names)), np.nan)).gain[0, 1] == pytest.approx(0.0, abs=0.1)


def solved_by_one_of_two(n: int) -> OutcomeMatrix:
    rng = np.random.default_rng(0)
    trained = rng.integers(0, 2, n).astype(float)
    return OutcomeMatrix(
        tasks=tuple(f"t{i}" for i in range(n)),
        families=tuple(f"kind{i % 10}" for i in range(n)),
        sets=("made up",) * n,
        seeds=(0,) * n,
        arms=("icl", "ttt"),
        quality=np.column_stack([1.0 - trained, trained]),
        cost_s=np.tile([0.1, 1.0], (n, 1)),
        feature_names=("score",),
        features=rng.normal(size=(n, 1)),
        feature_cost_s=np.zeros(n),
    )
