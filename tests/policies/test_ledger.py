"""What is acknowledged stays, exactly once and unchanged; what cannot be kept is a typed error."""

from __future__ import annotations

import dataclasses
import multiprocessing
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from policies import (
    DecisionConflict,
    DecisionRow,
    LedgerUnavailable,
    LooThreshold,
    MeasuredCost,
    OutcomeConflict,
    OutcomeRow,
    RecordRefused,
    UnknownTrace,
)
from policies.ledger import Ledger
from tests.policies.fakes import decision_row, features_with

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def correct(value: float = 1.0, *, decision_id: str = "trace-1", source: str = "user") -> OutcomeRow:
    return OutcomeRow(decision_id, source=source, kind="correct", value=value)


# What is put in comes out


def test_a_decision_comes_back_as_it_was_recorded(ledger: Ledger) -> None:
    recorded = ledger.record(decision_row(), "{}")

    assert recorded == dataclasses.replace(decision_row(), created_at="2026-01-02T12:00:00.000000+00:00")
    assert ledger.decision("trace-1") == recorded


def test_a_trace_comes_back_to_the_letter(ledger: Ledger) -> None:
    document = '{"reason": "größer ≥ 0.5", "emoji": "🟦",  "spaces":  1}'
    ledger.record(decision_row(), document, trace_schema_version=3)

    trace = ledger.trace("trace-1")

    assert (trace.trace_id, trace.schema_version, trace.document) == ("trace-1", 3, document)


def test_a_row_is_put_together_from_decision_and_features(ledger: Ledger) -> None:
    features = features_with((False, False))
    decision = LooThreshold(epsilon=0.0).decide(features, np.random.default_rng(0), ("icl", "ttt"))
    row = DecisionRow.of(
        decision,
        features,
        decision_id="trace-2",
        task_fingerprint="a" * 64,
        task_id="t",
        measured=MeasuredCost(1.0, 0.0, 10),
        seed=0,
    )

    ledger.record(row, "{}")

    assert ledger.decision("trace-2").arm == "ttt"
    assert ledger.decision("trace-2").predicted_cost_s == 9.0
    assert ledger.decision("trace-2").features_json == features.as_json()


def test_the_latest_come_first_whatever_the_clock_says(url: str) -> None:
    backwards = iter(NOON - timedelta(hours=i) for i in range(5))
    with Ledger.open(url, clock=lambda: next(backwards)) as ledger:
        for i in range(5):
            ledger.record(decision_row(f"trace-{i}"), "{}")

        assert [row.decision_id for row in ledger.latest(3)] == ["trace-4", "trace-3", "trace-2"]
        assert len(ledger.latest(99)) == 5


def test_times_are_kept_in_utc(url: str) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5)))
    with Ledger.open(url, clock=lambda: elsewhere) as ledger:
        assert ledger.record(decision_row(), "{}").created_at == "2026-01-02T12:00:00.000000+00:00"


def test_it_is_still_there_when_opened_again(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "new" / "home") as ledger:
        ledger.record(decision_row(), "{}")
        ledger.add_outcome(correct())

    assert (tmp_path / "new" / "home" / "ledger.sqlite").is_file()
    for again in (tmp_path / "new" / "home" / "ledger.sqlite", f"sqlite:///{tmp_path}/new/home/ledger.sqlite"):
        with Ledger.open(again) as ledger:
            assert ledger.decision("trace-1").seed == 7
            assert [outcome.value for outcome in ledger.outcomes("trace-1")] == [1.0]


# Nothing is doubled, nothing is changed


def test_recording_the_same_decision_again_changes_nothing(url: str) -> None:
    ticking = iter(NOON + timedelta(seconds=i) for i in range(9))
    with Ledger.open(url, clock=lambda: next(ticking)) as ledger:
        first = ledger.record(decision_row(), "{}")

        assert ledger.record(decision_row(), "{}") == first
        assert len(ledger.latest(9)) == 1


def test_other_content_under_the_same_id_is_a_conflict_and_is_not_written(ledger: Ledger) -> None:
    ledger.record(decision_row(), "{}")

    with pytest.raises(DecisionConflict):
        ledger.record(dataclasses.replace(decision_row(), arm="icl"), "{}")
    with pytest.raises(DecisionConflict):
        ledger.record(decision_row(), '{"other": true}')
    assert ledger.decision("trace-1").arm == "ttt"
    assert ledger.trace("trace-1").document == "{}"


def test_the_same_outcome_again_changes_nothing(ledger: Ledger) -> None:
    ledger.record(decision_row(), "{}")
    first = ledger.add_outcome(correct(1.0))

    assert ledger.add_outcome(correct(1.0)) == first
    assert ledger.outcomes("trace-1") == (first,)


def test_another_value_from_the_same_source_is_a_conflict(ledger: Ledger) -> None:
    ledger.record(decision_row(), "{}")
    first = ledger.add_outcome(correct(1.0))

    with pytest.raises(OutcomeConflict) as caught:
        ledger.add_outcome(correct(0.0))

    assert (caught.value.recorded, caught.value.given) == (1.0, 0.0)
    assert ledger.outcomes("trace-1") == (first,)


def test_each_source_and_each_kind_may_have_its_say(ledger: Ledger) -> None:
    ledger.record(decision_row(), "{}")
    ledger.add_outcome(correct(1.0, source="user"))
    ledger.add_outcome(correct(0.0, source="solution"))
    ledger.add_outcome(OutcomeRow("trace-1", source="user", kind="reward", value=0.25))

    assert [(o.source, o.kind, o.value) for o in ledger.outcomes("trace-1")] == [
        ("user", "correct", 1.0),
        ("solution", "correct", 0.0),
        ("user", "reward", 0.25),
    ]


# What it will not hold


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_an_outcome_outside_zero_to_one_is_refused(ledger: Ledger, value: float) -> None:
    ledger.record(decision_row(), "{}")

    with pytest.raises(RecordRefused, match="between 0 and 1"):
        ledger.add_outcome(correct(value))
    assert ledger.outcomes("trace-1") == ()


@pytest.mark.parametrize(
    "broken",
    [
        dataclasses.replace(decision_row(), propensity=0.0),
        dataclasses.replace(decision_row(), propensity=1.5),
        dataclasses.replace(decision_row(), measured=MeasuredCost(float("nan"), 0.0, 0)),
        dataclasses.replace(decision_row(), difficulty=float("inf")),
        dataclasses.replace(decision_row(), seed=2**63),
        dataclasses.replace(decision_row(), reason="a\0b"),
        dataclasses.replace(decision_row(), task_id="\ud800"),
        dataclasses.replace(decision_row(), measured=MeasuredCost(1.0, 0.0, 12.5)),  # type: ignore[arg-type]
        dataclasses.replace(decision_row(), propensities=(("icl", float("nan")), ("ttt", 0.5))),
        dataclasses.replace(decision_row(), predicted_costs_s=(("icl", float("inf")),)),
    ],
)
def test_a_row_that_some_database_could_not_hold_is_refused_whole(ledger: Ledger, broken: DecisionRow) -> None:
    with pytest.raises(RecordRefused):
        ledger.record(broken, "{}")
    assert ledger.latest(1) == ()


def test_zero_with_a_sign_and_true_for_one_are_read_back_whole(ledger: Ledger) -> None:
    ledger.record(dataclasses.replace(decision_row(), difficulty=-0.0, seed=True), "{}")
    ledger.add_outcome(correct(-0.0))

    assert (ledger.decision("trace-1").difficulty, ledger.decision("trace-1").seed) == (0.0, 1)
    assert [outcome.value for outcome in ledger.outcomes("trace-1")] == [0.0]


@pytest.mark.parametrize("at", ["yesterday", "2026-01-02", "2026-01-02T12:00:00"])
def test_a_time_that_no_label_could_be_made_of_is_refused(ledger: Ledger, at: str) -> None:
    ledger.record(decision_row(), "{}")

    with pytest.raises(RecordRefused, match="created_at"):
        ledger.add_outcome(dataclasses.replace(correct(), created_at=at))
    with pytest.raises(RecordRefused, match="created_at"):
        ledger.record(dataclasses.replace(decision_row("trace-2"), created_at=at), "{}")


def test_an_unknown_trace_is_named(ledger: Ledger) -> None:
    with pytest.raises(UnknownTrace, match="no-such"):
        ledger.decision("no-such")
    with pytest.raises(UnknownTrace, match="no-such"):
        ledger.trace("no-such")
    with pytest.raises(UnknownTrace, match="no-such"):
        ledger.add_outcome(correct(decision_id="no-such"))
    assert ledger.outcomes("no-such") == ()


# Where it cannot be kept


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("these are my holiday notes, not a database\n" * 100)

    with pytest.raises(LedgerUnavailable, match=r"ledger\.sqlite: file is not a database\. Move this file away"):
        Ledger.open(path)
    assert path.read_text().startswith("these are my holiday notes")


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE checkpoints (id INTEGER)")
    connection.commit()

    with pytest.raises(LedgerUnavailable, match=r"holds other tables \(checkpoints\)"):
        Ledger.open(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("checkpoints",)]
    connection.close()


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("UPDATE meta SET value = '99'")
    connection.commit()
    connection.close()

    with pytest.raises(LedgerUnavailable, match="schema version 99, this release reads 3"):
        Ledger.open(tmp_path)


def test_a_home_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerUnavailable, match="Not a directory") as caught:
        Ledger.open(tmp_path / "file" / "home")
    assert str(tmp_path / "file" / "home") in str(caught.value)


def test_a_ledger_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()

    with pytest.raises(LedgerUnavailable, match="readonly"):
        Ledger.open(f"sqlite:///file:{tmp_path}/ledger.sqlite?mode=ro&uri=true")


def test_a_lock_held_by_another_program_ends_in_an_error_not_in_a_wait(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, busy_timeout_s=0.05) as ledger:
        holder = sqlite3.connect(ledger.location, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")

        with pytest.raises(LedgerUnavailable, match=r"locked\. Another program holds it"):
            ledger.record(decision_row(), "{}")

        holder.execute("ROLLBACK")
        holder.close()
        ledger.record(decision_row(), "{}")
        assert len(ledger.latest(9)) == 1


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "nosuchdb://host/name", "://"])
def test_a_url_that_keeps_nothing_or_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(LedgerUnavailable):
        Ledger.open(url)


def test_a_password_in_a_url_is_never_shown() -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        Ledger.open("nosuchdb://user:hunter2@host/name")

    assert "hunter2" not in str(caught.value)


# Many writers


def write_decisions(url: str, writer: str, n: int) -> None:
    with Ledger.open(url, busy_timeout_s=60.0) as ledger:
        for i in range(n):
            ledger.record(decision_row(f"{writer}-{i}"), "{}")
            ledger.add_outcome(correct(decision_id=f"{writer}-{i}"))


def assert_each_once(url: str, writers: list[str], n: int) -> None:
    with Ledger.open(url) as ledger:
        rows = ledger.latest(10_000)
        assert sorted(row.decision_id for row in rows) == sorted(f"{w}-{i}" for w in writers for i in range(n))
        assert all(len(ledger.outcomes(row.decision_id)) == 1 for row in rows)


def test_no_row_of_many_threads_is_lost(url: str) -> None:
    with Ledger.open(url, busy_timeout_s=60.0) as ledger, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: ledger.record(decision_row(f"thread-{i}"), "{}"), range(40)))
        list(pool.map(lambda i: ledger.add_outcome(correct(decision_id=f"thread-{i}")), range(40)))

    assert_each_once(url, ["thread"], 40)


def test_no_row_of_two_processes_is_lost_even_when_both_create_the_tables(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_decisions, args=(url, name, 15)) for name in ("a", "b")]
    for process in writers:
        process.start()
    for process in writers:
        process.join(timeout=60)

    assert [process.exitcode for process in writers] == [0, 0]
    assert_each_once(url, ["a", "b"], 15)


def test_threads_that_report_the_same_outcome_write_it_once(ledger: Ledger) -> None:
    ledger.record(decision_row(), "{}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ledger.add_outcome, [correct()] * 8))

    (outcome,) = ledger.effective_outcomes("trace-1")
    assert outcome.n_repeats == 7


def test_a_reader_that_goes_on_from_the_last_number_misses_no_decision(url: str) -> None:
    seen: list[str] = []

    with Ledger.open(url, busy_timeout_s=60.0) as ledger, ThreadPoolExecutor(4) as pool:
        written = [pool.submit(ledger.record, decision_row(f"d-{i}"), "{}") for i in range(60)]
        last = 0
        while len(seen) < 60 and not (all(one.done() for one in written) and last == ledger.last_seq()):
            for seq, row in ledger.decisions_after(last, limit=7):
                seen.append(row.decision_id)
                last = seq

    assert sorted(seen) == sorted(f"d-{i}" for i in range(60))


def test_a_slow_reader_of_every_row_keeps_no_writer_waiting_and_sees_one_moment(url: str) -> None:
    with Ledger.open(url, busy_timeout_s=0.5) as ledger:
        for i in range(3):
            ledger.record(decision_row(f"trace-{i}"), "{}")
        rows = ledger.rows()
        seen = [next(rows)]

        ledger.record(decision_row("later"), "{}")

        seen += rows
        names = [row.get("decision_id", row.get("trace_id")) for _, row in seen]
        assert names == ["trace-0", "trace-1", "trace-2"] * 3  # decisions, summaries and traces


def test_importing_the_ledger_loads_no_engine_and_no_migrations() -> None:
    code = "import sys, policies.ledger; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "sqlalchemy" in loaded
    assert {"alembic", "langgraph", "psycopg", "router", "torch", "transformers"} & set(loaded) == set()
