"""What the pages read of the ledger beside single traces: pages of decisions, filtered and sorted, and the history of
policies. Reads only; its statements touch the ledger's tables because lists of 100,000 need the database's own order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Select, case, exists, func, select

from policies import outcome_log
from policies.database import Database, Place
from policies.records import EffectiveOutcome
from policies.tables import ALIAS_MOVES, CORRECTIONS, DECISIONS, OUTCOMES, POLICY_STATES, TRACES, whole
from router.ui.regret import Promise, promise_in

OUTCOME_NAMES = ("right", "partly", "wrong", "unknown")
KINDS = ("grid", "text")
SORTS = ("time", "regret")
PAGE_ROWS = 50
_BATCH = 500
_CATCH_UP_S = 0.1  # of one request; the rest is read in the background


@dataclass(frozen=True, slots=True)
class Filters:
    """Which decisions are listed; None: whichever."""

    arm: str | None = None
    outcome: str | None = None
    policy: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One decision in a list."""

    seq: int
    trace_id: str
    created_at: str
    task_id: str
    kind: str
    arm: str
    policy: str
    reason: str
    propensity: float
    difficulty: float
    seconds: float
    degraded: bool
    promise: Promise | None
    outcome: float | None = None

    @property
    def regret(self) -> float | None:
        """None where the policy made no estimates."""
        return None if self.promise is None else self.promise.regret

    @property
    def outcome_name(self) -> str:
        """One of `OUTCOME_NAMES`."""
        return outcome_name(self.outcome)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    rows: tuple[Listed, ...]
    next: int | None  # where the next page begins; None: this is the last
    ordered: int | None = None  # sorted by regret: of how many decisions it is known so far


@dataclass(frozen=True, slots=True)
class Event:
    """One line in the history of policies."""

    created_at: str
    what: str
    version_id: str | None
    reason: str


class Listing:
    """Lists of one ledger. Use it as a context manager, or `close` it. Safe between threads."""

    def __init__(self, location: str) -> None:
        self._database = Database(Place.of(location), busy_timeout_s=5.0)
        self._known: dict[int, Listed] = {}  # by seq, without outcomes
        self._last_seq = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give back the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def newest(self, filters: Filters, *, before: int | None = None, rows: int = PAGE_ROWS) -> Page:
        """Return decisions in the order of record, newest first, those before number `before`."""
        query = _narrowed(_listed(), filters).order_by(DECISIONS.c.seq.desc()).limit(rows + 1)
        if before is not None:
            query = query.where(DECISIONS.c.seq < before)
        with self._database.reading() as connection:
            found = _with_outcomes(connection, _read(connection, query))
        return Page(found[:rows], found[rows - 1].seq if len(found) > rows else None)

    def by_regret(self, filters: Filters, *, start: int = 0, rows: int = PAGE_ROWS) -> Page:
        """Return decisions from the largest regret on, from place `start` on."""
        self.catch_up()
        wanted = _narrowed(select(DECISIONS.c.seq), filters)
        with self._database.reading() as connection:
            numbers = {int(row.seq) for row in connection.execute(wanted)} if filters != Filters() else None
            outcomes = _outcome_values(connection)
        with self._lock:
            known = [
                (-row.promise.regret, -seq)
                for seq, row in self._known.items()
                if row.promise is not None and (numbers is None or seq in numbers)
            ]
            ordered = len(self._known)
            known.sort()
            page = [self._known[-seq] for _, seq in known[start : start + rows]]
        shown = tuple(replace(row, outcome=outcomes.get(row.trace_id)) for row in page)
        return Page(shown, start + rows if len(known) > start + rows else None, ordered)

    def decided(self, at_most: int = 10_000) -> tuple[Listed, ...]:
        """Return the latest decisions that have been read so far, oldest first, with outcomes."""
        self.catch_up()
        with self._lock:
            rows = [self._known[seq] for seq in sorted(self._known)[-at_most:]]
        with self._database.reading() as connection:
            outcomes = _outcome_values(connection)
        return tuple(replace(row, outcome=outcomes.get(row.trace_id)) for row in rows)

    def choices(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the arms and the policies to filter by."""
        with self._database.reading() as connection:
            arms = tuple(row[0] for row in connection.execute(_distinct(DECISIONS.c.arm)))
            policies = tuple(row[0] for row in connection.execute(_distinct(DECISIONS.c.policy)))
        return arms, policies

    def history(self) -> tuple[Event, ...]:
        """Return every move of an alias and every state of a policy version, newest first."""
        with self._database.reading() as connection:
            moves = connection.execute(select(ALIAS_MOVES).order_by(ALIAS_MOVES.c.seq)).mappings().all()
            states = connection.execute(select(POLICY_STATES).order_by(POLICY_STATES.c.seq)).mappings().all()
            events = [
                Event(row["created_at"], f"{row['alias']}, epoch {row['epoch']}", row["version_id"], row["reason"])
                for row in (whole(found, "a move of an alias") for found in moves)
            ] + [
                Event(row["created_at"], row["state"], row["version_id"], row["reason"])
                for row in (whole(found, "a state of a policy") for found in states)
            ]
        return tuple(sorted(events, key=lambda event: event.created_at, reverse=True))

    def catch_up(self, seconds: float = _CATCH_UP_S) -> None:
        """Read decisions that are new since the last time; what takes longer goes on in the background."""
        if not self._read_on(time.monotonic() + seconds):
            threading.Thread(target=self._read_on, args=(float("inf"),), daemon=True).start()

    def _read_on(self, until: float) -> bool:
        """Return whether all is read, or somebody else is reading."""
        while time.monotonic() < until:
            with self._lock:
                query = _listed().where(DECISIONS.c.seq > self._last_seq).order_by(DECISIONS.c.seq).limit(_BATCH)
                with self._database.reading() as connection:
                    rows = _read(connection, query)
                self._known.update((row.seq, row) for row in rows)
                self._last_seq = rows[-1].seq if rows else self._last_seq
            if len(rows) < _BATCH:
                return True
        return False


def verdict_of(outcomes: Sequence[EffectiveOutcome]) -> float | None:
    """Return what counts where several things are said of a decision: the lowest of what the sources say today."""
    return min((outcome.value for outcome in outcomes), default=None)


def outcome_name(value: float | None) -> str:
    """Return one of `OUTCOME_NAMES`."""
    return "unknown" if value is None else "right" if value >= 1 else "wrong" if value <= 0 else "partly"


_COLUMNS = (
    "seq", "decision_id", "created_at", "task_id", "arm", "policy", "reason", "propensity", "difficulty", "seconds",
    "degraded",
)  # fmt: skip


def _listed() -> Select[*tuple[Any, ...]]:
    has_estimates = TRACES.c.document.like('%"estimates":{"%')
    document = case((has_estimates, TRACES.c.document), else_=None).label("document")  # long: read where it tells
    is_text = DECISIONS.c.features.like('%"kind":"text"%').label("is_text")
    columns = (DECISIONS.c[name] for name in _COLUMNS)
    return select(*columns, is_text, document).outerjoin(TRACES, TRACES.c.trace_id == DECISIONS.c.decision_id)


def _read(connection: Connection, query: Select[*tuple[Any, ...]]) -> tuple[Listed, ...]:
    return tuple(
        Listed(
            seq=found["seq"],
            trace_id=found["decision_id"],
            created_at=found["created_at"],
            task_id=found["task_id"],
            kind="text" if found["is_text"] else "grid",
            arm=found["arm"],
            policy=found["policy"],
            reason=found["reason"],
            propensity=found["propensity"],
            difficulty=found["difficulty"],
            seconds=found["seconds"],
            degraded=found["degraded"] != "[]",
            promise=None if found["document"] is None else promise_in(found["document"], found["arm"]),
        )
        for found in connection.execute(query).mappings()
    )


def _with_outcomes(connection: Connection, rows: tuple[Listed, ...]) -> tuple[Listed, ...]:
    said = outcome_log.of_decisions(connection, [row.trace_id for row in rows])
    return tuple(replace(row, outcome=verdict_of(said[row.trace_id])) for row in rows)


def _narrowed(query: Select[*tuple[Any, ...]], filters: Filters) -> Select[tuple[object, ...]]:
    if filters.arm is not None:
        query = query.where(DECISIONS.c.arm == filters.arm)
    if filters.policy is not None:
        query = query.where(DECISIONS.c.policy == filters.policy)
    if filters.kind is not None:
        query = query.where(DECISIONS.c.features.like(f'%"kind":"{filters.kind}"%'))
    if filters.outcome == "unknown":
        query = query.where(~exists().where(OUTCOMES.c.decision_id == DECISIONS.c.decision_id))
    elif filters.outcome is not None:
        value = func.min(_effective())
        cases: dict[str, ColumnElement[bool]] = {"right": value >= 1, "wrong": value <= 0}
        matches = cases.get(filters.outcome, (value > 0) & (value < 1))
        said = select(OUTCOMES.c.decision_id).group_by(OUTCOMES.c.decision_id).having(matches)
        query = query.where(DECISIONS.c.decision_id.in_(said))
    return query


def _effective() -> ColumnElement[float]:
    last = (
        select(CORRECTIONS.c.value)
        .where(CORRECTIONS.c.outcome_seq == OUTCOMES.c.seq)
        .order_by(CORRECTIONS.c.revision.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(last, OUTCOMES.c.value)


def _outcome_values(connection: Connection) -> dict[str, float]:
    lowest = select(OUTCOMES.c.decision_id, func.min(_effective())).group_by(OUTCOMES.c.decision_id)
    return {row[0]: row[1] for row in connection.execute(lowest)}


def _distinct(column: ColumnElement[str]) -> Select[str]:
    """Return the different values of a column that has few, of the latest decisions."""
    recent = select(column.label("value")).order_by(DECISIONS.c.seq.desc()).limit(20_000).subquery()
    return select(recent.c.value).distinct().order_by(recent.c.value).limit(40)
