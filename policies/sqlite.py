"""SQLite made to keep what it acknowledges, and to take turns between threads and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection


@dataclass(frozen=True, slots=True)
class Durability:
    """How SQLite is made to keep what it acknowledged."""

    journal_mode: str
    synchronous: str
    reason: str


def durability_for(sqlite_version: tuple[int, int, int]) -> Durability:
    """Choose journal and sync by version: up to 3.51.2 write-ahead logging can lose commits (the WAL-reset bug)."""
    version = ".".join(map(str, sqlite_version))
    if sqlite_version >= (3, 51, 3):
        return Durability("WAL", "FULL", f"SQLite {version} is past the WAL-reset bug")
    return Durability("DELETE", "EXTRA", f"SQLite {version} has the WAL-reset bug, fixed in 3.51.3")


def sqlite_engine(url: URL, durability: Durability, busy_timeout_s: float) -> Engine:
    # NullPool: a connection per transaction costs a fraction of a commit, and none outlives a fork or a thread.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        # The driver would begin only at the first write, and a read that turns into a write cannot wait for a lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA journal_mode = {durability.journal_mode}")
        cursor.execute(f"PRAGMA synchronous = {durability.synchronous}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("ledger_reads", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
