"""The ledger's tables, and the digest that each of their rows carries.

Every table but `meta` is append-only (`policies.append_only`); of traces the oldest may be pruned. Their rows carry a
digest of their other columns: a row damaged on the disk is told from one that is whole.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from policies.database import DamagedRow
from policies.errors import RecordRefused

SCHEMA_VERSION = 3  # what `policies/migrations` ends in

METADATA = MetaData()

Row = TypeVar("Row", RowMapping, dict[str, object])

META = Table(
    "meta",
    METADATA,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)


def _seq() -> Column[int]:
    """The order of record; clocks go back, this does not. No number is given twice, not even after a deletion."""
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _digest() -> Column[str]:
    return Column("digest", String)  # NULL in rows from before schema 2


DECISIONS = Table(
    "decisions",
    METADATA,
    _seq(),
    Column("decision_id", String, nullable=False, unique=True),
    Column("created_at", String, nullable=False),
    Column("task_fingerprint", String, nullable=False, index=True),
    Column("task_id", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("features", Text, nullable=False),
    Column("features_schema", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("propensity", Double, CheckConstraint("propensity > 0 AND propensity <= 1"), nullable=False),
    Column("propensities", Text, nullable=False),
    Column("policy", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("difficulty", Double, nullable=False),
    Column("predicted_cost_s", Double),
    Column("seconds", Double, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("degraded", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("predicted_costs", Text),  # NULL in rows from before schema 2, whose features hold the same
    _digest(),
    sqlite_autoincrement=True,
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    _seq(),
    Column("decision_id", String, ForeignKey(DECISIONS.c.decision_id), nullable=False),
    Column("source", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("value", Double, CheckConstraint("value >= 0 AND value <= 1"), nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    UniqueConstraint("decision_id", "kind", "source"),
    sqlite_autoincrement=True,
)

TRACES = Table(
    "traces",
    METADATA,
    Column("trace_id", String, ForeignKey(DECISIONS.c.decision_id), primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    _digest(),
)

TRACE_SUMMARIES = Table(  # narrow: a list of many traces reads no document
    "trace_summaries",
    METADATA,
    _seq(),
    Column("trace_id", String, ForeignKey(DECISIONS.c.decision_id), nullable=False, unique=True),
    Column("created_at", String, nullable=False, index=True),
    Column("task_id", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("answered_by", String),
    Column("policy", String, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("difficulty", Double, nullable=False),
    Column("confidence", Double),
    Column("regret", Double, index=True),
    Column("n_degraded", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    _digest(),
    sqlite_autoincrement=True,
)

TRACE_PRUNINGS = Table(  # what may be deleted of the two above is what one of these rows says
    "trace_prunings",
    METADATA,
    _seq(),
    Column("upto_seq", BigInteger, nullable=False, index=True),  # of trace_summaries, inclusive
    Column("n_traces", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    sqlite_autoincrement=True,
)

CORRECTIONS = Table(
    "corrections",
    METADATA,
    _seq(),
    Column("outcome_seq", BigInteger, ForeignKey(OUTCOMES.c.seq), nullable=False),
    Column("revision", Integer, CheckConstraint("revision >= 1"), nullable=False),
    Column("value", Double, CheckConstraint("value >= 0 AND value <= 1"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    UniqueConstraint("outcome_seq", "revision"),
    sqlite_autoincrement=True,
)

REPEATS = Table(
    "repeats",
    METADATA,
    _seq(),
    Column("outcome_seq", BigInteger, ForeignKey(OUTCOMES.c.seq), nullable=False, index=True),
    Column("value", Double, CheckConstraint("value >= 0 AND value <= 1"), nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    sqlite_autoincrement=True,
)

POLICY_VERSIONS = Table(
    "policy_versions",
    METADATA,
    _seq(),
    Column("version_id", String, nullable=False, unique=True),
    Column("parent", String, ForeignKey("policy_versions.version_id")),
    Column("trained_to_seq", BigInteger),
    Column("metrics", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    sqlite_autoincrement=True,
)

POLICY_STATES = Table(
    "policy_states",
    METADATA,
    _seq(),
    Column("version_id", String, ForeignKey(POLICY_VERSIONS.c.version_id), nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    sqlite_autoincrement=True,
)

ALIAS_MOVES = Table(
    "alias_moves",
    METADATA,
    _seq(),
    Column("alias", String, nullable=False),
    Column("epoch", BigInteger, CheckConstraint("epoch >= 1"), nullable=False),
    Column("version_id", String, ForeignKey(POLICY_VERSIONS.c.version_id)),
    Column("reason", Text, nullable=False),
    Column("created_at", String, nullable=False),
    _digest(),
    UniqueConstraint("alias", "epoch"),
    sqlite_autoincrement=True,
)

APPEND_ONLY = tuple(table for table in METADATA.sorted_tables if table is not META)  # a table after those it refers to

PRUNABLE = (TRACES, TRACE_SUMMARIES)  # the oldest rows of these may be deleted

_JSON_COLUMNS = {"features", "propensities", "predicted_costs", "degraded"}  # of the tables of schema 1


def sealed(table: Table, columns: Mapping[str, object], *, task_id: str | None = None) -> dict[str, object]:
    """Return the columns of a new row with their digest, once they are such as every database gives back unchanged.

    Raises:
        RecordRefused: a value of another type than its column, a number that is not finite or too large, a text that
            is no UTF-8 or has a NUL in it, a time without its zone.
    """
    kept: dict[str, object] = {}
    kinds = _kinds(table)
    for name, value in columns.items():
        problem = _unfit(value, kinds[name]) or (_unfit_time(value) if name == "created_at" else None)
        if problem is not None:
            remedy = "Every value must be finite, of the type of its column and in its range."
            raise RecordRefused(name, problem, remedy=remedy, task_id=task_id)
        kept[name] = _as_given_back(value)
    return {**kept, "digest": digest_of(kept)}


@functools.cache
def _kinds(table: Table) -> dict[str, type]:
    return {column.name: column.type.python_type for column in table.columns}


def digest_of(columns: Mapping[str, object] | RowMapping) -> str:
    """Return the digest of a row's columns; `seq` and the digest itself do not count."""
    counted = {name: value for name, value in columns.items() if name not in ("seq", "digest")}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_whole(columns: Mapping[str, object] | RowMapping) -> bool:
    """Tell whether a row read back is as it was written; of rows from before schema 2, which carry nothing to tell it
    by, whether they can be read at all.
    """
    digest = columns["digest"]
    try:
        if digest is not None:
            return digest == digest_of(columns)
        digest_of(columns)
        for name in _JSON_COLUMNS & columns.keys():
            json.loads(str(columns[name] or "null"))
    except (TypeError, ValueError):  # bytes, or a number that is none
        return False
    return True


def whole(found: Row, name: str) -> Row:
    """Return a row read back.

    Raises:
        DamagedRow: it is not as it was written.
    """
    if not is_whole(found):
        raise DamagedRow(f"{name} is not as it was written")
    return found


def _as_given_back(value: object) -> object:
    """SQLite stores True as 1 and -0.0 as 0.0; what is digested has to be what will be read."""
    if isinstance(value, bool):
        return int(value)
    return value + 0.0 if isinstance(value, float) else value


def _unfit_time(value: object) -> str | None:
    try:
        zone = datetime.fromisoformat(str(value)).tzinfo
    except ValueError:
        return f"got {value!r}, which is no time in ISO 8601"
    return None if zone is not None else f"got {value!r}, a time without its zone"


def _unfit(value: object, kind: type) -> str | None:
    if value is not None and not isinstance(value, kind):
        return f"got {value!r}, which is no {kind.__name__}"
    if isinstance(value, str):
        if "\0" in value:
            return "got a text with a NUL in it"
        try:
            value.encode()  # a trace is long: character by character would take milliseconds
        except UnicodeEncodeError:
            return "got a text that is not UTF-8"
    elif isinstance(value, float) and not abs(value) < float("inf"):
        return f"got {value}"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "got a number that needs more than 64 bits"
    return None
