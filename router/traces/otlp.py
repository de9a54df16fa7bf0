"""Spans in the two encodings of OTLP: JSON, for files, and protobuf, which every collector takes.

Written out here, for the handful of messages there are, so that an export needs no further library.

Source: OpenTelemetry protocol, trace/v1 and common/v1, JSON mapping (ids in hexadecimal, 64-bit integers as texts).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence

from router.traces.spans import SCHEMA_URL, SERVICE, AttributeValue, Span, SpanEvent

_VARINT, _FIXED64, _BYTES = 0, 1, 2  # wire types


def as_json(spans: Sequence[Span], *, version: str) -> str:
    """Return one TracesData as one line of JSON."""
    scope = {
        "scope": {"name": SERVICE, "version": version},
        "spans": [_span_json(span) for span in spans],
        "schemaUrl": SCHEMA_URL,
    }
    resource = {"attributes": _attributes_json(_resource(version))}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}, ensure_ascii=False)


def as_protobuf(spans: Sequence[Span], *, version: str) -> bytes:
    """Return one ExportTraceServiceRequest."""
    scope = _field(1, _text(1, SERVICE) + _text(2, version))
    scope += b"".join(_field(2, _span_bytes(span)) for span in spans) + _text(3, SCHEMA_URL)
    return _field(1, _field(1, _attributes_bytes(1, _resource(version))) + _field(2, scope))


def rejected(response: bytes) -> tuple[int, str]:
    """Read an ExportTraceServiceResponse in protobuf: how many spans were not taken, and why; (0, "") if all were."""
    partial = dict(_fields(response)).get(1, b"")
    if not isinstance(partial, bytes):
        return 0, ""
    found = dict(_fields(partial))
    n, why = found.get(1, 0), found.get(2, b"")
    return n if isinstance(n, int) else 0, why.decode(errors="replace") if isinstance(why, bytes) else ""


def _resource(version: str) -> dict[str, AttributeValue]:
    return {"service.name": SERVICE, "service.version": version}


def _span_json(span: Span) -> dict[str, object]:
    parent = {} if span.parent_id is None else {"parentSpanId": span.parent_id}
    status: dict[str, object] = {"code": span.status, **({"message": span.message} if span.message else {})}
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        **parent,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_unix_nano),
        "endTimeUnixNano": str(span.end_unix_nano),
        "attributes": _attributes_json(span.attributes),
        "events": [
            {
                "timeUnixNano": str(event.time_unix_nano),
                "name": event.name,
                "attributes": _attributes_json(event.attributes),
            }
            for event in span.events
        ],
        "status": status,
    }


def _attributes_json(attributes: Mapping[str, AttributeValue]) -> list[dict[str, object]]:
    return [{"key": name, "value": _value_json(value)} for name, value in attributes.items()]


def _value_json(value: AttributeValue) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value if math.isfinite(value) else _unbounded(value)}
        case str():
            return {"stringValue": value}
        case _:
            return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}


def _unbounded(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _span_bytes(span: Span) -> bytes:
    content = _field(1, bytes.fromhex(span.trace_id)) + _field(2, bytes.fromhex(span.span_id))
    if span.parent_id is not None:
        content += _field(4, bytes.fromhex(span.parent_id))
    content += _text(5, span.name) + _number(6, span.kind)
    content += _fixed64(7, span.start_unix_nano) + _fixed64(8, span.end_unix_nano)
    content += _attributes_bytes(9, span.attributes)
    content += b"".join(_field(11, _event_bytes(event)) for event in span.events)
    return content + _field(15, _text(2, span.message) + _number(3, span.status))


def _event_bytes(event: SpanEvent) -> bytes:
    return _fixed64(1, event.time_unix_nano) + _text(2, event.name) + _attributes_bytes(3, event.attributes)


def _attributes_bytes(number: int, attributes: Mapping[str, AttributeValue]) -> bytes:
    pairs = (_text(1, name) + _field(2, _value_bytes(value)) for name, value in attributes.items())
    return b"".join(_field(number, pair) for pair in pairs)


def _value_bytes(value: AttributeValue) -> bytes:
    match value:
        case bool():
            return _number(2, int(value))
        case int():
            return _number(3, value)
        case float():
            return _key(4, _FIXED64) + struct.pack("<d", value)
        case str():
            return _text(1, value)
        case _:
            return _field(5, b"".join(_field(1, _text(1, each)) for each in value))


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _field(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode(errors="replace"))


def _number(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value)


def _fixed64(number: int, value: int) -> bytes:
    return _key(number, _FIXED64) + struct.pack("<Q", max(value, 0))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is written as its two's complement
    groups = [value & 0x7F]
    while value := value >> 7:
        groups[-1] |= 0x80
        groups.append(value & 0x7F)
    return bytes(groups)


def _fields(message: bytes) -> Iterable[tuple[int, int | bytes]]:
    """Yield the fields of a message; what is cut off ends it."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _read_varint(message, at)
            case 1 | 5 as fixed:
                size = 8 if fixed == 1 else 4
                value, at = message[at : at + size], at + size
            case 2:
                size, at = _read_varint(message, at)
                value, at = message[at : at + size], at + size
            case _:
                return
        yield key >> 3, value


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            break
    return value, at
