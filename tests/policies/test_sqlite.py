"""SQLite is configured for keeping what it acknowledges, by its version."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import URL

from policies.ledger import Ledger
from policies.sqlite import Durability, durability_for, sqlite_engine
from tests.policies.fakes import decision_row


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2)])
def test_with_the_wal_bug_the_rollback_journal_is_used(version: tuple[int, int, int]) -> None:
    chosen = durability_for(version)

    assert (chosen.journal_mode, chosen.synchronous) == ("PERSIST", "EXTRA")


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 52, 0), (4, 0, 0)])
def test_from_the_release_that_fixed_it_on_the_write_ahead_log_is_used(version: tuple[int, int, int]) -> None:
    chosen = durability_for(version)

    assert (chosen.journal_mode, chosen.synchronous) == ("WAL", "FULL")


@pytest.mark.parametrize("version", [(3, 51, 2), (3, 51, 3)])
def test_every_connection_is_configured_so(tmp_path: Path, version: tuple[int, int, int]) -> None:
    durability = durability_for(version)
    engine = sqlite_engine(URL.create("sqlite", database=str(tmp_path / "f.sqlite")), durability, 1.5)
    synchronous = {"FULL": 2, "EXTRA": 3}[durability.synchronous]

    for _ in range(2):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == durability.journal_mode.lower()
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 1500


def test_a_ledger_says_how_it_is_kept(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        assert ledger.durability == durability_for(sqlite3.sqlite_version_info[:3])


def test_a_file_left_in_the_other_mode_is_converted_and_keeps_its_rows(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.record(decision_row(), "{}")
    for mode in ("WAL", "DELETE"):
        connection = sqlite3.connect(tmp_path / "ledger.sqlite")
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.close()

        with Ledger.open(tmp_path) as ledger:
            assert [row.decision_id for row in ledger.latest(9)] == ["trace-1"]


def test_a_mode_says_why_it_was_chosen() -> None:
    assert isinstance(durability_for((3, 40, 1)), Durability)
    assert "3.40.1 has the WAL-reset bug" in durability_for((3, 40, 1)).reason


def test_a_connection_is_kept_between_transactions(tmp_path: Path) -> None:
    engine = sqlite_engine(URL.create("sqlite", database=str(tmp_path / "f.sqlite")), durability_for((3, 40, 1)), 1.5)

    with engine.connect() as first:
        kept = first.connection.dbapi_connection
    with engine.connect() as second:
        assert second.connection.dbapi_connection is kept
    engine.dispose()


def test_what_is_written_goes_to_the_file_that_is_there_also_after_it_was_replaced(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    with Ledger.open(tmp_path) as ledger:
        ledger.record(decision_row("before"), "{}")
        shutil.copy(file, tmp_path / "copy")
        ledger.record(decision_row("lost with the file"), "{}")
        os.replace(tmp_path / "copy", file)
        ledger.record(decision_row("after"), "{}")

        assert [row.decision_id for row in ledger.latest(9)] == ["after", "before"]
    with Ledger.open(tmp_path) as again:
        assert [row.decision_id for row in again.latest(9)] == ["after", "before"]
