"""A trace as OpenTelemetry spans: one tree under the conventions' names, the same in JSON and in protobuf."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.records import OutcomeRow
from router.traces import as_json, as_protobuf, read_trace, spans_of, why
from router.traces.otlp import _fields, _varint, rejected
from router.traces.spans import Span, SpanEvent
from tests.router.traces.fakes import ADAPTER, GROUNDS, keep

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans(ledger: Ledger) -> tuple[Span, ...]:
    keep(ledger, TRACE_ID, policy=AlwaysArm("ttt"), adapter=ADAPTER, grounds=GROUNDS)
    ledger.add_outcome(OutcomeRow(TRACE_ID, "user", "exact", 1.0))
    ledger.correct_outcome(TRACE_ID, source="user", kind="exact", value=0.0, reason="misread")
    return spans_of(read_trace(ledger, TRACE_ID))


def named(spans: tuple[Span, ...], name: str) -> Span:
    (found,) = (span for span in spans if span.name == name)
    return found


def test_the_root_is_a_workflow_and_every_other_span_is_below_it(spans: tuple[Span, ...]) -> None:
    root, *others = spans

    assert (root.name, root.parent_id, root.trace_id) == ("invoke_workflow solve", None, TRACE_ID)
    assert {span.parent_id for span in others} == {root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    assert [span.name for span in spans] == [
        "invoke_workflow solve", "admit", "chat icl", "lookup", "route_decision", "ttt.adapt", "chat ttt", "verify",
        "gen_ai.evaluation.result",
    ]  # fmt: skip
    assert all(span.attributes["openinference.span.kind"] for span in spans)


def test_the_steps_follow_each_other_within_the_root(spans: tuple[Span, ...]) -> None:
    root, *steps = spans[:-1]

    assert steps[0].start_unix_nano == root.start_unix_nano
    assert all(one.end_unix_nano == other.start_unix_nano for one, other in pairwise(steps))
    assert steps[-1].end_unix_nano <= root.end_unix_nano
    assert root.end_unix_nano == 1_767_355_200 * 10**9


def test_the_decision_carries_why(spans: tuple[Span, ...], ledger: Ledger) -> None:
    attributes = named(spans, "route_decision").attributes

    assert attributes["router.arm"] == attributes["feature_flag.result.variant"] == "ttt"
    assert attributes["router.policy"] == "always_ttt@1"
    assert attributes["router.scores.ttt"] == 0.8
    assert attributes["router.margin"] == pytest.approx(0.7 - 0.39375)
    assert attributes["router.cost_est.icl"] == 0.5
    assert json.loads(str(attributes["router.features"]))["n_held_out"] == 3
    said = str(spans[0].attributes["router.why"]).split("\n")
    assert said == [sentence.text for sentence in why(read_trace(ledger, TRACE_ID))]


def test_what_was_trained_is_told_at_its_span(spans: tuple[Span, ...]) -> None:
    attributes = named(spans, "ttt.adapt").attributes

    assert (attributes["ttt.steps"], attributes["ttt.loss.last"], attributes["ttt.cache_hit"]) == (2, 0.5, False)


def test_feedback_is_an_evaluation_with_its_last_correction(spans: tuple[Span, ...]) -> None:
    span = named(spans, "gen_ai.evaluation.result")
    (event,) = span.events

    assert event.name == "gen_ai.evaluation.result"
    assert event.attributes["gen_ai.evaluation.score.value"] == 0.0
    assert event.attributes["gen_ai.evaluation.score.label"] == "wrong"
    assert event.attributes["gen_ai.evaluation.explanation"] == "misread"
    assert event.attributes["gen_ai.response.id"] == TRACE_ID
    assert event.attributes.items() <= span.attributes.items()
    assert spans[0].attributes["annotations.0.annotation.score"] == 0.0


def test_exported_again_it_has_the_same_ids(spans: tuple[Span, ...], ledger: Ledger) -> None:
    assert spans_of(read_trace(ledger, TRACE_ID)) == spans


def test_without_content_nothing_of_the_task_leaves(ledger: Ledger, spans: tuple[Span, ...]) -> None:
    bare = spans_of(read_trace(ledger, TRACE_ID), content=False)

    assert any("output.value" in span.attributes for span in spans)
    assert [name for span in bare for name in span.attributes if name in ("input.value", "output.value")] == []


def test_an_id_that_is_no_trace_id_becomes_one(ledger: Ledger) -> None:
    keep(ledger, "trace-1")
    (root, *_) = spans_of(read_trace(ledger, "trace-1"))

    assert len(bytes.fromhex(root.trace_id)) == 16
    assert root.attributes["router.trace.id"] == "trace-1"


def decoded_value(value: dict[str, Any]) -> object:
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "arrayValue":
        return tuple(each["stringValue"] for each in content["values"])
    return content


def test_the_json_is_what_the_mapping_asks_for(spans: tuple[Span, ...]) -> None:
    line = as_json(spans, version="1.0")
    (resource,) = json.loads(line)["resourceSpans"]
    (scope,) = resource["scopeSpans"]

    assert "\n" not in line
    assert {"key": "service.name", "value": {"stringValue": "ttt-router"}} in resource["resource"]["attributes"]
    for span, written in zip(spans, scope["spans"], strict=True):
        assert (written["traceId"], written["spanId"]) == (span.trace_id, span.span_id)
        assert written.get("parentSpanId") == span.parent_id
        assert int(written["startTimeUnixNano"]) == span.start_unix_nano
        assert {each["key"]: decoded_value(each["value"]) for each in written["attributes"]} == span.attributes


ATTRIBUTES = st.dictionaries(
    st.text(max_size=5),
    st.text(max_size=9)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.lists(st.text(max_size=3)).map(tuple),
    max_size=4,
)


@given(ATTRIBUTES, st.integers(0, 2**63))
def test_the_protobuf_is_read_by_the_official_library_as_it_was_written(attributes: dict[str, Any], at: int) -> None:
    official = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    event = SpanEvent("happened", at, attributes)
    span = Span(TRACE_ID, "ab" * 8, "cd" * 8, "name", 3, at, at + 1, attributes, (event,), 2, "why")
    read = official.ExportTraceServiceRequest.FromString(as_protobuf([span], version="1"))

    written = read.resource_spans[0].scope_spans[0].spans[0]
    assert (written.trace_id.hex(), written.span_id.hex(), written.parent_span_id.hex()) == (
        TRACE_ID,
        "ab" * 8,
        "cd" * 8,
    )
    assert (written.name, written.kind, written.start_time_unix_nano, written.end_time_unix_nano) == (
        "name",
        3,
        at,
        at + 1,
    )
    assert (written.status.code, written.status.message, written.events[0].name) == (2, "why", "happened")
    for given_one, each in zip(attributes.items(), written.attributes, strict=True):
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        if kind == "array_value":
            value = tuple(inner.string_value for inner in value.values)
        same = value == given_one[1] or (isinstance(value, float) and math.isnan(value) and math.isnan(given_one[1]))
        assert each.key == given_one[0]
        assert same


@given(st.integers(0, 2**64 - 1))
def test_numbers_of_any_size_are_written_and_read(number: int) -> None:
    assert dict(_fields(b"\x08" + _varint(number))) == {1: number}


def test_a_partial_success_is_read() -> None:
    why_not = b"too old"
    partial = b"\x08\x03" + b"\x12" + bytes([len(why_not)]) + why_not

    assert rejected(b"\x0a" + bytes([len(partial)]) + partial) == (3, "too old")
    assert rejected(b"") == (0, "")
    assert rejected(b"\x0a\x05\x08") == (0, "")
