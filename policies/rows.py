"""How a record becomes a row of the ledger's tables, and how a row, once it is seen to be whole, becomes a record."""

from __future__ import annotations

import json

from sqlalchemy import RowMapping

from policies.errors import RecordRefused
from policies.records import CorrectionRow, DecisionRow, MeasuredCost, OutcomeRow, TraceRow
from policies.tables import whole


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
        "propensity": float(row.propensity),
        "propensities": _pairs_json("propensities", row.propensities, row.task_id),
        "policy": row.policy,
        "reason": row.reason,
        "difficulty": float(row.difficulty),
        "predicted_cost_s": None if row.predicted_cost_s is None else float(row.predicted_cost_s),
        "seconds": float(row.measured.seconds),
        "gpu_seconds": float(row.measured.gpu_seconds),
        "tokens": row.measured.tokens,
        "degraded": json.dumps(row.degraded),
        "seed": row.seed,
        "predicted_costs": _pairs_json("predicted costs", row.predicted_costs_s, row.task_id),
    }


def decision_row(found: RowMapping) -> DecisionRow:
    whole(found, f"decision {found['decision_id']!r}")
    return DecisionRow(
        decision_id=found["decision_id"],
        task_fingerprint=found["task_fingerprint"],
        task_id=found["task_id"],
        tenant=found["tenant"],
        features_json=found["features"],
        features_schema=found["features_schema"],
        arm=found["arm"],
        propensity=found["propensity"],
        propensities=_pairs(found["propensities"]),
        policy=found["policy"],
        reason=found["reason"],
        difficulty=found["difficulty"],
        predicted_cost_s=found["predicted_cost_s"],
        measured=MeasuredCost(found["seconds"], found["gpu_seconds"], found["tokens"]),
        degraded=tuple(json.loads(found["degraded"])),
        seed=found["seed"],
        created_at=found["created_at"],
        predicted_costs_s=_predicted_costs(found),
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
    whole(found, f"an outcome of decision {found['decision_id']!r}")
    return OutcomeRow(found["decision_id"], found["source"], found["kind"], found["value"], found["created_at"])


def correction_row(outcome: OutcomeRow, found: RowMapping) -> CorrectionRow:
    whole(found, f"a correction of decision {outcome.decision_id!r}")
    return CorrectionRow(
        decision_id=outcome.decision_id,
        source=outcome.source,
        kind=outcome.kind,
        revision=found["revision"],
        value=found["value"],
        reason=found["reason"],
        created_at=found["created_at"],
    )


def trace_columns(row: TraceRow) -> dict[str, object]:
    return {"trace_id": row.trace_id, "schema_version": row.schema_version, "document": row.document}


def trace_row(found: RowMapping) -> TraceRow:
    whole(found, f"trace {found['trace_id']!r}")
    return TraceRow(found["trace_id"], found["schema_version"], found["document"])


def _predicted_costs(found: RowMapping) -> tuple[tuple[str, float], ...]:
    if found["predicted_costs"] is not None:
        return _pairs(found["predicted_costs"])
    features = json.loads(found["features"])
    return tuple((arm, seconds) for arm, seconds in features.get("predicted_cost_s", ()))


def _pairs_json(name: str, pairs: tuple[tuple[str, float], ...], task_id: str) -> str:
    try:
        return json.dumps(pairs, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordRefused(name, str(error), remedy="Every number must be finite.", task_id=task_id) from error


def _pairs(text: str) -> tuple[tuple[str, float], ...]:
    return tuple((arm, number) for arm, number in json.loads(text))
