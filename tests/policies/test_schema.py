"""A ledger of an older release is brought up to date whole or not at all; one of a newer release is left alone."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from policies import LedgerTooNew, LedgerUnavailable, OutcomeRow
from policies.ledger import Ledger
from policies.schema import migrate
from policies.sqlite import durability_for, sqlite_engine
from policies.tables import METADATA, SCHEMA_VERSION
from tests.policies.fakes import decision_row

SCHEMA_1 = Path(__file__).parent / "data" / "ledger_schema_1.sqlite"  # written by release 0.1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(SCHEMA_1, tmp_path / "ledger.sqlite"))


def migrated_from(url: str, version: int) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection, 0, to=version)
    engine.dispose()


def described(url: str) -> dict[str, object]:
    """Return all that a schema is made of, in one form for both databases."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found: dict[str, object] = {table: _table(connection, table) for table in inspect(connection).get_table_names()}
        found["triggers"] = _triggers(connection)
    engine.dispose()
    return found


def _table(connection: Connection, table: str) -> list[object]:
    inspector = inspect(connection)
    columns = [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)]
    unique = sorted(tuple(u["column_names"]) for u in inspector.get_unique_constraints(table))
    indexes = sorted(
        (str(i["name"]), tuple(i["column_names"])) for i in inspector.get_indexes(table) if not i["unique"]
    )
    foreign = sorted((tuple(f["constrained_columns"]), f["referred_table"]) for f in inspector.get_foreign_keys(table))
    checks = sorted("".join(c["sqltext"].split("::")[0].split()) for c in inspector.get_check_constraints(table))
    return [columns, inspector.get_pk_constraint(table)["constrained_columns"], unique, indexes, foreign, len(checks)]


def _triggers(connection: Connection) -> list[tuple[object, ...]]:
    query = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY 1"
        if connection.dialect.name == "sqlite"
        else "SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    )
    return [tuple(row) for row in connection.execute(text(query))]


def contents(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def test_the_old_ledger_still_says_what_it_said(old: Path) -> None:
    with Ledger.open(old) as ledger:
        assert [row.decision_id for row in ledger.latest(9)] == ["trace-2", "trace-1", "trace-0"]
        assert ledger.trace("trace-0").document == '{"größer":"≥"}'
        assert [(o.source, o.value) for o in ledger.outcomes("trace-0")] == [("user", 1.0), ("solution", 0.0)]
        assert ledger.decision("trace-2").predicted_costs_s == (("icl", 0.5), ("ttt", 9.0))
        assert ledger.decision("trace-0").predicted_costs_s == ()


def test_the_old_ledger_can_do_what_the_new_one_can(old: Path) -> None:
    with Ledger.open(old) as ledger:
        ledger.record(decision_row("trace-3"), "{}")
        ledger.add_outcome(OutcomeRow("trace-0", "user", "correct", 1.0))
        ledger.correct_outcome("trace-0", source="user", kind="correct", value=0.0, reason="misread")
        version = ledger.policy_versions.publish(b"{}")
        ledger.policy_versions.promote(version.version_id, expected_epoch=0, reason="first")

        assert ledger.effective_outcomes("trace-0")[0].value == 0.0
        assert [seq for seq, _ in ledger.decisions_after(0)] == [1, 2, 3, 4]


def test_the_traces_of_the_old_ledger_are_listed(old: Path) -> None:
    with Ledger.open(old) as ledger:
        listed = ledger.traces.summaries(n=9)

        assert [line.trace_id for line in listed] == ["trace-2", "trace-1", "trace-0"]
        assert listed[2].size_bytes == len('{"größer":"≥"}'.encode())
        assert ledger.traces.size_bytes() == sum(line.size_bytes for line in listed)


def test_a_decision_recorded_before_may_be_recorded_again(old: Path) -> None:
    with Ledger.open(old) as ledger:
        recorded = ledger.decision("trace-2")

        assert ledger.record(recorded, '{"größer":"≥"}') == recorded


def test_the_oldest_step_makes_what_the_first_release_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/made.sqlite"
    migrated_from(url, 1)

    made = described(url)

    del made["ledger_alembic_version"]
    assert made == described(f"sqlite:///{SCHEMA_1}")


def test_migrated_and_made_anew_are_the_same(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    migrated_from(url, 1)
    Ledger.open(url).close()
    migrated = described(url)

    if url.startswith("sqlite"):
        anew = f"sqlite:///{tmp_path}/anew.sqlite"
        Ledger.open(anew).close()
        assert migrated == described(anew)
    else:
        with request.getfixturevalue("postgres").database() as anew:
            Ledger.open(anew).close()
            assert migrated == described(anew)
    assert set(METADATA.tables) < set(migrated)


def test_a_migration_that_fails_half_way_leaves_the_old_schema_whole(old: Path) -> None:
    before = contents(old)
    engine = sqlite_engine(make_url(f"sqlite:///{old}"), durability_for((3, 40, 1)), 1.0)

    @event.listens_for(engine, "connect")
    def _leave_little_room(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 14")

    with pytest.raises(OperationalError, match="full"), engine.begin() as connection:
        migrate(connection, 1)

    assert contents(old) == before
    with Ledger.open(old) as ledger:
        assert len(ledger.latest(9)) == 3


@pytest.mark.parametrize("found", ["4", "99"])
def test_a_newer_schema_is_refused_and_left_alone(url: str, found: str) -> None:
    Ledger.open(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE meta SET value = '{found}'"))
    before = described(url)

    with pytest.raises(LedgerTooNew, match=f"schema version {found}, this release reads {SCHEMA_VERSION}"):
        Ledger.open(url)

    assert described(url) == before
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT value FROM meta")) == found
    engine.dispose()


@pytest.mark.parametrize("found", ["0", "-1", "two", ""])
def test_a_schema_that_no_release_made_is_refused(tmp_path: Path, found: str) -> None:
    Ledger.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("UPDATE meta SET value = ?", (found,))
    connection.commit()
    connection.close()

    with pytest.raises(LedgerUnavailable, match="no release made"):
        Ledger.open(tmp_path)
