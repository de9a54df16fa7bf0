"""The ledger's tables, append-only by trigger, and how a record becomes a row of them and back."""

from __future__ import annotations

import json

from sqlalchemy import (
    DDL,
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
    event,
)

from policies.records import DecisionRow, MeasuredCost, OutcomeRow, TraceRow

SCHEMA_VERSION = 1

METADATA = MetaData()

META = Table(
    "meta",
    METADATA,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # the order of record; clocks go back, this does not
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
    sqlite_autoincrement=True,
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("decision_id", String, ForeignKey(DECISIONS.c.decision_id), nullable=False),
    Column("source", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("value", Double, CheckConstraint("value >= 0 AND value <= 1"), nullable=False),
    Column("created_at", String, nullable=False),
    UniqueConstraint("decision_id", "kind", "source"),
    sqlite_autoincrement=True,
)

TRACES = Table(
    "traces",
    METADATA,
    Column("trace_id", String, ForeignKey(DECISIONS.c.decision_id), primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("document", Text, nullable=False),
)

for _table in (DECISIONS, OUTCOMES, TRACES):
    for _verb in ("UPDATE", "DELETE"):
        _refusal = DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its signature untyped
            f"CREATE TRIGGER {_table.name}_no_{_verb.lower()} BEFORE {_verb} ON {_table.name} "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        )
        event.listen(_table, "after_create", _refusal.execute_if(dialect="sqlite"))


def decision_columns(row: DecisionRow) -> dict[str, object]:
    return {
        "decision_id": row.decision_id,
        "created_at": row.created_at,
        "task_fingerprint": row.task_fingerprint,
        "task_id": row.task_id,
        "tenant": row.tenant,
        "features": row.features_json,
        "features_schema": row.features_schema,
        "arm": str(row.arm),
        "propensity": row.propensity,
        "propensities": json.dumps(row.propensities),
        "policy": row.policy,
        "reason": row.reason,
        "difficulty": row.difficulty,
        "predicted_cost_s": row.predicted_cost_s,
        "seconds": row.measured.seconds,
        "gpu_seconds": row.measured.gpu_seconds,
        "tokens": row.measured.tokens,
        "degraded": json.dumps(row.degraded),
        "seed": row.seed,
    }


def decision_row(found: RowMapping) -> DecisionRow:
    return DecisionRow(
        decision_id=found["decision_id"],
        task_fingerprint=found["task_fingerprint"],
        task_id=found["task_id"],
        tenant=found["tenant"],
        features_json=found["features"],
        features_schema=found["features_schema"],
        arm=found["arm"],
        propensity=found["propensity"],
        propensities=tuple((arm, p) for arm, p in json.loads(found["propensities"])),
        policy=found["policy"],
        reason=found["reason"],
        difficulty=found["difficulty"],
        predicted_cost_s=found["predicted_cost_s"],
        measured=MeasuredCost(found["seconds"], found["gpu_seconds"], found["tokens"]),
        degraded=tuple(json.loads(found["degraded"])),
        seed=found["seed"],
        created_at=found["created_at"],
    )


def outcome_columns(row: OutcomeRow) -> dict[str, object]:
    return {
        "decision_id": row.decision_id,
        "source": row.source,
        "kind": row.kind,
        "value": row.value,
        "created_at": row.created_at,
    }


def outcome_row(found: RowMapping) -> OutcomeRow:
    return OutcomeRow(found["decision_id"], found["source"], found["kind"], found["value"], found["created_at"])


def trace_columns(row: TraceRow) -> dict[str, object]:
    return {"trace_id": row.trace_id, "schema_version": row.schema_version, "document": row.document}
