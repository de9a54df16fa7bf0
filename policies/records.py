"""What the ledger takes and gives: frozen rows, and nothing of how they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
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
    predicted_costs_s: tuple[tuple[str, float], ...] = ()  # (arm, seconds) of every arm a prediction was made for

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
            predicted_costs_s=features.predicted_cost_s,
        )


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What came of a decision, as one source reports it; one value per decision, kind and source."""

    decision_id: str
    source: str  # who says so, e.g. "solution", "user"
    kind: str  # what is judged, e.g. "exact", "reward"; with a colon something beside the answer, e.g. "exact:icl"
    value: float  # in [0, 1]
    created_at: str | None = None  # UTC, ISO 8601; the ledger fills in None when it records

    @property
    def judges_the_answer(self) -> bool:
        """Whether it is about the answer that was given."""
        return ":" not in self.kind


@dataclass(frozen=True, slots=True)
class CorrectionRow:
    """A source takes back what it said of a decision and says something else; the outcome itself stays as it was."""

    decision_id: str
    source: str
    kind: str
    revision: int  # 1 for the first correction of this outcome, 2 for the next
    value: float  # in [0, 1]
    reason: str
    created_at: str


@dataclass(frozen=True, slots=True)
class EffectiveOutcome:
    """One outcome with all that has been said of it since."""

    reported: OutcomeRow
    corrections: tuple[CorrectionRow, ...]  # oldest first
    n_repeats: int  # how often the same source reported again, with the same value or another; the first counts
    seq: int  # number of the report, in the order of record

    @property
    def value(self) -> float:
        """The latest correction, or what was reported where there is none."""
        return self.corrections[-1].value if self.corrections else self.reported.value


@dataclass(frozen=True, slots=True)
class TraceRow:
    """The trace of one solve: a JSON document, opaque to the ledger."""

    trace_id: str
    schema_version: int
    document: str


class PolicyState(StrEnum):
    """How far a policy version has come."""

    CANDIDATE = "candidate"
    SHADOW = "shadow"  # decides beside the champion, and is not followed
    CANARY = "canary"  # decides a part of the tasks
    CHAMPION = "champion"
    RETIRED = "retired"  # was champion
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One trained policy: a file that never changes, and where it came from."""

    version_id: str  # SHA-256 of the file's bytes, in hex; also its name
    parent: str | None  # the version it was trained from
    trained_to_seq: int | None  # the last decision it has seen, by the ledger's order
    metrics: Mapping[str, float]
    size_bytes: int
    state: PolicyState
    created_at: str


@dataclass(frozen=True, slots=True)
class Alias:
    """Where `champion`, `challenger` or `previous` points; each move is one epoch."""

    name: str
    version_id: str | None  # None: it points nowhere
    epoch: int  # 0: it was never set


@dataclass(frozen=True, slots=True)
class StateChange:
    """One state of a policy version, and why it came to it."""

    state: PolicyState
    reason: str
    created_at: str


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias, and why."""

    version_id: str | None
    epoch: int
    reason: str
    created_at: str
