"""SQLite made to keep what it acknowledges, and to take turns between threads and processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_KEPT = 4  # connections; how many there are at a time is not limited


@dataclass(frozen=True, slots=True)
class Durability:
    """How SQLite is made to keep what it acknowledged."""

    journal_mode: str
    synchronous: str
    reason: str


def durability_for(sqlite_version: tuple[int, int, int]) -> Durability:
    """Choose journal and sync by version: up to 3.51.2 write-ahead logging can lose commits (the WAL-reset bug).

    A rollback journal ends with its header overwritten and synced (PERSIST): as durable as its removal, in a
    fifth less time.
    """
    version = ".".join(map(str, sqlite_version))
    if sqlite_version >= (3, 51, 3):
        return Durability("WAL", "FULL", f"SQLite {version} is past the WAL-reset bug")
    return Durability("PERSIST", "EXTRA", f"SQLite {version} has the WAL-reset bug, fixed in 3.51.3")


def sqlite_engine(url: URL, durability: Durability, busy_timeout_s: float) -> Engine:
    """Make the engine of one file.

    A connection that is kept has read the schema and prepared its statements, which costs more processor time than a
    commit. It is given up where its file is not the one that is there by now.
    """
    connect = {"timeout": busy_timeout_s}
    file = None if url.database is None or url.database.startswith("file:") else Path(url.database)
    if file is None:  # whether a URI still names the same file is not to be told
        engine = create_engine(url, poolclass=NullPool, connect_args=connect)
    else:
        engine = create_engine(url, pool_size=_KEPT, max_overflow=-1, connect_args=connect)

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # The driver would begin only at the first write, and a read that turns into a write cannot wait for a lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA journal_mode = {durability.journal_mode}")
        cursor.execute(f"PRAGMA synchronous = {durability.synchronous}")
        cursor.close()
        record.info["file"] = _identity(file)

    @event.listens_for(engine, "checkout")
    def _check_file(connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
        if record.info["file"] != _identity(file):  # set aside, recovered, restored from a copy
            raise DisconnectionError

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("ledger_reads", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _identity(file: Path | None) -> tuple[int, int] | None:
    try:
        found = None if file is None else os.stat(file)
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)
