"""What is written stays as it was written, whoever asks the database to change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError

from policies import OutcomeRow
from policies.ledger import Ledger
from policies.tables import APPEND_ONLY
from tests.policies.fakes import decision_row

TABLES = [table.name for table in APPEND_ONLY]


@pytest.fixture
def full(url: str, tmp_path: Path) -> str:
    """A ledger with a row in every table."""
    with Ledger.open(url, files=tmp_path / "policies") as ledger:
        ledger.record(decision_row("pruned"), "x" * 100)
        ledger.record(decision_row(), "{}")
        ledger.traces.prune(max_age_s=3600, max_bytes=50)
        for value in (1.0, 1.0):
            ledger.add_outcome(OutcomeRow("trace-1", "user", "correct", value))
        ledger.correct_outcome("trace-1", source="user", kind="correct", value=0.0, reason="misread")
        version = ledger.policy_versions.publish(b"{}")
        ledger.policy_versions.promote(version.version_id, expected_epoch=0, reason="first")
    return url


@pytest.fixture
def connection(full: str) -> Iterator[Connection]:
    engine = create_engine(full)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def assert_refused(connection: Connection, statement: str) -> None:
    with pytest.raises(IntegrityError, match="append-only"), connection.begin():
        connection.execute(text(statement))


def test_every_table_has_a_row_to_try_it_on(full: str) -> None:
    with Ledger.open(full) as ledger:
        assert {name for name, _ in ledger.rows()} == set(TABLES)


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET digest = 'x'", "UPDATE {} SET digest = digest"])
def test_no_row_is_deleted_or_updated(connection: Connection, statement: str) -> None:
    for table in TABLES:
        assert_refused(connection, statement.format(table))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_no_table_is_emptied_on_postgresql(connection: Connection) -> None:
    for table in TABLES:
        assert_refused(connection, f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_session_that_replays_a_replica_is_refused_too(connection: Connection) -> None:
    connection.execute(text("SET session_replication_role = replica"))
    connection.commit()

    assert_refused(connection, "DELETE FROM outcomes")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_row_is_replaced_on_sqlite(connection: Connection) -> None:
    for table in TABLES:
        assert_refused(connection, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_row_of_the_same_name_is_not_replaced_under_another_number(connection: Connection) -> None:
    columns = "(decision_id, source, kind, value, created_at)"
    assert_refused(
        connection, f"INSERT OR REPLACE INTO outcomes {columns} VALUES ('trace-1', 'user', 'correct', 0.0, 'now')"
    )
