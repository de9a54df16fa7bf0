"""The ledger: decisions, what came of them, and their traces in one SQL database, appended to and never changed; traces
alone are pruned (`policies.trace_log`).

A record is acknowledged once the call that wrote it has returned, which is after the commit. SQLite in one file by
default, safe between threads and processes and after a fork; PostgreSQL by URL. What the rows mean for learning is left
to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from policies import outcome_log, trace_log
from policies.database import Database, Place, Reached, nothing, utc_now
from policies.errors import DecisionConflict, OutcomeConflict, RecordRefused, UnknownTrace
from policies.outcome_log import Heard
from policies.policy_versions import PolicyVersions
from policies.records import CorrectionRow, DecisionRow, EffectiveOutcome, OutcomeRow, TraceRow
from policies.rows import decision_columns, decision_row, trace_row
from policies.schema import create_or_migrate
from policies.sqlite import Durability
from policies.tables import APPEND_ONLY, DECISIONS, TRACES, sealed, whole
from policies.trace_log import TraceEntry, TraceLog

_INTO_DECISIONS = insert(DECISIONS)  # made once: the columns come beside it, and the statement is the same
_PAGE = 500  # rows of one read, where many are read


class Ledger:
    """The durable record. Use it as a context manager, or `close` it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home, Ledger.open(home) as ledger:
        ...     len(ledger.latest(5))
        0
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime], files: Path | None, reached: Reached
    ) -> None:
        self._database = database
        self._clock = clock
        self.policy_versions = PolicyVersions(database, files, self._now, reached)
        self.traces = TraceLog(database, clock, self._now)

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        files: Path | None = None,
        clock: Callable[[], datetime] = utc_now,
        busy_timeout_s: float = 5.0,
        reached: Reached = nothing,
    ) -> Self:
        """Open a ledger, creating it where there is none and bringing an older schema up to date.

        Args:
            url_or_path: a SQLAlchemy URL; a file (`.sqlite`, `.sqlite3`, `.db`, or one that exists); any other path
                is a home folder, in which the file is `ledger.sqlite`.
            files: folder of this ledger's policies and no other's; by default beside a SQLite file: `policies`, or
                `NAME.policies` where the file is not `ledger.sqlite`. Machines that share a PostgreSQL ledger have to
                share this folder too.
            clock: the time, with its time zone.
            busy_timeout_s: how long a write waits for another writer.
            reached: is told of every step of a write as it is done; the fault harnesses strike there.

        Raises:
            LedgerTooNew: a later release made it.
            LedgerCorrupt: it is damaged; nothing opens it before it has been recovered.
            LedgerUnavailable: it cannot be opened, or is not a ledger.
        """
        place = Place.of(url_or_path)
        database = Database(place, busy_timeout_s=busy_timeout_s, reached=reached)
        try:
            database.require_integrity()
            with database.writing() as connection:
                create_or_migrate(connection, place.shown)
        except BaseException:
            database.close()
            raise
        return cls(database, clock=clock, files=files or place.policy_folder, reached=reached)

    @property
    def database(self) -> Database:
        """The database it is in, for statements of one's own that only read."""
        return self._database

    @property
    def location(self) -> str:
        """The file, or the URL without its password."""
        return self._database.place.shown

    @property
    def durability(self) -> Durability | None:
        """How SQLite is made to keep what it acknowledged; None: another server sees to that."""
        return self._database.durability

    def close(self) -> None:
        """Give back the connections; closing twice is harmless."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    def record(self, row: DecisionRow, trace_json: str, *, trace_schema_version: int = 1) -> DecisionRow:
        """Write a decision and its trace in one transaction; return the row as recorded.

        Recording the same again changes nothing, so a call whose answer was lost may be repeated.

        Raises:
            DecisionConflict: this id is recorded with other content.
            RecordRefused: a value no row may hold.
            LedgerUnavailable: nothing was acknowledged.
        """
        row = replace(row, created_at=row.created_at or self._now())
        return self._recorded(row, TraceRow(row.decision_id, trace_schema_version, trace_json))

    def record_decision(self, row: DecisionRow) -> DecisionRow:
        """Write a decision whose trace follows (`traces.add`) or is not kept; return the row as recorded. See `record`.

        Raises:
            DecisionConflict: this id is recorded with other content.
            RecordRefused: a value no row may hold.
            LedgerUnavailable: nothing was acknowledged.
        """
        return self._recorded(replace(row, created_at=row.created_at or self._now()), None)

    def add_outcome(self, outcome: OutcomeRow) -> OutcomeRow:
        """Write what came of a decision; return the row as recorded. What a source says first stands; that it said
        something again is counted.

        Raises:
            UnknownTrace: there is no such decision.
            OutcomeConflict: this source has reported another value of this kind.
            RecordRefused: the value is not in [0, 1].
            LedgerUnavailable: nothing was acknowledged.
        """
        (recorded,) = self.add_outcomes([outcome])
        if recorded.value != outcome.value:
            raise OutcomeConflict(
                outcome.decision_id,
                source=outcome.source,
                kind=outcome.kind,
                recorded=recorded.value,
                given=outcome.value,
            )
        return recorded

    def add_outcomes(self, given: Iterable[OutcomeRow]) -> tuple[OutcomeRow, ...]:
        """Write several outcomes in one transaction, all or none; return for each the row as recorded.

        Where a source has said something of this kind before, that stands and is returned, whatever is said now.

        Raises:
            UnknownTrace: there is no such decision.
            RecordRefused: a value is not in [0, 1].
            LedgerUnavailable: nothing was acknowledged.
        """
        rows = [outcome_log.checked(outcome, self._now()) for outcome in given]
        return self._database.write(
            lambda connection: tuple(outcome_log.write(connection, row, self.location) for row in rows)
        )

    def correct_outcome(self, decision_id: str, *, source: str, kind: str, value: float, reason: str) -> CorrectionRow:
        """Write that a source no longer stands by what it said; the outcome stays, and the latest correction counts.

        The same correction again, with nothing in between, changes nothing.

        Raises:
            RecordRefused: the source has said nothing of this kind, or the value is not in [0, 1].
            LedgerUnavailable: nothing was acknowledged.
        """
        wanted = outcome_log.checked(OutcomeRow(decision_id, source, kind, value), self._now())
        with self._database.writing() as connection:
            return outcome_log.correct(connection, wanted, reason)

    # Reading

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
            UnknownTrace: there is no such decision, or its trace was not kept.
        """
        found = self._find_trace(trace_id)
        if found is None:
            raise UnknownTrace(trace_id, self.location)
        return found

    def outcomes(self, trace_id: str) -> tuple[OutcomeRow, ...]:
        """Return what was first said of one decision, by source and kind, oldest first; empty where nothing was."""
        return tuple(outcome.reported for outcome in self.effective_outcomes(trace_id))

    def effective_outcomes(self, trace_id: str) -> tuple[EffectiveOutcome, ...]:
        """Return what has been reported of one decision, oldest first, with corrections and repeats."""
        with self._database.reading() as connection:
            return outcome_log.of_decisions(connection, [trace_id])[trace_id]

    def latest(self, n: int) -> tuple[DecisionRow, ...]:
        """Return the last `n` decisions in the order of record, newest first."""
        query = select(DECISIONS).order_by(DECISIONS.c.seq.desc()).limit(n)
        with self._database.reading() as connection:
            return tuple(decision_row(found) for found in connection.execute(query).mappings())

    def last_seq(self) -> int:
        """Return the number of the last decision in the order of record; 0 where there is none."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.max(DECISIONS.c.seq))) or 0

    def decisions_after(self, seq: int, *, limit: int = 1000) -> tuple[tuple[int, DecisionRow], ...]:
        """Return the next decisions after number `seq` in the order of record, with their numbers.

        No decision is ever recorded under a lower number than one that could be read before.
        """
        query = select(DECISIONS).where(DECISIONS.c.seq > seq).order_by(DECISIONS.c.seq).limit(limit)
        with self._database.reading() as connection:
            return tuple((found["seq"], decision_row(found)) for found in connection.execute(query).mappings())

    def heard_after(self, heard: Heard) -> tuple[tuple[str, ...], Heard]:
        """Return the decisions of which something has been reported or corrected since, and how far that goes.

        Nothing is ever written under a lower number than one that could be read before.
        """
        with self._database.reading() as connection:
            return outcome_log.heard_after(connection, heard)

    def outcomes_of(self, decision_ids: Sequence[str]) -> dict[str, tuple[EffectiveOutcome, ...]]:
        """Return what has been reported of each of these decisions, oldest first, with corrections and repeats."""
        with self._database.reading() as connection:
            return outcome_log.of_decisions(connection, decision_ids)

    def rows(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Yield every row of every table with the table's name, tables after those they refer to, as of one moment.

        Read in short transactions, so that a slow reader keeps no writer waiting: what is there never changes, and what
        came later has a higher number.
        """
        numbers = {table: (DECISIONS if table is TRACES else table).c.seq for table in APPEND_ONLY}
        with self._database.reading() as connection:
            ends = {table: connection.scalar(select(func.max(number))) or 0 for table, number in numbers.items()}
        for table, number in numbers.items():
            every = select(table, number.label("number"))
            if table is TRACES:
                every = every.join(DECISIONS, DECISIONS.c.decision_id == TRACES.c.trace_id)
            last = 0
            while last < ends[table]:
                page = every.where(number > last, number <= ends[table]).order_by(number).limit(_PAGE)
                with self._database.reading() as connection:
                    found = connection.execute(page).mappings().all()
                    rows = [{name: row[name] for name in table.c.keys()} for row in found]  # noqa: SIM118
                    for row in rows:
                        whole(row, f"a row of {table.name}")
                for row in rows:
                    yield table.name, row
                last = found[-1]["number"] if found else ends[table]

    def _recorded(self, row: DecisionRow, trace: TraceRow | None) -> DecisionRow:
        insertions = [(_INTO_DECISIONS, sealed(DECISIONS, decision_columns(row), task_id=row.task_id))]
        if trace is not None:
            insertions += trace_log.insertions(TraceEntry(row, trace))

        def insert_all(connection: Connection) -> None:
            for statement, columns in insertions:
                connection.execute(statement, columns)

        try:
            self._database.write(insert_all)
        except IntegrityError as error:
            recorded = self._find_decision(row.decision_id)
            if recorded is None:
                remedy = "Every value must be finite and in its range."
                raise RecordRefused("decision", str(error.orig), remedy=remedy, task_id=row.task_id) from error
            differs = trace is not None and self._find_trace(row.decision_id) not in (None, trace)  # None: pruned
            if differs or replace(row, created_at=recorded.created_at) != recorded:
                raise DecisionConflict(row.decision_id, task_id=row.task_id) from error
            return recorded
        return row

    def _find_trace(self, trace_id: str) -> TraceRow | None:
        with self._database.reading() as connection:
            found = connection.execute(select(TRACES).where(TRACES.c.trace_id == trace_id)).mappings().first()
            return None if found is None else trace_row(found)

    def _find_decision(self, decision_id: str) -> DecisionRow | None:
        query = select(DECISIONS).where(DECISIONS.c.decision_id == decision_id)
        with self._database.reading() as connection:
            found = connection.execute(query).mappings().first()
            return None if found is None else decision_row(found)

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")
