"""What the pages read of the ledger beside single traces: pages of decisions, filtered and sorted, and the history of
policies. Reads only; the statements are its own because a page of many needs the database's order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import ColumnElement, RowMapping, Select, case, exists, func, select

from policies.database import Database
from policies.tables import (
    ALIAS_MOVES,
    DECISIONS,
    OUTCOMES,
    POLICY_STATES,
    TRACE_SUMMARIES,
    TRACES,
    whole,
)
from policies.trace_log import JUDGES_THE_ANSWER, Verdict, lowest_outcome, said_today, verdict_of
from router.traces.prices import ArmValue
from router.ui.promise import values_in

VERDICTS: tuple[str, ...] = get_args(Verdict)
KINDS = ("grid", "text")
SORTS = ("time", "regret")
PAGE_ROWS = 50
_OF_TASK = 200  # latest traces of a task that are looked through for an adapter
_RECENT = 20_000  # traces whose arms and policies can be chosen from


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
    seconds: float
    degraded: bool
    regret: float | None  # None: the policy estimated nothing
    outcome: float | None  # lowest of what the sources say today; None: nothing yet

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        return verdict_of(self.outcome)


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as the page of the policies counts it."""

    arm: str
    policy: str
    seconds: float
    difficulty: float
    degraded: bool
    expected: float | None  # quality of the arm taken, as the policy estimated it
    outcome: float | None
    arms: tuple[ArmValue, ...] = ()  # what the policy thought each arm is worth and costs


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    rows: tuple[Listed, ...]
    next: int | None  # where the next page begins; None: this is the last


@dataclass(frozen=True, slots=True)
class Event:
    """One line in the history of policies."""

    created_at: str
    what: str
    version_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Use:
    """A trace that one adapter was used in."""

    trace_id: str
    created_at: str
    found: bool  # in the store; else it was trained there


class Listing:
    """Lists of one ledger. Safe between threads.

    Args:
        tenant: whose decisions are listed; None: everybody's. Policies are those of all.
    """

    def __init__(self, database: Database, tenant: str | None = None) -> None:
        self._database = database
        self._tenant = tenant

    def newest(self, filters: Filters, *, before: int | None = None, rows: int = PAGE_ROWS) -> Page:
        """Return traces in the order of record, newest first, those before number `before`."""
        query = self._listed(filters).order_by(TRACE_SUMMARIES.c.seq.desc()).limit(rows + 1)
        if before is not None:
            query = query.where(TRACE_SUMMARIES.c.seq < before)
        found = self._read(query)
        return Page(found[:rows], found[rows - 1].seq if len(found) > rows else None)

    def by_regret(self, filters: Filters, *, start: int = 0, rows: int = PAGE_ROWS) -> Page:
        """Return traces from the largest regret on, from place `start` on; those without estimates are left out."""
        regret = TRACE_SUMMARIES.c.regret
        query = self._listed(filters).where(regret.is_not(None)).order_by(regret.desc(), TRACE_SUMMARIES.c.seq.desc())
        found = self._read(query.limit(rows + 1).offset(start))
        return Page(found[:rows], start + rows if len(found) > rows else None)

    def decided(self, at_most: int = 2000) -> tuple[Decided, ...]:
        """Return the latest decisions, oldest first."""
        has_estimates = TRACES.c.document.like('%"estimates":{"%')
        document = case((has_estimates, TRACES.c.document), else_=None).label("document")  # long: read where it tells
        columns = (DECISIONS.c[name] for name in ("arm", "policy", "seconds", "difficulty", "degraded"))
        query = select(*columns, document, lowest_outcome(DECISIONS.c.decision_id).label("outcome"))
        query = query.outerjoin(TRACES, TRACES.c.trace_id == DECISIONS.c.decision_id)
        if self._tenant is not None:
            query = query.where(DECISIONS.c.tenant == self._tenant)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(DECISIONS.c.seq.desc()).limit(at_most)).mappings().all()
        return tuple(map(_decided, reversed(found)))

    def choices(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the arms and the policies to filter by: those of the latest traces."""
        kept = TRACE_SUMMARIES.c
        latest = select(kept.arm, kept.policy).order_by(kept.seq.desc()).limit(_RECENT)
        recent = (latest if self._tenant is None else latest.where(kept.tenant == self._tenant)).subquery()
        with self._database.reading() as connection:
            found = connection.execute(select(recent).distinct()).all()
        return tuple(sorted({str(row.arm) for row in found})), tuple(sorted({str(row.policy) for row in found}))

    def uses(self, task_id: str, key: str, at_most: int = 20) -> tuple[Use, ...]:
        """Return the latest traces of a task that this adapter was used in, newest first."""
        kept, mark = TRACE_SUMMARIES.c, f'"key":{json.dumps(key)}'
        of_task = select(kept.trace_id).where(kept.task_id == task_id).order_by(kept.seq.desc()).limit(_OF_TASK)
        query = (
            select(kept.trace_id, kept.created_at, TRACES.c.document.contains(f'{mark},"cached":true', autoescape=True))
            .join(TRACES, TRACES.c.trace_id == kept.trace_id)
            .where(kept.trace_id.in_(of_task), TRACES.c.document.contains(mark, autoescape=True))
        )
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(kept.seq.desc()).limit(at_most)).all()
        return tuple(Use(trace_id, created_at, bool(cached)) for trace_id, created_at, cached in found)

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

    def _listed(self, filters: Filters) -> Select[*tuple[Any, ...]]:
        query = _listed(filters)
        return query if self._tenant is None else query.where(TRACE_SUMMARIES.c.tenant == self._tenant)

    def _read(self, query: Select[*tuple[Any, ...]]) -> tuple[Listed, ...]:
        with self._database.reading() as connection:
            return tuple(map(_listed_row, connection.execute(query).mappings()))


_SUMMARY = ("seq", "trace_id", "created_at", "task_id", "arm", "policy", "seconds", "n_degraded", "regret")


def _listed(filters: Filters) -> Select[*tuple[Any, ...]]:
    kept = TRACE_SUMMARIES.c
    query = select(
        *(kept[name] for name in _SUMMARY),
        DECISIONS.c.reason,
        DECISIONS.c.propensity,
        DECISIONS.c.features.like('%"kind":"text"%').label("is_text"),
        lowest_outcome(kept.trace_id).label("outcome"),
    ).join(DECISIONS, DECISIONS.c.decision_id == kept.trace_id)
    if filters.arm is not None:
        query = query.where(kept.arm == filters.arm)
    if filters.policy is not None:
        query = query.where(kept.policy == filters.policy)
    if filters.kind is not None:
        query = query.where(DECISIONS.c.features.like(f'%"kind":"{filters.kind}"%'))
    if filters.outcome == "unknown":
        query = query.where(~exists().where(OUTCOMES.c.decision_id == kept.trace_id, JUDGES_THE_ANSWER))
    elif filters.outcome is not None:
        lowest = func.min(said_today())
        cases: dict[str, ColumnElement[bool]] = {"right": lowest >= 1, "wrong": lowest <= 0}
        matches = cases.get(filters.outcome, (lowest > 0) & (lowest < 1))
        said = select(OUTCOMES.c.decision_id).where(JUDGES_THE_ANSWER).group_by(OUTCOMES.c.decision_id).having(matches)
        query = query.where(kept.trace_id.in_(said))
    return query


def _listed_row(found: RowMapping) -> Listed:
    return Listed(
        seq=found["seq"],
        trace_id=found["trace_id"],
        created_at=found["created_at"],
        task_id=found["task_id"],
        kind="text" if found["is_text"] else "grid",
        arm=found["arm"],
        policy=found["policy"],
        reason=found["reason"],
        propensity=found["propensity"],
        seconds=found["seconds"],
        degraded=found["n_degraded"] > 0,
        regret=found["regret"],
        outcome=found["outcome"],
    )


def _decided(found: RowMapping) -> Decided:
    """Where a policy estimates nothing, the difficulty still says how likely the answer in context is right."""
    values = () if found["document"] is None else values_in(found["document"])
    expected = next((value.quality for value in values if value.arm == found["arm"]), None)
    if expected is None and found["arm"] == "icl":
        expected = 1.0 - found["difficulty"]
    return Decided(
        arm=found["arm"],
        policy=found["policy"],
        seconds=found["seconds"],
        difficulty=found["difficulty"],
        degraded=found["degraded"] != "[]",
        expected=expected,
        outcome=found["outcome"],
        arms=values,
    )
