"""What the routes read of the ledger, as it is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from policies.decision import policy_id
from router.serve import messages as wire
from router.traces.stored import read_trace
from router.traces.why import why

if TYPE_CHECKING:
    from policies.ledger import Ledger
    from policies.trace_log import TraceFilter
    from router.serve.service import Service


def traces_json(ledger: Ledger, wanted: TraceFilter, n: int, before: int | None) -> dict[str, Any]:
    """Return a page of traces; see `TracesReply`."""
    found = ledger.traces.summaries(replace(wanted, before=before), n=n + 1)
    lines = [{name: getattr(each, name) for name in wire.SummaryReply.model_fields} for each in found[:n]]
    return {"traces": lines, "next": found[n - 1].seq if len(found) > n else None}


def trace_json(ledger: Ledger, trace_id: str) -> dict[str, Any]:
    """Return a trace with all that belongs to it; see `TraceReply`.

    Raises:
        UnknownTrace, TraceNotKept, UnreadableTrace: as for `read_trace`.
    """
    stored = read_trace(ledger, trace_id)
    outcomes = [
        {
            "source": each.reported.source,
            "kind": each.reported.kind,
            "value": each.value,
            "created_at": each.reported.created_at,
        }
        for each in stored.outcomes
    ]
    said = [each.text for each in why(stored)]
    return {"trace": stored.trace.model_dump(mode="json"), "outcomes": outcomes, "why": said}


def policy_json(service: Service) -> dict[str, Any]:
    """Return who decides and which versions there are; see `PolicyReply`."""
    versions = service.ledger.policy_versions
    listed = [(version.version_id, versions.history(version.version_id)[-1]) for version in versions.all()]
    return {
        "deciding": policy_id(service.tenants.policy),
        "learning": service.settings.learning,
        **{name: versions.alias(name).version_id for name in ("champion", "challenger", "previous")},
        "versions": [
            {"version": version, "state": str(last.state), "at": last.created_at, "reason": last.reason}
            for version, last in listed
        ],
    }
