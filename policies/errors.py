"""What can go wrong in a policy or in the ledger. Every leaf hangs under `icl_engine.errors.FewShotError`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from icl_engine.errors import FewShotError


class ArmUnavailable(FewShotError):
    """A policy was asked for an arm that is not among the arms this task can be answered with."""

    def __init__(self, arm: str, available: Sequence[str], *, task_id: str | None = None) -> None:
        self.arm = arm
        self.available = tuple(str(name) for name in available)
        names = ", ".join(self.available) or "none"
        close = difflib.get_close_matches(str(arm), self.available, n=1)
        remedy = (
            f"Did you mean {close[0]}?" if close else "TTT_ROUTER_ARMS adds others, where the task is of their kind."
        )
        super().__init__(f"arm {str(arm)!r} is not available here. Available: {names}. {remedy}", task_id=task_id)


class LedgerUnavailable(FewShotError):
    """The ledger cannot be opened, read or written; nothing was acknowledged (exit code 4)."""

    def __init__(self, location: str, problem: str, *, remedy: str, task_id: str | None = None) -> None:
        self.location = location
        self.remedy = remedy
        super().__init__(f"ledger {location}: {problem}. {remedy}", task_id=task_id)


class LedgerLocked(LedgerUnavailable):
    """Another writer held the ledger for longer than was waited; the same call may succeed later."""


class LedgerFull(LedgerUnavailable):
    """There is no room for the record; nothing of it was kept. Writing goes on by itself once there is room again."""


class LedgerCorrupt(LedgerUnavailable):
    """The ledger is damaged. It is left as it is, and nothing reads or writes it before it has been recovered."""


class LedgerTooNew(LedgerUnavailable):
    """A later release made this ledger; this one does not know what its rows mean."""


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

    remedy = "Where it was wrong, say it with the `reason` of the correction."

    def __init__(self, decision_id: str, *, source: str, kind: str, recorded: float, given: float) -> None:
        self.decision_id = decision_id
        self.source = source
        self.kind = kind
        self.recorded = recorded
        self.given = given
        super().__init__(
            f"decision {decision_id!r} already has {kind} = {recorded:g} from {source!r}, got {given:g}. "
            f"The first counts. {self.remedy}"
        )


class TooFewOutcomes(FewShotError):
    """Fewer outcomes are known than a policy is fitted on."""

    def __init__(self, known: int, *, needed: int, remedy: str) -> None:
        self.known = known
        self.needed = needed
        super().__init__(f"{known} decisions with known outcomes, {needed} are needed. {remedy}")


_MAKING = {  # how something comes to have this name
    "challenger": "`ttt-router policy train` makes one.",
    "champion": "`ttt-router policy promote` makes a version the champion.",
    "previous": "There has been no champion before.",
}


class UnknownVersion(FewShotError):
    """The ledger holds no policy version under this id or name."""

    def __init__(self, version_id: str, location: str) -> None:
        self.version_id = version_id
        remedy = _MAKING.get(version_id, "`ttt-router policy status` lists those that there are.")
        super().__init__(f"no policy version {version_id!r} in ledger {location}. {remedy}")


class PromotionLost(FewShotError):
    """An alias has moved since the caller looked at it: someone else promoted first, and nothing was changed."""

    def __init__(self, alias: str, *, expected_epoch: int, epoch: int) -> None:
        self.alias = alias
        self.expected_epoch = expected_epoch
        self.epoch = epoch
        super().__init__(
            f"{alias} is at epoch {epoch}, not {expected_epoch}: someone else was first. "
            "Compare with the new one, and promote again only if yours is better than that."
        )


class PolicyFileDamaged(FewShotError):
    """The file of a policy version is missing, or its bytes are not those that its name stands for."""

    def __init__(self, version_id: str, path: str, problem: str) -> None:
        self.version_id = version_id
        self.path = path
        super().__init__(
            f"policy {version_id[:12]} ({path}): {problem}. Keep the last good one, and restore the file from a copy "
            "or train it anew."
        )


class PolicySettingRefused(FewShotError):
    """A setting of a policy, or a price, budget or bound that it should keep, that cannot be used."""

    def __init__(self, field: str, problem: str, *, remedy: str) -> None:
        self.field = field
        self.remedy = remedy
        super().__init__(f"{field}: {problem}. {remedy}")


class BudgetUnreachable(FewShotError):
    """A budget below the least that a policy can spend at any price."""

    def __init__(self, budget: str, *, least: float) -> None:
        self.least = least
        super().__init__(
            f"budget {budget}: the least this policy spends is {least:g}. Explore less, or allow that much."
        )


class OutcomesRefused(FewShotError):
    """Outcomes that cannot be replayed: a column or a number that is missing or cannot be (exit code 3)."""

    def __init__(self, field: str, got: str, *, remedy: str) -> None:
        self.field = field
        self.got = got
        self.remedy = remedy
        super().__init__(f"{field}: {got}. {remedy}")
