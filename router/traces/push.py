"""Traces sent to a collector, over OTLP/HTTP: MLflow, Phoenix, Langfuse, Jaeger, or anybody's.

The only module here that opens a connection, and only to where it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from router.redaction import Redactor
from router.trace_errors import PushFailed
from router.traces.otlp import as_json, as_protobuf, rejected
from router.traces.spans import Span

Encoding = Literal["protobuf", "json"]

SIGNAL_PATH = "/v1/traces"
_TYPES = {"protobuf": "application/x-protobuf", "json": "application/json"}
_SHOWN = 200  # characters of what a collector says


def push(
    solves: Iterable[Sequence[Span]],
    endpoint: str,
    *,
    version: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    encoding: Encoding = "protobuf",
    timeout_s: float = 10.0,
) -> int:
    """Send the spans of some solves, a request for each; return how many solves were taken.

    Args:
        endpoint: URL of the collector; without a path, `/v1/traces` is added.
        headers: such as `authorization`; their values appear in no error.

    Raises:
        PushFailed: it cannot be reached, or did not take all; those before it were taken.
    """
    url = endpoint_url(endpoint)
    n = 0
    for spans in solves:
        _post(url, spans, version=version, headers=headers, encoding=encoding, timeout_s=timeout_s)
        n += 1
    return n


def endpoint_url(endpoint: str) -> str:
    """Return the URL that spans are sent to.

    Raises:
        PushFailed: it is no HTTP URL.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        remedy = "Give an HTTP URL, such as http://localhost:4318."
        raise PushFailed(Redactor()(endpoint), "is no HTTP URL", remedy=remedy)
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + SIGNAL_PATH


def _post(
    url: str,
    spans: Sequence[Span],
    *,
    version: str,
    headers: Mapping[str, str],
    encoding: Encoding,
    timeout_s: float,
) -> None:
    import http.client  # here: every solve imports what is beside this, and none of them pushes
    import urllib.error
    import urllib.request

    shown = Redactor()(url)
    body = as_protobuf(spans, version=version) if encoding == "protobuf" else as_json(spans, version=version).encode()
    request = urllib.request.Request(url, body, {**headers, "Content-Type": _TYPES[encoding]}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer = response.read()
            is_protobuf = response.headers.get_content_type() == _TYPES["protobuf"]
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(_SHOWN).decode(errors="replace")
        remedy = "See that the path is that of OTLP traces, and which headers it wants (--header)."
        raise PushFailed(shown, f"answered {error.code}: {_one_line(said) or error.reason}", remedy=remedy) from error
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        problem = _one_line(str(getattr(error, "reason", error)))
        raise PushFailed(shown, f"cannot be reached ({problem})", remedy="See that it runs, and the URL.") from error
    n_rejected, why = rejected(answer) if is_protobuf else (0, "")
    if n_rejected:
        remedy = "See in its log which attribute it does not take."
        raise PushFailed(shown, f"did not take {n_rejected} of {len(spans)} spans: {_one_line(why)}", remedy=remedy)


def _one_line(text: str) -> str:
    return Redactor()(" ".join(text.split())[:_SHOWN])
