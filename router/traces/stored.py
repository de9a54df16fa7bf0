"""A stored trace with all that belongs to it: its decision, what came of it, and other runs of the same task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from policies.errors import UnknownTrace
from policies.records import DecisionRow, EffectiveOutcome
from router.trace import SCHEMA_VERSION, Trace
from router.trace_errors import AmbiguousTrace, TraceNotKept, UnreadableTrace

if TYPE_CHECKING:
    from policies.ledger import Ledger

LAST = "last"  # stands for the newest trace
_FULL_ID = 32  # characters


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """What the ledger holds of one solve."""

    trace: Trace
    decision: DecisionRow
    outcomes: tuple[EffectiveOutcome, ...]  # oldest first

    @property
    def created_at(self) -> str:
        """UTC, ISO 8601."""
        return self.trace.created_at or self.decision.created_at or ""

    @property
    def quality(self) -> float | None:
        """The lowest of what the sources say today, in [0, 1]; None where nobody has said anything."""
        return min((outcome.value for outcome in self.outcomes), default=None)


def read_trace(ledger: Ledger, trace_id: str) -> StoredTrace:
    """Return a stored trace.

    Args:
        trace_id: the id, its first characters, or `last`.

    Raises:
        UnknownTrace: no id begins so.
        AmbiguousTrace: several do.
        TraceNotKept: the decision is there, its trace is not.
        UnreadableTrace: a later release wrote it.
        LedgerUnavailable: the ledger cannot be read.
    """
    trace_id = full_id(ledger, trace_id)
    decision = ledger.decision(trace_id)
    try:
        row = ledger.trace(trace_id)
    except UnknownTrace as error:
        raise TraceNotKept(trace_id, ledger.location) from error
    if row.schema_version > SCHEMA_VERSION:
        problem = f"it has schema version {row.schema_version}, this release reads up to {SCHEMA_VERSION}"
        raise UnreadableTrace(trace_id, problem)
    try:
        trace = Trace.read(row.document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
        raise UnreadableTrace(trace_id, problem) from error
    return StoredTrace(trace, decision, ledger.effective_outcomes(trace_id))


def full_id(ledger: Ledger, trace_id: str) -> str:
    """Return the id that `trace_id` stands for; see `read_trace`."""
    if trace_id == LAST:
        newest = ledger.traces.summaries(n=1)
        if not newest:
            raise UnknownTrace(LAST, ledger.location)
        return newest[0].trace_id
    if len(trace_id) >= _FULL_ID or not trace_id:
        return trace_id
    found = ledger.traces.ids_beginning(trace_id, n=3)
    if len(found) > 1 and trace_id not in found:
        raise AmbiguousTrace(trace_id, found)
    return found[0] if len(found) == 1 else trace_id
