"""Traces are listed without being read, found by what they are, and pruned oldest first; their decisions stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from policies import OutcomeRow, UnknownTrace
from policies.ledger import Ledger
from policies.records import DecisionRow, TraceRow
from policies.recovery import recover
from policies.trace_log import TraceEntry, TraceFacts, TraceFilter, TraceSummary, verdict_of
from tests.policies.fakes import decision_row

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
DAY = 24 * 3600.0


def entry(ledger: Ledger, decision: DecisionRow, facts: TraceFacts | None = None, document: str = "{}") -> TraceEntry:
    return TraceEntry(
        ledger.record_decision(decision), TraceRow(decision.decision_id, 2, document), facts or TraceFacts()
    )


def ids(listed: tuple[TraceSummary, ...]) -> list[str]:
    return [line.trace_id for line in listed]


def fill(ledger: Ledger, n: int, document: str = "{}") -> None:
    ledger.traces.add([entry(ledger, decision_row(f"trace-{i}"), document=document) for i in range(n)])


def test_a_trace_may_come_after_its_decision(ledger: Ledger) -> None:
    recorded = ledger.record_decision(decision_row())
    with pytest.raises(UnknownTrace):
        ledger.trace("trace-1")

    ledger.traces.add([TraceEntry(recorded, TraceRow("trace-1", 2, '{"a": 1}'), TraceFacts("icl", 0.5, 0.25))])

    assert ledger.trace("trace-1") == TraceRow("trace-1", 2, '{"a": 1}')
    (line,) = ledger.traces.summaries(n=9)
    assert (line.answered_by, line.confidence, line.regret, line.n_degraded, line.size_bytes) == (
        "icl",
        0.5,
        0.25,
        1,
        8,
    )
    assert (line.arm, line.task_id, line.outcome) == ("ttt", "1d_fill_0", None)


def test_a_trace_that_is_there_is_not_written_again(ledger: Ledger) -> None:
    first = entry(ledger, decision_row())
    ledger.traces.add([first])

    ledger.traces.add([first, entry(ledger, decision_row("trace-2"))])

    assert ids(ledger.traces.summaries(n=9)) == ["trace-2", "trace-1"]


def test_no_trace_is_kept_without_its_decision(ledger: Ledger) -> None:
    recorded = replace(decision_row(), created_at="2026-01-02T12:00:00.000000+00:00")

    with pytest.raises(IntegrityError):
        ledger.traces.add([TraceEntry(recorded, TraceRow("trace-1", 2, "{}"))])


def test_a_list_is_newest_first_or_by_regret(ledger: Ledger) -> None:
    regrets = (0.5, None, 0.75)
    ledger.traces.add(
        [entry(ledger, decision_row(f"trace-{i}"), TraceFacts(regret=regret)) for i, regret in enumerate(regrets)]
    )

    assert ids(ledger.traces.summaries(n=9)) == ["trace-2", "trace-1", "trace-0"]
    assert ids(ledger.traces.summaries(n=9, order="regret")) == ["trace-2", "trace-0", "trace-1"]
    assert ids(ledger.traces.summaries(n=1, skip=1)) == ["trace-1"]


def test_traces_are_found_by_what_they_are(ledger: Ledger) -> None:
    rows = [
        replace(decision_row("a"), arm="icl", policy="logistic@7", degraded=()),
        replace(decision_row("b"), task_id="100%", tenant="other"),
        replace(decision_row("c"), created_at="2026-01-01T00:00:00.000000+00:00"),
    ]
    ledger.traces.add([entry(ledger, row) for row in rows])
    found = {
        name: "".join(reversed(ids(ledger.traces.summaries(wanted, n=9))))
        for name, wanted in {
            "arm": TraceFilter(arm="icl"),
            "policy": TraceFilter(policy="loo_threshold@"),
            "no pattern": TraceFilter(policy="%"),
            "degraded": TraceFilter(degraded=True),
            "whole": TraceFilter(degraded=False),
            "since": TraceFilter(since="2026-01-02T00:00:00"),
            "until": TraceFilter(until="2026-01-02T00:00:00"),
            "task": TraceFilter(task_id="100%"),
            "tenant": TraceFilter(tenant="other"),
            "before": TraceFilter(before=ledger.traces.summaries(n=1)[0].seq),
        }.items()
    }

    assert found == {
        "arm": "a", "policy": "bc", "no pattern": "", "degraded": "bc", "whole": "a",
        "since": "ab", "until": "c", "task": "b", "tenant": "b", "before": "ab",
    }  # fmt: skip
    assert ledger.traces.count() == 3
    assert ledger.traces.count(TraceFilter(arm="icl")) == 1


def test_the_outcome_of_a_list_is_what_is_said_today(ledger: Ledger) -> None:
    fill(ledger, 4)
    for name, value in (("trace-0", 1.0), ("trace-1", 0.0), ("trace-2", 0.5)):
        ledger.add_outcome(OutcomeRow(name, "user", "exact", value))
    ledger.correct_outcome("trace-1", source="user", kind="exact", value=1.0, reason="misread")
    ledger.correct_outcome("trace-1", source="user", kind="exact", value=0.0, reason="after all")
    ledger.add_outcome(OutcomeRow("trace-0", "solution", "exact", 0.0))
    ledger.correct_outcome("trace-0", source="solution", kind="exact", value=1.0, reason="misprint")

    assert [line.outcome for line in ledger.traces.summaries(n=9)] == [None, 0.5, 0.0, 1.0]
    for verdict, name in (("unknown", "trace-3"), ("partly", "trace-2"), ("wrong", "trace-1"), ("right", "trace-0")):
        assert ids(ledger.traces.summaries(TraceFilter(outcome=verdict), n=9)) == [name]  # type: ignore[arg-type]
    assert [verdict_of(line.outcome) for line in ledger.traces.summaries(n=9)] == [
        "unknown",
        "partly",
        "wrong",
        "right",
    ]


def test_a_trace_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    fill(ledger, 3)

    assert ledger.traces.ids_beginning("trace-1") == ("trace-1",)
    assert ledger.traces.ids_beginning("trace-", n=2) == ("trace-2", "trace-1")
    assert ledger.traces.ids_beginning("%") == ()


def test_what_is_too_old_is_pruned_and_its_decision_stays(ledger: Ledger) -> None:
    for i, hours in enumerate((4, 3, 2, 1)):
        created_at = (NOON - timedelta(hours=hours)).isoformat(timespec="microseconds")
        ledger.traces.add([entry(ledger, replace(decision_row(f"trace-{i}"), created_at=created_at))])

    pruned = ledger.traces.prune(max_age_s=2.5 * 3600, max_bytes=10**9)

    assert (pruned.n_traces, pruned.size_bytes) == (2, 4)
    assert ids(ledger.traces.summaries(n=9)) == ["trace-3", "trace-2"]
    assert ledger.decision("trace-0").seed == 7
    with pytest.raises(UnknownTrace):
        ledger.trace("trace-0")


def test_what_there_is_no_room_for_is_pruned_oldest_first(ledger: Ledger) -> None:
    fill(ledger, 20, "x" * 100)

    pruned = ledger.traces.prune(max_age_s=DAY, max_bytes=1000)

    kept = ids(ledger.traces.summaries(n=99))
    assert ledger.traces.size_bytes() <= 1000
    assert kept == [f"trace-{i}" for i in range(19, 19 - len(kept), -1)]
    assert pruned.n_traces == 20 - len(kept)
    assert pruned.size_bytes == 100 * pruned.n_traces
    assert ledger.traces.prune(max_age_s=DAY, max_bytes=1000).n_traces == 0
    assert len(ledger.latest(99)) == 20


def test_more_than_one_transaction_holds_is_pruned_and_written_down(ledger: Ledger) -> None:
    fill(ledger, 11)

    assert ledger.traces.prune(max_age_s=DAY, max_bytes=0, at_once=5).n_traces == 11

    said = [row for name, row in ledger.rows() if name == "trace_prunings"]
    assert [row["n_traces"] for row in said] == [5, 5, 1]
    assert said[0]["reason"] == "beyond 0 bytes"


def test_one_clock_that_was_wrong_does_not_prune_the_others(ledger: Ledger) -> None:
    rows = [decision_row("new"), replace(decision_row("old"), created_at="1999-01-01T00:00:00.000000+00:00")]
    ledger.traces.add([entry(ledger, row) for row in rows])

    assert ledger.traces.prune(max_age_s=DAY, max_bytes=10**9).n_traces == 0


def test_nothing_else_is_deleted(ledger: Ledger) -> None:
    fill(ledger, 3)
    ledger.traces.prune(max_age_s=DAY, max_bytes=5)

    for statement in ("DELETE FROM traces", "DELETE FROM trace_summaries", "DELETE FROM trace_prunings"):
        with pytest.raises(IntegrityError, match="append-only"), ledger._database.writing() as connection:
            connection.execute(text(statement))

    assert ids(ledger.traces.summaries(n=9)) == ["trace-2", "trace-1"]


def test_recording_again_what_was_pruned_changes_nothing(ledger: Ledger) -> None:
    recorded = ledger.record(decision_row(), "{}")
    ledger.traces.prune(max_age_s=DAY, max_bytes=0)

    assert ledger.record(decision_row(), "{}") == recorded


def test_what_was_pruned_is_not_called_lost(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        fill(ledger, 30, "y" * 300)
        ledger.traces.prune(max_age_s=DAY, max_bytes=3000)
        kept = ledger.traces.count()
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(file.read_bytes().replace(b"1d_fill_0", b"1d_flip_0", 1))

    saved = {table.table: table for table in recover(file).tables}

    assert (saved["traces"].saved + saved["traces"].refused, saved["traces"].missing) == (kept, 0)
    assert saved["trace_prunings"].saved == 1
