"""What the ledger takes and gives: frozen rows, and nothing of how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from policies.features import SCHEMA_HASH

if TYPE_CHECKING:
    from policies.decision import Decision
    from policies.features import Features


@dataclass(frozen=True, slots=True)
class MeasuredCost:
    """What answering cost, as measured."""

    seconds: float
    gpu_seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision as the ledger holds it; `decision_id` is the trace id."""

    decision_id: str
    task_fingerprint: str
    task_id: str
    tenant: str
    features_json: str
    features_schema: str  # SCHEMA_HASH of the features when they were written
    arm: str
    propensity: float
    propensities: tuple[tuple[str, float], ...]
    policy: str  # name@version
    reason: str
    difficulty: float
    predicted_cost_s: float | None  # of the arm taken; None: no prediction was made
    measured: MeasuredCost
    degraded: tuple[str, ...]
    seed: int
    created_at: str | None = None  # UTC, ISO 8601; the ledger fills in None when it records

    @classmethod
    def of(
        cls,
        decision: Decision,
        features: Features,
        *,
        decision_id: str,
        task_fingerprint: str,
        task_id: str,
        measured: MeasuredCost,
        seed: int,
        tenant: str = "default",
        degraded: tuple[str, ...] = (),
    ) -> Self:
        """Put together the row of one decision from the records it came from."""
        return cls(
            decision_id=decision_id,
            task_fingerprint=task_fingerprint,
            task_id=task_id,
            tenant=tenant,
            features_json=features.as_json(),
            features_schema=SCHEMA_HASH,
            arm=decision.arm,
            propensity=decision.propensity,
            propensities=decision.propensities,
            policy=decision.policy,
            reason=decision.reason,
            difficulty=decision.difficulty,
            predicted_cost_s=dict(features.predicted_cost_s).get(decision.arm),
            measured=measured,
            degraded=degraded,
            seed=seed,
        )


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What came of a decision, as one source reports it; one value per decision, kind and source."""

    decision_id: str
    source: str  # who says so, e.g. "solution", "user"
    kind: str  # what is judged, e.g. "correct", "correct_first", "reward"
    value: float  # in [0, 1]
    created_at: str | None = None  # UTC, ISO 8601; the ledger fills in None when it records


@dataclass(frozen=True, slots=True)
class TraceRow:
    """The trace of one solve: a JSON document, opaque to the ledger."""

    trace_id: str
    schema_version: int
    document: str
