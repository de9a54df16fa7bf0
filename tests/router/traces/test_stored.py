"""A stored trace is found by its id, its beginning or as the last one; what cannot be read is said."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policies.errors import UnknownTrace
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.records import TraceRow
from policies.trace_log import TraceEntry
from router.settings import SettingsError
from router.trace_errors import AmbiguousTrace, TraceNotKept, UnreadableTrace
from router.traces import read_trace
from router.traces.moments import moment
from tests.router.traces.fakes import decided, keep, row_of

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def test_a_trace_is_found_by_what_stands_for_it(ledger: Ledger) -> None:
    for name in ("abc1", "abc2", "abcd" * 8):
        keep(ledger, name)

    assert [read_trace(ledger, name).trace.trace_id[:4] for name in ("abc1", "abcd", "last", "abcd" * 8)] == [
        "abc1", "abcd", "abcd", "abcd",
    ]  # fmt: skip
    with pytest.raises(AmbiguousTrace, match="Give more characters"):
        read_trace(ledger, "abc")
    for name in ("x", "", "%"):
        with pytest.raises(UnknownTrace):
            read_trace(ledger, name)


def test_of_an_empty_ledger_there_is_no_last_trace(ledger: Ledger) -> None:
    with pytest.raises(UnknownTrace):
        read_trace(ledger, "last")


def test_a_decision_without_its_trace_is_told_from_none_at_all(ledger: Ledger) -> None:
    ledger.record_decision(row_of(decided(LooThreshold()), "f" * 32))

    with pytest.raises(TraceNotKept, match="TTT_ROUTER_TRACE_DAYS"):
        read_trace(ledger, "f" * 32)


@pytest.mark.parametrize(
    ("version", "document", "said"), [(3, "{}", "schema version 3"), (2, "{}", "Field required"), (2, "[", "JSON")]
)
def test_a_document_that_cannot_be_read_says_why(ledger: Ledger, version: int, document: str, said: str) -> None:
    row = ledger.record_decision(row_of(decided(LooThreshold()), "trace-1"))
    ledger.traces.add([TraceEntry(row, TraceRow("trace-1", version, document))])

    with pytest.raises(UnreadableTrace, match=said):
        read_trace(ledger, "trace-1")


def test_its_time_is_that_of_its_decision_where_it_has_none(ledger: Ledger) -> None:
    trace = keep(ledger, "trace-1")
    stored = read_trace(ledger, "trace-1")

    assert stored.created_at == trace.created_at
    old = stored.trace.model_copy(update={"created_at": None})
    assert type(stored)(old, stored.decision, ()).created_at == stored.decision.created_at


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000000+00:00"),
        ("2026-01-31T12:30+02:00", "2026-01-31T10:30:00.000000+00:00"),
        ("90m", "2026-01-02T10:30:00.000000+00:00"),
        ("1w", "2025-12-26T12:00:00.000000+00:00"),
    ],
)
def test_times_are_given_as_people_do(given: str, meant: str) -> None:
    assert moment(given, NOON, option="--since") == meant


@pytest.mark.parametrize("given", ["", "yesterday", "7 apples", "99999999999w"])
def test_what_is_no_time_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="--since"):
        moment(given, NOON, option="--since")
