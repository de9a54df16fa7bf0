"""Errors as `application/problem+json` (RFC 9457): a stable code, the field and what would do; no secret, no path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from router import errors as library
from router.serve import errors as own

MEDIA_TYPE = "application/problem+json"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # of every answer in JSON

_STATUS: tuple[tuple[type[Exception], int], ...] = (  # the first that fits
    (own.KeyRequired, 401),
    (own.RateExceeded, 429),
    (own.ComputeSpent, 429),
    (own.Overloaded, 503),
    (own.Stopping, 503),
    (own.JobNotKept, 503),
    (own.CancellationNotKept, 503),
    (own.UnknownJob, 404),
    (own.NoAdapter, 404),
    (own.KeyReused, 422),
    (own.JobGivenUp, 422),  # not 5xx, which would have it done anew under its key
    (library.TaskRefused, 422),
    (library.ArmUnavailable, 422),
    (library.SettingsError, 422),
    (library.RecordRefused, 422),
    (library.UnknownTrace, 404),
    (library.AmbiguousTrace, 404),
    (library.TraceNotKept, 404),
    (library.UnknownVersion, 404),
    (library.OutcomeConflict, 409),
    (library.DecisionConflict, 409),
    (library.Cancelled, 409),
    (library.AdapterRefused, 409),
    (library.DeadlinePassed, 504),
    (library.LedgerUnavailable, 503),
    (library.StoreUnavailable, 503),
    (library.ModelUnavailable, 503),
    (library.RemoteFailed, 503),
    (library.ExecutorUnavailable, 503),
    (library.OutOfMemory, 503),
)
_SAID: dict[type[Exception], str] = {  # in place of messages that name files or servers
    library.LedgerUnavailable: "the ledger cannot be read or written now. Ask again later.",
    library.StoreUnavailable: "the store of adapters cannot be reached now. Ask again later.",
    library.ModelUnavailable: "the model cannot be loaded. Whoever runs this server has to see to it.",
    library.RemoteFailed: "the model on another server did not answer. Ask again later.",
    library.ExecutorUnavailable: "there are no workers to solve it now. Ask again later.",
    library.UnknownTrace: "no such trace. Give the trace_id of one of your own solves, all 32 characters.",
    library.TraceNotKept: "the decision is recorded, its trace is not kept any more.",
}
_RETRY_AFTER_S = {503: 5.0, 429: 1.0}
_EXTRA = (
    "field", "remedy", "task_id", "retry_after_s", "arm", "available", "during",
    "decision_id", "trace_id", "source", "kind", "recorded", "given",
)  # fmt: skip


def problem_of(error: Exception, redact: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the document for an error; what nobody foresaw says nothing of itself.

    Returns:
        type, title, status, code, detail and, where known, field, remedy (which `detail` then leaves out), task_id,
        retry_after_s.
    """
    if not isinstance(error, library.FewShotError):
        return problem(500, "internal", "something went wrong in this server; its log says what")
    status = getattr(error, "status", None) or next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    detail = next((said for kind, said in _SAID.items() if isinstance(error, kind)), None) or redact(str(error))
    extra = {name: getattr(error, name, None) for name in _EXTRA}
    if isinstance(error, library.SettingsError):
        extra |= {"field": error.variable, "remedy": error.remedy}
    if isinstance(error, library.ArmUnavailable):
        extra["field"] = "arm"
    if detail != redact(str(error)):
        extra["remedy"] = None
    elif extra["remedy"]:
        extra["remedy"] = redact(extra["remedy"])
        detail = detail.removesuffix(extra["remedy"]).rstrip() or detail
    return problem(status, code_of(type(error)), detail, **{k: v for k, v in extra.items() if v not in (None, "")})


def problem(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """Return a document of one's own making."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    if status in _RETRY_AFTER_S:
        extra.setdefault("retry_after_s", _RETRY_AFTER_S[status])
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **extra}


def words_of(document: Mapping[str, Any]) -> str:
    """Return what a problem says to people: what was got, and what would do."""
    return f"{document['detail']} {document.get('remedy') or ''}".strip()


def code_of(kind: type[Exception]) -> str:
    """Return the name of an error as it stands in `code`: TaskRefused is task_refused."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def response_of(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that carries a problem."""
    sent = {**HEADERS, **(headers or {})}
    if "retry_after_s" in document:
        sent["Retry-After"] = str(max(1, math.ceil(document["retry_after_s"])))
    if document["status"] == 401:
        sent.setdefault("WWW-Authenticate", 'Bearer realm="ttt-router"')
    return Response(json.dumps(document), document["status"], sent, media_type=MEDIA_TYPE)
