"""What can go wrong in a policy or in the ledger. Every leaf hangs under `icl_engine.errors.FewShotError`."""

from __future__ import annotations

from collections.abc import Sequence

from icl_engine.errors import FewShotError


class ArmUnavailable(FewShotError):
    """A policy was asked for an arm that is not among the arms this task can be answered with."""

    def __init__(self, arm: str, available: Sequence[str], *, task_id: str | None = None) -> None:
        self.arm = arm
        self.available = tuple(str(name) for name in available)
        names = ", ".join(self.available) or "none"
        super().__init__(f"arm {str(arm)!r} is not available here. Available: {names}.", task_id=task_id)


class LedgerUnavailable(FewShotError):
    """The ledger cannot be opened, read or written; nothing was acknowledged (exit code 4)."""

    def __init__(self, location: str, problem: str, *, remedy: str, task_id: str | None = None) -> None:
        self.location = location
        self.remedy = remedy
        super().__init__(f"ledger {location}: {problem}. {remedy}", task_id=task_id)


class UnknownTrace(FewShotError):
    """The ledger holds no decision under this trace id."""

    def __init__(self, trace_id: str, location: str) -> None:
        self.trace_id = trace_id
        super().__init__(f"no trace {trace_id!r} in ledger {location}. Check the id and which ledger is in use.")


class RecordRefused(FewShotError):
    """A record the ledger will not hold, such as an outcome outside [0, 1]."""

    def __init__(self, field: str, got: str, *, remedy: str, task_id: str | None = None) -> None:
        self.field = field
        self.remedy = remedy
        super().__init__(f"{field}: {got}. {remedy}", task_id=task_id)


class DecisionConflict(FewShotError):
    """A decision id is in the ledger already, with other content; rows are never changed."""

    def __init__(self, decision_id: str, *, task_id: str | None = None) -> None:
        self.decision_id = decision_id
        super().__init__(
            f"decision {decision_id!r} is already recorded with other content. Record it under a new id.",
            task_id=task_id,
        )


class OutcomeConflict(FewShotError):
    """A source has already reported another value of this kind for this decision; rows are never changed."""

    def __init__(self, decision_id: str, *, source: str, kind: str, recorded: float, given: float) -> None:
        self.decision_id = decision_id
        self.source = source
        self.kind = kind
        self.recorded = recorded
        self.given = given
        super().__init__(
            f"decision {decision_id!r} already has {kind} = {recorded:g} from {source!r}, got {given:g}. "
            "Report a correction under another source."
        )
