"""Every error that is raised on purpose, in one place, and the exit code that the command gives for each.

    FewShotError                    root of all
    ├── TaskRefused                 a task or a file that cannot be used; names the field (3)
    │   ├── TooFewDemonstrations    fewer than the step at hand needs
    │   ├── TaskTooLarge            beyond the limits that are set
    │   ├── UnreadableTaskFile      no task can be read from it
    │   └── ContextOverflow         a prompt longer than the model's context
    ├── OutOfMemory                 memory that does not hold one pass over one prompt (1)
    ├── ModelUnavailable            a language model that cannot be loaded (4)
    ├── RemoteFailed                a language model on a server that did not answer; the one here does instead (4)
    ├── Cancelled                   whoever asked does not want it any more (1)
    ├── DeadlinePassed              time ran out before there was any answer (1)
    ├── TrainingFailed              test-time training that came to nothing; `solve` answers in context instead (1)
    ├── AdapterRefused              an adapter that does not belong here or is damaged (1)
    │   └── AdapterRejected         a stored one that is not what was signed; `solve` trains it anew instead (1)
    ├── StoreUnavailable            the store of adapters cannot be reached (4)
    │   └── StoreMisconfigured      it never will be, as it is set up (4)
    ├── ExecutorUnavailable         no workers to solve tasks, or none that survive it (4)
    ├── ArmFailed                   an added arm whose answer is none; `solve` answers in context instead (1)
    ├── ArmUnavailable              an arm that this task cannot be answered with (2)
    ├── PolicySettingRefused        a price, budget, bound or other setting of a policy that cannot be used (2)
    ├── BudgetUnreachable           a budget below what a policy spends at any price (2)
    ├── RecordRefused               a record that the ledger will not hold (1)
    ├── DecisionConflict            a decision id that is recorded with other content (1)
    ├── OutcomeConflict             another value was reported already by the same source (1)
    ├── OutcomesRefused             outcomes that cannot be replayed; names the column (3)
    ├── TooFewOutcomes              fewer known outcomes than a policy is fitted on (1)
    ├── UnknownTrace                no decision under this trace id (2)
    ├── UnknownVersion              no policy version under this id (2)
    ├── PromotionLost               someone else promoted a policy first (1)
    ├── PolicyFileDamaged           a policy whose file is missing or is not what it was (1)
    ├── LedgerUnavailable           the ledger cannot be opened, read or written (4)
    │   ├── LedgerLocked            another writer holds it
    │   ├── LedgerFull              there is no room for a record
    │   ├── LedgerCorrupt           it is damaged, and left alone until it is recovered
    │   └── LedgerTooNew            a later release made it
    ├── PlotsUnavailable            nothing to draw the plots of a report with (1)
    ├── CheckpointMismatch          a pretraining run that would go on from another recipe's checkpoint (2)
    ├── AmbiguousTrace              several ids begin with what was given (2)
    ├── TraceNotKept                a decision whose trace was pruned, or never written (1)
    ├── UnreadableTrace             a trace of a later release, or a document that is none (1)
    ├── UnknownPolicy               no policy of this name and version can be made here (2)
    ├── PushFailed                  a collector did not take the traces (4)
    └── SettingsError               a setting that cannot be used; names the variable (2)

What the HTTP service refuses by itself is in `router.serve.errors`, what its client raises beside in `router.client`.
`CheckpointMismatch` stays in `icl_engine.embedded.pretraining`, which loads torch; the others are here.
"""

from __future__ import annotations

from icl_engine.errors import (
    ContextOverflow,
    FewShotError,
    ModelUnavailable,
    OutOfMemory,
    RemoteFailed,
    TaskRefused,
    TaskTooLarge,
    TooFewDemonstrations,
    UnreadableTaskFile,
)
from policies.errors import (
    ArmUnavailable,
    BudgetUnreachable,
    DecisionConflict,
    LedgerCorrupt,
    LedgerFull,
    LedgerLocked,
    LedgerTooNew,
    LedgerUnavailable,
    OutcomeConflict,
    OutcomesRefused,
    PolicyFileDamaged,
    PolicySettingRefused,
    PromotionLost,
    RecordRefused,
    TooFewOutcomes,
    UnknownTrace,
    UnknownVersion,
)
from router.added_arms import ArmFailed
from router.bench.errors import PlotsUnavailable
from router.settings import SettingsError
from router.trace_errors import AmbiguousTrace, PushFailed, TraceNotKept, UnknownPolicy, UnreadableTrace
from ttt_engine.errors import (
    AdapterRefused,
    AdapterRejected,
    Cancelled,
    DeadlinePassed,
    ExecutorUnavailable,
    StoreMisconfigured,
    StoreUnavailable,
    TrainingFailed,
)

__all__ = [
    "AdapterRefused",
    "AdapterRejected",
    "AmbiguousTrace",
    "ArmFailed",
    "ArmUnavailable",
    "BudgetUnreachable",
    "Cancelled",
    "ContextOverflow",
    "DeadlinePassed",
    "DecisionConflict",
    "ExecutorUnavailable",
    "FewShotError",
    "LedgerCorrupt",
    "LedgerFull",
    "LedgerLocked",
    "LedgerTooNew",
    "LedgerUnavailable",
    "ModelUnavailable",
    "OutOfMemory",
    "OutcomeConflict",
    "OutcomesRefused",
    "PlotsUnavailable",
    "PolicyFileDamaged",
    "PolicySettingRefused",
    "PromotionLost",
    "PushFailed",
    "RecordRefused",
    "RemoteFailed",
    "SettingsError",
    "StoreMisconfigured",
    "StoreUnavailable",
    "TaskRefused",
    "TaskTooLarge",
    "TooFewDemonstrations",
    "TooFewOutcomes",
    "TraceNotKept",
    "TrainingFailed",
    "UnknownPolicy",
    "UnknownTrace",
    "UnknownVersion",
    "UnreadableTaskFile",
    "UnreadableTrace",
    "exit_code",
]

FAILED, USAGE, REFUSED, DOWN = 1, 2, 3, 4

_DOWN = (ModelUnavailable, RemoteFailed, StoreUnavailable, ExecutorUnavailable, LedgerUnavailable, PushFailed)
_USAGE = (
    "SettingsError",
    "AmbiguousTrace",
    "ArmUnavailable",
    "BudgetUnreachable",
    "CheckpointMismatch",
    "PolicySettingRefused",
    "UnknownPolicy",
    "UnknownTrace",
    "UnknownVersion",
)


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error: 1 failed, 2 usage, 3 task refused, 4 a dependency is down."""
    if isinstance(error, TaskRefused | OutcomesRefused):
        return REFUSED
    if isinstance(error, _DOWN):
        return DOWN
    # by name, because the class of CheckpointMismatch comes with torch
    return USAGE if any(kind.__name__ in _USAGE for kind in type(error).__mro__) else FAILED
