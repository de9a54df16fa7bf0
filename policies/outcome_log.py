"""Outcomes in the tables: what a source says first stands, repeats are counted, corrections are rows of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, func, insert, select

from policies.errors import RecordRefused, UnknownTrace
from policies.records import CorrectionRow, EffectiveOutcome, OutcomeRow
from policies.rows import correction_row, outcome_columns, outcome_row
from policies.tables import CORRECTIONS, DECISIONS, OUTCOMES, REPEATS, sealed, whole

_MANY = 500  # ids in one query; databases limit how many they take


@dataclass(frozen=True, slots=True)
class Heard:
    """How far a reader has come in what was reported."""

    outcome: int = 0  # number of the last outcome
    correction: int = 0


def checked(outcome: OutcomeRow, now: str) -> OutcomeRow:
    """Return the outcome as it would be recorded.

    Raises:
        RecordRefused: its value is not in [0, 1].
    """
    if not 0.0 <= outcome.value <= 1.0:  # also refuses NaN
        raise RecordRefused("outcome value", f"got {outcome.value}", remedy="Give a number between 0 and 1.")
    return replace(outcome, value=float(outcome.value), created_at=outcome.created_at or now)


def write(connection: Connection, outcome: OutcomeRow, location: str) -> OutcomeRow:
    """Write an outcome, or count it as a repeat of the one that is there; return the one that stands.

    Looking first is safe, because no two transactions write at once; the table's own constraint holds all the same.
    """
    values = sealed(OUTCOMES, outcome_columns(outcome))
    found = _found(connection, outcome)
    if found is not None:
        repeat = {"outcome_seq": found["seq"], "value": outcome.value, "created_at": outcome.created_at}
        connection.execute(insert(REPEATS).values(sealed(REPEATS, repeat)))
        return outcome_row(found)
    if connection.scalar(select(DECISIONS.c.seq).where(DECISIONS.c.decision_id == outcome.decision_id)) is None:
        raise UnknownTrace(outcome.decision_id, location)
    connection.execute(insert(OUTCOMES).values(values))
    return outcome


def correct(connection: Connection, wanted: OutcomeRow, reason: str) -> CorrectionRow:
    """Write a correction, unless the last one says the same; return the one that stands.

    Raises:
        RecordRefused: there is no outcome to correct.
    """
    found = _found(connection, wanted)
    if found is None:
        got = f"{wanted.source!r} has reported no {wanted.kind!r} of decision {wanted.decision_id!r}"
        raise RecordRefused("correction", got, remedy="Report the outcome first; its source and kind name it.")
    earlier = select(CORRECTIONS).where(CORRECTIONS.c.outcome_seq == found["seq"])
    last = connection.execute(earlier.order_by(CORRECTIONS.c.revision.desc()).limit(1)).mappings().first()
    if last is not None:
        whole(last, f"a correction of decision {wanted.decision_id!r}")
    if last is not None and (last["value"], last["reason"]) == (wanted.value, reason):
        return correction_row(outcome_row(found), last)
    made: dict[str, object] = {
        "outcome_seq": found["seq"],
        "revision": 1 if last is None else last["revision"] + 1,
        "value": wanted.value,
        "reason": reason,
        "created_at": wanted.created_at,
    }
    connection.execute(insert(CORRECTIONS).values(sealed(CORRECTIONS, made)))
    written = connection.execute(earlier.where(CORRECTIONS.c.revision == made["revision"])).mappings().one()
    return correction_row(outcome_row(found), written)


def of_decisions(
    connection: Connection, decision_ids: Sequence[str], *, kind: str | None = None
) -> dict[str, tuple[EffectiveOutcome, ...]]:
    """Return for each decision what has been reported of it, oldest first; `kind` leaves the others out."""
    said: dict[str, tuple[EffectiveOutcome, ...]] = dict.fromkeys(decision_ids, ())
    of_kind = () if kind is None else (OUTCOMES.c.kind == kind,)
    for i in range(0, len(decision_ids), _MANY):
        wanted = and_(OUTCOMES.c.decision_id.in_(decision_ids[i : i + _MANY]), *of_kind)
        corrections = _corrections(connection, wanted)
        repeats = _repeats(connection, wanted)
        for found in connection.execute(select(OUTCOMES).where(wanted).order_by(OUTCOMES.c.seq)).mappings():
            outcome = outcome_row(found)
            rows = tuple(correction_row(outcome, correction) for correction in corrections.get(found["seq"], ()))
            said[outcome.decision_id] += (EffectiveOutcome(outcome, rows, repeats.get(found["seq"], 0), found["seq"]),)
    return said


def heard_after(connection: Connection, heard: Heard) -> tuple[tuple[str, ...], Heard]:
    """Return the decisions of which something was reported or corrected since, and how far that goes."""
    reported = select(OUTCOMES.c.seq, OUTCOMES.c.decision_id).where(OUTCOMES.c.seq > heard.outcome)
    corrected = select(CORRECTIONS.c.seq, OUTCOMES.c.decision_id).join(
        OUTCOMES, OUTCOMES.c.seq == CORRECTIONS.c.outcome_seq
    )
    outcomes = connection.execute(reported).all()
    corrections = connection.execute(corrected.where(CORRECTIONS.c.seq > heard.correction)).all()
    ids = dict.fromkeys(decision_id for _, decision_id in (*outcomes, *corrections))
    last = (
        max((seq for seq, _ in rows), default=before)
        for rows, before in ((outcomes, heard.outcome), (corrections, heard.correction))
    )
    return tuple(ids), Heard(*last)


def _found(connection: Connection, outcome: OutcomeRow) -> RowMapping | None:
    query = select(OUTCOMES).where(
        OUTCOMES.c.decision_id == outcome.decision_id,
        OUTCOMES.c.kind == outcome.kind,
        OUTCOMES.c.source == outcome.source,
    )
    return connection.execute(query).mappings().first()


def _corrections(connection: Connection, wanted: ColumnElement[bool]) -> dict[int, list[RowMapping]]:
    query = select(CORRECTIONS).join(OUTCOMES, OUTCOMES.c.seq == CORRECTIONS.c.outcome_seq).where(wanted)
    rows: dict[int, list[RowMapping]] = {}
    for found in connection.execute(query.order_by(CORRECTIONS.c.revision)).mappings():
        rows.setdefault(found["outcome_seq"], []).append(found)
    return rows


def _repeats(connection: Connection, wanted: ColumnElement[bool]) -> dict[int, int]:
    query = select(REPEATS.c.outcome_seq, func.count()).join(OUTCOMES, OUTCOMES.c.seq == REPEATS.c.outcome_seq)
    counted = connection.execute(query.where(wanted).group_by(REPEATS.c.outcome_seq)).all()
    return {row[0]: row[1] for row in counted}
