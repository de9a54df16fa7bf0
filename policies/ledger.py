"""The ledger: decisions, their outcomes and their traces in one SQL database, appended to and never changed.

A record is acknowledged once the call that wrote it has returned, which is after the commit. SQLite in one file by
default, safe between threads and processes; any other SQLAlchemy URL with its own driver. What the rows mean for
learning is left to others.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import URL, Connection, Engine, create_engine, false, insert, inspect, make_url, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from policies.errors import DecisionConflict, LedgerUnavailable, OutcomeConflict, RecordRefused, UnknownTrace
from policies.records import DecisionRow, OutcomeRow, TraceRow
from policies.sqlite import Durability, durability_for, sqlite_engine
from policies.tables import (
    DECISIONS,
    META,
    METADATA,
    OUTCOMES,
    SCHEMA_VERSION,
    TRACES,
    decision_columns,
    decision_row,
    outcome_columns,
    outcome_row,
    trace_columns,
)

FILE_NAME = "ledger.sqlite"
FILE_SUFFIXES = (".sqlite", ".sqlite3", ".db")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """The durable record. Use it as a context manager, or `close` it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home, Ledger.open(home) as ledger:
        ...     len(ledger.latest(5))
        0
    """

    def __init__(
        self, engine: Engine, location: str, *, clock: Callable[[], datetime], durability: Durability | None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self.location = location
        self.durability = durability  # None: not SQLite, durability is the server's

    @classmethod
    def open(
        cls, url_or_path: str | Path, *, clock: Callable[[], datetime] = _utc_now, busy_timeout_s: float = 5.0
    ) -> Self:
        """Open a ledger, creating it where there is none.

        Args:
            url_or_path: a SQLAlchemy URL; a file (`.sqlite`, `.sqlite3`, `.db`, or one that exists); any other path
                is a home folder, in which the file is `ledger.sqlite`.
            clock: the time, with its time zone.
            busy_timeout_s: how long a SQLite call waits for another writer.

        Raises:
            LedgerUnavailable: it cannot be opened, is not a ledger, or has another schema version.
        """
        url = _url_of(url_or_path)
        location = url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string()
        with _named_when_unavailable(location):
            if url.get_backend_name() == "sqlite":
                durability = durability_for(sqlite3.sqlite_version_info[:3])
                engine = sqlite_engine(_file_url(url), durability, busy_timeout_s)
                ledger = cls(engine, location, clock=clock, durability=durability)
            else:
                ledger = cls(create_engine(url), location, clock=clock, durability=None)
            ledger._create_or_check()
        return ledger

    def close(self) -> None:
        """Give back the connections; closing twice is harmless."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def record(self, row: DecisionRow, trace_json: str, *, trace_schema_version: int = 1) -> DecisionRow:
        """Write a decision and its trace in one transaction; return the row as recorded.

        Recording the same again changes nothing, so a call whose answer was lost may be repeated.

        Raises:
            DecisionConflict: this id is recorded with other content.
            RecordRefused: a value no row may hold.
            LedgerUnavailable: nothing was acknowledged.
        """
        row = replace(row, created_at=row.created_at or self._now())
        trace = TraceRow(row.decision_id, trace_schema_version, trace_json)
        try:
            with self._writing() as connection:
                connection.execute(insert(DECISIONS).values(decision_columns(row)))
                connection.execute(insert(TRACES).values(trace_columns(trace)))
        except IntegrityError as error:
            recorded = self._find_decision(row.decision_id)
            if recorded is None:
                raise _refused("decision", error, row.task_id) from error
            if replace(row, created_at=recorded.created_at) != recorded or self.trace(row.decision_id) != trace:
                raise DecisionConflict(row.decision_id, task_id=row.task_id) from error
            return recorded
        return row

    def add_outcome(self, outcome: OutcomeRow) -> OutcomeRow:
        """Write what came of a decision; return the row as recorded. The same value again changes nothing.

        Raises:
            UnknownTrace: there is no such decision.
            OutcomeConflict: this source has reported another value of this kind.
            RecordRefused: the value is not in [0, 1].
            LedgerUnavailable: nothing was acknowledged.
        """
        if not 0.0 <= outcome.value <= 1.0:  # also refuses NaN
            raise RecordRefused("outcome value", f"got {outcome.value}", remedy="Give a number between 0 and 1.")
        outcome = replace(outcome, value=float(outcome.value), created_at=outcome.created_at or self._now())
        try:
            with self._writing() as connection:
                connection.execute(insert(OUTCOMES).values(outcome_columns(outcome)))
        except IntegrityError as error:
            return self._recorded_outcome(outcome, error)
        return outcome

    def decision(self, trace_id: str) -> DecisionRow:
        """Return one decision.

        Raises:
            UnknownTrace: there is no such decision.
        """
        row = self._find_decision(trace_id)
        if row is None:
            raise UnknownTrace(trace_id, self.location)
        return row

    def trace(self, trace_id: str) -> TraceRow:
        """Return the trace of one decision.

        Raises:
            UnknownTrace: there is no such decision.
        """
        with self._reading() as connection:
            found = connection.execute(select(TRACES).where(TRACES.c.trace_id == trace_id)).mappings().first()
        if found is None:
            raise UnknownTrace(trace_id, self.location)
        return TraceRow(found["trace_id"], found["schema_version"], found["document"])

    def outcomes(self, trace_id: str) -> tuple[OutcomeRow, ...]:
        """Return what has been reported of one decision, oldest first; empty where nothing was."""
        query = select(OUTCOMES).where(OUTCOMES.c.decision_id == trace_id).order_by(OUTCOMES.c.seq)
        with self._reading() as connection:
            return tuple(outcome_row(found) for found in connection.execute(query).mappings())

    def latest(self, n: int) -> tuple[DecisionRow, ...]:
        """Return the last `n` decisions in the order of record, newest first."""
        query = select(DECISIONS).order_by(DECISIONS.c.seq.desc()).limit(n)
        with self._reading() as connection:
            return tuple(decision_row(found) for found in connection.execute(query).mappings())

    def _find_decision(self, decision_id: str) -> DecisionRow | None:
        query = select(DECISIONS).where(DECISIONS.c.decision_id == decision_id)
        with self._reading() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else decision_row(found)

    def _recorded_outcome(self, given: OutcomeRow, error: IntegrityError) -> OutcomeRow:
        self.decision(given.decision_id)  # raises UnknownTrace where the insert failed for want of a decision
        for recorded in self.outcomes(given.decision_id):
            if (recorded.source, recorded.kind) == (given.source, given.kind):
                if recorded.value != given.value:
                    raise OutcomeConflict(
                        given.decision_id,
                        source=given.source,
                        kind=given.kind,
                        recorded=recorded.value,
                        given=given.value,
                    ) from error
                return recorded
        raise _refused("outcome", error, None) from error

    def _create_or_check(self) -> None:
        with self._writing() as connection:  # under the write lock, so that of two openers one creates
            tables = inspect(connection).get_table_names()
            if META.name not in tables:
                if tables and self.durability is not None:
                    raise LedgerUnavailable(
                        self.location, f"holds other tables ({', '.join(tables[:3])})", remedy="Name a file of its own."
                    )
                METADATA.create_all(connection)
                connection.execute(insert(META).values(key="schema_version", value=str(SCHEMA_VERSION)))
            # Changes no row, yet fails here and now where the file may be read but not written.
            connection.execute(update(META).where(false()).values(value=""))
            found = connection.scalar(select(META.c.value).where(META.c.key == "schema_version"))
            if found != str(SCHEMA_VERSION):
                raise LedgerUnavailable(
                    self.location,
                    f"has schema version {found}, this release reads {SCHEMA_VERSION}",
                    remedy="Open it with the release that made it, or name another ledger.",
                )

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _named_when_unavailable(self.location), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _named_when_unavailable(self.location), self._engine.connect() as connection:
            yield connection.execution_options(ledger_reads=True)


def _url_of(url_or_path: str | Path) -> URL:
    if isinstance(url_or_path, str) and "://" in url_or_path:
        try:
            return make_url(url_or_path)
        except ArgumentError as error:
            scheme = url_or_path.partition("://")[0]  # the rest may hold a password
            raise LedgerUnavailable(f"{scheme}://…", "is not a URL", remedy="Give a path or an SQL URL.") from error
    path = Path(url_or_path).expanduser()
    is_file = path.is_file() or path.suffix in FILE_SUFFIXES
    return URL.create("sqlite", database=str(path if is_file else path / FILE_NAME))


def _file_url(url: URL) -> URL:
    """Make the folder of a SQLite file; refuse a database that lives in memory."""
    if not url.database or url.database == ":memory:":
        raise LedgerUnavailable("in memory", "would be lost with the process", remedy="Name a file or a folder.")
    if not url.database.startswith("file:"):
        folder = Path(url.database).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):  # SQLite needs it for the journal, and would say so only at the first write
            raise PermissionError(errno.EACCES, f"folder {folder} may not be written")
    return url


def _refused(field: str, error: IntegrityError, task_id: str | None) -> RecordRefused:
    remedy = "Every value must be finite and in its range."
    return RecordRefused(field, str(error.orig), remedy=remedy, task_id=task_id)


@contextmanager
def _named_when_unavailable(location: str) -> Iterator[None]:
    """Turn what the driver or the file system says into `LedgerUnavailable`; a broken constraint passes through."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        problem = str(error.orig)
        raise LedgerUnavailable(location, problem, remedy=_remedy(problem)) from error
    except OSError as error:
        problem = error.strerror or str(error)
        raise LedgerUnavailable(location, problem, remedy=_remedy(problem)) from error
    except (NoSuchModuleError, ImportError) as error:
        raise LedgerUnavailable(location, str(error), remedy="Install the driver for this URL.") from error


def _remedy(problem: str) -> str:
    text = problem.lower()
    if "not a database" in text or "malformed" in text:
        return "Move this file away, or name another ledger."
    if "locked" in text:
        return "Another program holds it: stop that one, or try again."
    if "full" in text or "no space" in text:
        return "Free some space on its disk."
    return "Give a file or folder that can be read and written."
