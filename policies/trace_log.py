"""Traces in the tables: kept beside the decision they belong to, listed without being read, and pruned.

A trace is the one record that does not stay for ever. What is pruned is written down first, in a table that is
append-only like the others; the triggers let nothing else be deleted. What a document means is left to others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import Column, ColumnElement, Connection, Insert, RowMapping, ScalarSelect, delete, func, insert, select

from policies.database import Database
from policies.records import DecisionRow, TraceRow
from policies.rows import trace_columns
from policies.tables import CORRECTIONS, OUTCOMES, TRACE_PRUNINGS, TRACE_SUMMARIES, TRACES, sealed, whole

Verdict = Literal["right", "wrong", "partly", "unknown"]  # of all sources the one that thinks least of the answer
Order = Literal["newest", "regret"]

_INTO_TRACES, _INTO_SUMMARIES = insert(TRACES), insert(TRACE_SUMMARIES)
_AT_ONCE = 500  # traces that one transaction deletes: other writers wait for it
_PRUNED_TO = 0.9  # share of the bytes that are allowed: not every new trace is to delete an old one


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What a list shows of a trace that its decision does not say."""

    answered_by: str | None = None
    confidence: float | None = None  # in the answer to the first query
    regret: float | None = None  # utility of the best arm less that of ours, as the policy estimated them


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """A trace to be kept, with the decision it belongs to."""

    decision: DecisionRow  # as recorded
    trace: TraceRow
    facts: TraceFacts = TraceFacts()


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One line of a list of traces."""

    seq: int  # order of record
    trace_id: str
    created_at: str
    task_id: str
    tenant: str
    arm: str
    answered_by: str | None
    policy: str
    seconds: float
    difficulty: float
    confidence: float | None
    regret: float | None
    n_degraded: int
    size_bytes: int
    outcome: float | None  # lowest of what the sources say today, in [0, 1]; None: nothing yet


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which traces are meant; what is None does not matter."""

    arm: str | None = None
    policy: str | None = None  # beginning of name@version
    outcome: Verdict | None = None
    degraded: bool | None = None
    since: str | None = None  # UTC, ISO 8601, inclusive
    until: str | None = None  # exclusive
    task_id: str | None = None
    tenant: str | None = None
    before: int | None = None  # seq, exclusive: for the page after one that ends with it


_ALL = TraceFilter()
JUDGES_THE_ANSWER = OUTCOMES.c.kind.not_like("%:%")  # the rest is about something beside it


@dataclass(frozen=True, slots=True)
class Pruning:
    """What was deleted."""

    n_traces: int
    size_bytes: int


class TraceLog:
    """The traces of one ledger, as `Ledger.traces` gives them."""

    def __init__(self, database: Database, clock: Callable[[], datetime], now: Callable[[], str]) -> None:
        self._database = database
        self._clock = clock
        self._now = now

    def add(self, entries: Sequence[TraceEntry]) -> None:
        """Keep traces of decisions that are recorded, all in one transaction. What is there already stays as it is.

        Raises:
            RecordRefused: a document that no database gives back unchanged.
            LedgerUnavailable: none of them was kept.
        """
        statements = {entry.trace.trace_id: insertions(entry) for entry in entries}
        with self._database.writing() as connection:
            there = select(TRACES.c.trace_id).where(TRACES.c.trace_id.in_(list(statements)))
            for trace_id in connection.execute(there).scalars().all():
                del statements[trace_id]
            for each in statements.values():
                for statement, columns in each:
                    connection.execute(statement, columns)

    def summaries(
        self,
        wanted: TraceFilter = _ALL,
        *,
        n: int,
        order: Order = "newest",
        skip: int = 0,
    ) -> tuple[TraceSummary, ...]:
        """Return `n` traces after the first `skip`, newest first or with the largest regret first."""
        by = TRACE_SUMMARIES.c.seq.desc()
        first = (by,) if order == "newest" else (TRACE_SUMMARIES.c.regret.desc().nulls_last(), by)
        outcome = lowest_outcome(TRACE_SUMMARIES.c.trace_id).label("outcome")
        query = select(TRACE_SUMMARIES, outcome).where(*_conditions(wanted))
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(*first).limit(n).offset(skip)).mappings().all()
            return tuple(map(_summary, found))

    def count(self, wanted: TraceFilter = _ALL) -> int:
        """Return how many traces are meant."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(TRACE_SUMMARIES).where(*_conditions(wanted))) or 0

    def ids_beginning(self, prefix: str, *, n: int = 2) -> tuple[str, ...]:
        """Return up to `n` ids of decisions with a trace whose first characters are these."""
        query = select(TRACE_SUMMARIES.c.trace_id).where(TRACE_SUMMARIES.c.trace_id.startswith(prefix, autoescape=True))
        with self._database.reading() as connection:
            return tuple(connection.execute(query.order_by(TRACE_SUMMARIES.c.seq.desc()).limit(n)).scalars())

    def size_bytes(self) -> int:
        """Return the size of all documents."""
        with self._database.reading() as connection:
            return _size(connection)

    def prune(self, *, max_age_s: float, max_bytes: int, at_once: int = _AT_ONCE) -> Pruning:
        """Delete the oldest traces: those beyond an age, and those for which there is no room. Decisions stay.

        Some at a time, so that other writers do not wait long. What is deleted is written down with it.

        Raises:
            LedgerUnavailable: some may be left.
        """
        n_traces = size_bytes = 0
        while (pruned := self._prune_some(max_age_s, max_bytes, at_once)) is not None:
            n_traces, size_bytes = n_traces + pruned.n_traces, size_bytes + pruned.size_bytes
        return Pruning(n_traces, size_bytes)

    def _prune_some(self, max_age_s: float, max_bytes: int, at_once: int) -> Pruning | None:
        kept = TRACE_SUMMARIES.c
        with self._database.writing() as connection:
            last, reason = max(
                (self._last_too_old(connection, max_age_s), f"older than {max_age_s:g} s"),
                (_last_too_many(connection, max_bytes), f"beyond {max_bytes} bytes"),
            )
            beyond = select(kept.seq, kept.trace_id, kept.size_bytes).where(kept.seq <= last)
            rows = connection.execute(beyond.order_by(kept.seq).limit(at_once)).all()
            if not rows:
                return None
            pruned = Pruning(len(rows), sum(int(row.size_bytes) for row in rows))
            made = {
                "upto_seq": rows[-1].seq,
                "n_traces": pruned.n_traces,
                "size_bytes": pruned.size_bytes,
                "reason": reason,
                "created_at": self._now(),
            }
            connection.execute(insert(TRACE_PRUNINGS).values(sealed(TRACE_PRUNINGS, made)))  # or nothing may be deleted
            connection.execute(delete(TRACES).where(TRACES.c.trace_id.in_([row.trace_id for row in rows])))
            connection.execute(delete(TRACE_SUMMARIES).where(kept.seq <= rows[-1].seq))
            return pruned

    def _last_too_old(self, connection: Connection, max_age_s: float) -> int:
        """Return the last of those that only traces as old precede: one clock that was wrong deletes nothing else."""
        kept = TRACE_SUMMARIES.c
        too_old = _iso(self._clock() - timedelta(seconds=min(max_age_s, timedelta(days=36_500).total_seconds())))
        first_kept = connection.scalar(select(func.min(kept.seq)).where(kept.created_at >= too_old))
        return (connection.scalar(select(func.max(kept.seq))) or 0) if first_kept is None else first_kept - 1


def insertions(entry: TraceEntry) -> list[tuple[Insert, dict[str, object]]]:
    """Return the statements that keep a trace, with their columns.

    Raises:
        RecordRefused: a value that no row may hold.
    """
    row, trace, facts = entry.decision, entry.trace, entry.facts
    summary: dict[str, object] = {
        "trace_id": trace.trace_id,
        "created_at": row.created_at,
        "task_id": row.task_id,
        "tenant": row.tenant,
        "arm": str(row.arm),
        "answered_by": None if facts.answered_by is None else str(facts.answered_by),
        "policy": row.policy,
        "seconds": float(row.measured.seconds),
        "difficulty": float(row.difficulty),
        "confidence": facts.confidence,
        "regret": facts.regret,
        "n_degraded": len(row.degraded),
        "size_bytes": len(trace.document.encode(errors="replace")),
    }
    document = sealed(TRACES, trace_columns(trace), task_id=row.task_id)
    return [(_INTO_TRACES, document), (_INTO_SUMMARIES, sealed(TRACE_SUMMARIES, summary, task_id=row.task_id))]


def verdict_of(outcome: float | None) -> Verdict:
    """Return the word for what the sources say."""
    if outcome is None:
        return "unknown"
    return "right" if outcome == 1.0 else "wrong" if outcome == 0.0 else "partly"


def _summary(found: RowMapping) -> TraceSummary:
    columns = {name: found[name] for name in TRACE_SUMMARIES.c.keys()}  # noqa: SIM118  # keys of a table
    whole(columns, f"the summary of trace {found['trace_id']!r}")
    del columns["digest"]
    return TraceSummary(**columns, outcome=found["outcome"])


def _conditions(wanted: TraceFilter) -> list[ColumnElement[bool]]:
    kept = TRACE_SUMMARIES.c
    conditions: list[ColumnElement[bool]] = []
    for column, value in ((kept.arm, wanted.arm), (kept.task_id, wanted.task_id), (kept.tenant, wanted.tenant)):
        if value is not None:
            conditions.append(column == value)
    if wanted.policy is not None:
        conditions.append(kept.policy.startswith(wanted.policy, autoescape=True))
    if wanted.degraded is not None:
        conditions.append(kept.n_degraded > 0 if wanted.degraded else kept.n_degraded == 0)
    if wanted.since is not None:
        conditions.append(kept.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(kept.created_at < wanted.until)
    if wanted.before is not None:
        conditions.append(kept.seq < wanted.before)
    if wanted.outcome is not None:
        lowest = lowest_outcome(kept.trace_id)
        conditions.append(
            {
                "unknown": lowest.is_(None),
                "right": lowest == 1.0,
                "wrong": lowest == 0.0,
                "partly": (lowest > 0.0) & (lowest < 1.0),
            }[wanted.outcome]
        )
    return conditions


def lowest_outcome(decision_id: Column[str]) -> ScalarSelect[float]:
    """Return the lowest of what the sources say today of the answer of a decision; NULL where nobody said anything."""
    of_it = (OUTCOMES.c.decision_id == decision_id, JUDGES_THE_ANSWER)
    return select(func.min(said_today())).where(*of_it).correlate(decision_id.table).scalar_subquery()


def said_today() -> ColumnElement[float]:
    """Return what an outcome says: what was reported, or the last correction of it."""
    corrected = (
        select(CORRECTIONS.c.value)
        .where(CORRECTIONS.c.outcome_seq == OUTCOMES.c.seq)
        .order_by(CORRECTIONS.c.revision.desc())
        .limit(1)
        .correlate(OUTCOMES)
        .scalar_subquery()
    )
    return func.coalesce(corrected, OUTCOMES.c.value)


def _last_too_many(connection: Connection, max_bytes: int) -> int:
    if _size(connection) <= max_bytes:
        return 0
    kept = TRACE_SUMMARIES.c
    running = select(kept.seq, func.sum(kept.size_bytes).over(order_by=kept.seq.desc()).label("bytes")).subquery()
    return connection.scalar(select(func.max(running.c.seq)).where(running.c.bytes > _PRUNED_TO * max_bytes)) or 0


def _size(connection: Connection) -> int:
    return int(connection.scalar(select(func.sum(TRACE_SUMMARIES.c.size_bytes))) or 0)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
