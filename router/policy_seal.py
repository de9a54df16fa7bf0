"""The first line of a policy's file: for which base model and features it was made. For others it is not used."""

from __future__ import annotations

import json

_HEADER = b"ttt-router policy 1 "


def header_of(model_fingerprint: str | None, schema: str) -> bytes:
    """Return the line that says for which base model and features a policy was made."""
    return _HEADER + json.dumps({"features": schema, "model": model_fingerprint}, sort_keys=True).encode()


def sealed_for(content: bytes, model_fingerprint: str | None, schema: str) -> bytes:
    """Return a policy's content under a line that says for which base model and features it was made."""
    return header_of(model_fingerprint, schema) + b"\n" + content


def content_of(sealed: bytes) -> tuple[bytes, bytes]:
    """Return what `sealed_for` put before a policy's content, and the content."""
    header, _, content = sealed.partition(b"\n")
    return header, content
