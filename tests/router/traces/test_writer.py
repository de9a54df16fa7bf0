"""Traces are taken at once and written later: none is lost at a clean close, and whatever is lost is said."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policies.errors import LedgerUnavailable, RecordRefused
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.records import DecisionRow
from policies.trace_log import Pruning, TraceEntry, TraceLog
from router.redaction import Redactor
from router.trace import Trace
from router.traces import Retention, TraceWriter
from router.traces import writer as writer_module
from tests.router.traces.fakes import GROUNDS, decided, row_of, trace_of


class Gated:
    """Stands before a log of traces: lets nothing through before `gate` is set, and fails as it is told to."""

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.refused = ""
        self.batches: list[int] = []

    def add(self, entries: Sequence[TraceEntry]) -> None:
        self.gate.wait(30)
        if self.fault is not None:
            raise self.fault
        if any(entry.trace.trace_id == self.refused for entry in entries):
            raise RecordRefused("document", "got a NUL", remedy="Leave it out.")
        self.log.add(entries)
        self.batches.append(len(entries))

    def prune(self, *, max_age_s: float, max_bytes: int) -> Pruning:
        if self.fault is not None:
            raise self.fault
        return self.log.prune(max_age_s=max_age_s, max_bytes=max_bytes)


@pytest.fixture
def gated(ledger: Ledger) -> Iterator[Gated]:
    gated = Gated(ledger.traces)
    yield gated
    gated.gate.set()


def solved(ledger: Ledger, name: str, *, degraded: tuple[str, ...] = ()) -> tuple[DecisionRow, Trace]:
    decision = decided(LooThreshold())
    return ledger.record_decision(row_of(decision, name)), trace_of(decision, name, degraded=degraded)


def writer_of(log: object, **more: object) -> TraceWriter:
    return TraceWriter(log, **more)  # type: ignore[arg-type]


def test_what_was_taken_is_written_at_a_clean_close(ledger: Ledger) -> None:
    writer = writer_of(ledger.traces)
    traces = [solved(ledger, f"trace-{i}") for i in range(50)]
    for row, trace in traces:
        assert writer.put(row, trace) == ()

    assert writer.close()

    kept = [ledger.trace(trace.trace_id).document for _, trace in traces]
    assert kept == [trace.model_dump_json() for _, trace in traces]
    assert (writer.counts.n_written, writer.counts.n_waiting) == (50, 0)


def test_taking_a_trace_does_not_wait_for_the_ledger(ledger: Ledger, gated: Gated) -> None:
    gated.gate.clear()
    writer = writer_of(gated)

    for i in range(3):
        assert writer.put(*solved(ledger, f"trace-{i}")) == ()

    assert ledger.traces.count() == 0
    assert writer.counts.n_waiting == 3
    assert not writer.flush(timeout_s=0.01)
    gated.gate.set()
    assert writer.flush()
    assert ledger.traces.count() == 3


def test_a_flush_does_not_wait_for_what_comes_after_it(ledger: Ledger) -> None:
    begun, go = threading.Semaphore(0), threading.Semaphore(0)

    class OneByOne:
        def add(self, entries: Sequence[TraceEntry]) -> None:
            begun.release()
            assert go.acquire(timeout=10)
            ledger.traces.add(entries)

    writer = writer_of(OneByOne())
    writer.put(*solved(ledger, "first"))
    assert begun.acquire(timeout=10)
    waits, wait = threading.Event(), writer._changed.wait

    def noted(timeout: float | None = None) -> bool:
        waits.set()
        return wait(timeout)

    writer._changed.wait = noted  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(writer.flush, 10)
        assert waits.wait(10)
        writer.put(*solved(ledger, "later"))
        go.release()

        assert flushed.result(10)
    assert not writer.flush(0.01)
    go.release()
    assert writer.close()


def test_a_full_queue_refuses_and_says_so_and_keeps_what_it_has(ledger: Ledger, gated: Gated) -> None:
    gated.gate.clear()
    writer = writer_of(gated, max_waiting=2)
    said: list[str] = []
    for i in range(6):
        said += writer.put(*solved(ledger, f"trace-{i}"))
    gated.gate.set()
    writer.close()

    refused = writer.counts.n_refused
    assert said == ["trace not kept: 2 others wait to be written"] * refused
    assert refused >= 2  # as many as may wait may have been under way already
    assert ledger.traces.count() == writer.counts.n_written == 6 - refused


def test_a_failed_write_is_counted_and_said_with_the_next(ledger: Ledger, gated: Gated) -> None:
    gated.fault = LedgerUnavailable("here", "disk full", remedy="Free some space.")
    writer = writer_of(gated)
    writer.put(*solved(ledger, "trace-0"))
    writer.flush()
    gated.fault = None

    said = writer.put(*solved(ledger, "trace-1"))

    assert said == ("an earlier trace was not kept: ledger here: disk full. Free some space.",)
    assert not writer.close()
    assert (writer.counts.n_failed, writer.counts.n_written) == (1, 1)
    assert writer.put(*solved(ledger, "trace-2")) == ()
    writer.close()
    assert ledger.traces.count() == 2


def test_one_that_is_refused_does_not_cost_the_others(ledger: Ledger, gated: Gated) -> None:
    gated.gate.clear()
    gated.refused = "trace-3"
    writer = writer_of(gated)
    for i in range(6):
        writer.put(*solved(ledger, f"trace-{i}"))
    gated.gate.set()
    writer.close()

    assert (writer.counts.n_written, writer.counts.n_failed) == (5, 1)


def test_what_has_piled_up_is_written_together(ledger: Ledger, gated: Gated) -> None:
    gated.gate.clear()
    writer = writer_of(gated)
    for i in range(9):
        writer.put(*solved(ledger, f"trace-{i}"))
    gated.gate.set()
    writer.close()

    assert sum(gated.batches) == 9
    assert len(gated.batches) <= 2


def test_traces_that_come_one_after_another_are_written_together(ledger: Ledger, gated: Gated) -> None:
    writer = writer_of(gated)
    for i in range(9):
        writer.put(*solved(ledger, f"trace-{i}"))
    writer.flush()

    assert sum(gated.batches) == 9
    assert len(gated.batches) < 9


def test_whoever_wants_to_read_does_not_wait_for_more_to_come(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_GATHER_S", 60.0)
    writer = writer_of(ledger.traces)
    writer.put(*solved(ledger, "trace-0"))

    assert writer.flush(timeout_s=10)
    assert ledger.traces.count() == 1


def test_a_trace_is_made_when_it_is_written_and_one_that_cannot_be_costs_only_itself(ledger: Ledger) -> None:
    def broken() -> Trace:
        raise ValueError("no such field")

    writer = writer_of(ledger.traces)
    made, broken_one = solved(ledger, "trace-0"), solved(ledger, "trace-1")
    writer.put(made[0], lambda: made[1])
    writer.put(broken_one[0], broken)
    writer.flush()

    assert ledger.trace("trace-0").document == made[1].model_dump_json()
    assert writer.put(*solved(ledger, "trace-2")) == ("an earlier trace was not kept: ValueError: no such field",)


def test_where_no_thread_can_be_started_it_is_said_and_the_next_trace_takes_the_first_along(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer = writer_of(ledger.traces)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", too_many)
        said = writer.put(*solved(ledger, "trace-0"))
        flushed = writer.flush(timeout_s=10)
    after = writer.put(*solved(ledger, "trace-1"))

    assert said == ("a trace waits to be written: can't start new thread",)
    assert not flushed
    assert after == ()
    assert writer.close()
    assert ledger.traces.count() == 2


def test_a_writer_that_was_closed_starts_again(ledger: Ledger) -> None:
    writer = writer_of(ledger.traces)
    assert writer.close()
    writer.put(*solved(ledger, "trace-0"))
    assert writer.close()

    assert ledger.traces.count() == 1


def test_it_prunes_to_what_may_stay(ledger: Ledger, gated: Gated) -> None:
    writer = writer_of(gated, retention=Retention(max_age_s=10**9, max_bytes=1))
    writer.put(*solved(ledger, "trace-0"))
    writer.close()

    assert ledger.traces.count() == 0
    assert ledger.decision("trace-0").decision_id == "trace-0"


def test_what_is_told_of_faults_is_redacted_before_it_is_kept(ledger: Ledger) -> None:
    writer = writer_of(ledger.traces, redact=Redactor(("hunter22",)))
    writer.put(*solved(ledger, "trace-0", degraded=("store redis://me:pw@host is away (hunter22)",)))
    writer.close()

    document = ledger.trace("trace-0").document
    assert Trace.read(document).degraded == ("store redis://…@host is away (…)",)
    assert "hunter22" not in document


def test_grounds_are_asked_for_when_the_trace_is_written_and_cost_only_themselves_where_they_fail(
    ledger: Ledger,
) -> None:
    writer = writer_of(ledger.traces)
    writer.put(*solved(ledger, "trace-0"), lambda: GROUNDS)
    writer.put(*solved(ledger, "trace-1"), lambda: GROUNDS.model_copy(update={"price": 1 / 0}))
    writer.flush()

    said = writer.put(*solved(ledger, "trace-2"))

    assert Trace.read(ledger.trace("trace-0").document).decision.contributions == GROUNDS.contributions
    assert Trace.read(ledger.trace("trace-1").document).decision.estimates == {}
    assert said == ("the grounds of a decision are not known: ZeroDivisionError: division by zero",)
    writer.close()


def _in_a_child(writer: TraceWriter, row: DecisionRow, trace: Trace) -> None:
    writer.put(row, trace)
    writer.close()


def test_a_child_writes_its_own_and_not_what_its_parent_has_waiting(
    ledger: Ledger, gated: Gated, tmp_path: Path
) -> None:
    gated.gate.clear()
    writer = writer_of(ledger.traces)
    waiting = writer_of(gated)
    waiting.put(*solved(ledger, "trace-parent"))
    child = multiprocessing.get_context("fork").Process(
        target=_in_a_child, args=(writer, *solved(ledger, "trace-child"))
    )
    child.start()
    child.join(60)

    assert child.exitcode == 0
    assert ledger.traces.ids_beginning("trace-") == ("trace-child",)
    gated.gate.set()
    assert waiting.close()
    assert ledger.traces.count() == 2
