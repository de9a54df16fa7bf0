"""Traces written beside the answers: a bounded queue, and one thread that empties it into the ledger.

The decision itself is committed before the answer is given, as ever; only its trace comes here. It waits a moment for
others, because a commit of its own would be in the way of the next decision's. Nothing that was taken is lost at a
clean close. A full queue and a failed write cost the trace, are counted, and are said with the next solve.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_engine.errors import FewShotError
from policies.records import DecisionRow, TraceRow

if TYPE_CHECKING:
    from policies.trace_log import TraceEntry, TraceLog
    from router.redaction import Redactor
    from router.trace import DecisionGrounds, Trace

_AT_ONCE = 16  # traces in one transaction: the next decision waits for it
_GATHER_S = 0.2  # that a trace waits for others to be written with it, unless somebody waits for it
_PRUNE_AFTER_S = 3600.0
_PRUNE_AFTER_SHARE = 0.01  # of the bytes that are allowed, written: to look takes longer the more there are
_IDLE_S = 5.0  # after which the thread ends; the next trace starts another


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept."""

    max_age_s: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class WriterCounts:
    """What has become of the traces so far."""

    n_written: int
    n_refused: int  # the queue was full
    n_failed: int  # the ledger did not take them
    n_waiting: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    decision: DecisionRow
    trace: Trace | Callable[[], Trace]
    grounds: Callable[[], DecisionGrounds] | None


class TraceWriter:
    """Takes traces at once and writes them later. Safe between threads, and in a child after a fork.

    Args:
        log: where to, such as `ledger.traces`.
        retention: pruned to at the start and now and then; None: everything stays.
        max_waiting: traces in the queue at most.
        redact: applied to what is told of faults.
    """

    def __init__(
        self,
        log: TraceLog,
        *,
        retention: Retention | None = None,
        max_waiting: int = 256,
        redact: Redactor | None = None,
    ) -> None:
        self._log = log
        self._retention = retention
        self._max_waiting = max_waiting
        self._redact: Callable[[str], str] = redact or (lambda text: text)
        self._unpruned_bytes, self._pruned_at = 0, -math.inf  # so that the first writing prunes
        self._unsaid: tuple[str, ...] = ()
        self._thread: threading.Thread | None = None
        self._reset()
        atexit.register(_close_at_exit, weakref.ref(self))  # the default router is never closed by anybody

    def put(
        self,
        decision: DecisionRow,
        trace: Trace | Callable[[], Trace],
        grounds: Callable[[], DecisionGrounds] | None = None,
    ) -> tuple[str, ...]:
        """Take a trace, without waiting; return what there is to say: that it was not taken, that earlier ones failed.

        Args:
            decision: as the ledger has recorded it.
            trace: or what makes it when it is written.
            grounds: says on what it rests; asked when it is written, because explaining may take longer than deciding.
        """
        with self._own():
            said, self._unsaid = self._unsaid, ()
            if len(self._waiting) >= self._max_waiting:
                self._n_refused += 1
                return (*said, f"trace not kept: {self._max_waiting} others wait to be written")
            self._closed = False
            self._waiting.append(_Waiting(decision, trace, grounds))
            waits = self._started()
            if len(self._waiting) == 1 or self._are_enough:
                self._changed.notify_all()
            return (*said, *waits)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was taken by now is written, or failed to be; return whether it is."""
        end = time.monotonic() + timeout_s
        with self._own():
            if self._waiting and self._started():
                return False
            n_taken = self._n_written + self._n_failed + self._n_writing + len(self._waiting)
            self._n_flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(
                    lambda: self._n_written + self._n_failed >= n_taken, end - time.monotonic()
                )
            finally:
                self._n_flushing -= 1

    def close(self, timeout_s: float = 30.0) -> bool:
        """Write what waits and end the thread; return whether all was written. What is put later starts it again."""
        flushed = self.flush(timeout_s)
        with self._own():
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s if flushed else 0.0)
        return flushed and not self._n_failed

    @property
    def counts(self) -> WriterCounts:
        """What has become of the traces so far."""
        with self._own():
            waiting = len(self._waiting) + self._n_writing
            return WriterCounts(self._n_written, self._n_refused, self._n_failed, waiting)

    def _own(self) -> threading.Condition:
        if os.getpid() != self._pid:  # a fork: what is waiting is the parent's, and so is whoever holds the lock
            self._reset()
        return self._changed

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._n_writing = self._n_written = self._n_refused = self._n_failed = self._n_flushing = 0
        self._unsaid = ()
        self._closed = False
        self._thread = None

    def _started(self) -> tuple[str, ...]:
        """See to it that somebody writes; return what there is to say where nobody can: who comes next tries again."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="ttt-router traces", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # of a machine with too many threads
                return (f"a trace waits to be written: {error}",)
            self._thread = thread
        return ()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._closed:
                    self._changed.wait(_IDLE_S)
                if not self._waiting:
                    self._thread = None  # under the lock: whoever puts the next one starts another
                    return
                self._changed.wait_for(lambda: self._closed or self._n_flushing or self._are_enough, _GATHER_S)
                taken = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                self._n_writing = len(taken)
            n_written, faults = self._write(taken)
            self._prune()
            with self._changed:
                self._n_writing = 0
                self._n_written += n_written
                self._n_failed += len(taken) - n_written
                self._unsaid = tuple(dict.fromkeys((*self._unsaid, *faults)))
                self._changed.notify_all()

    @property
    def _are_enough(self) -> bool:
        return len(self._waiting) >= min(_AT_ONCE, self._max_waiting)

    def _write(self, taken: list[_Waiting]) -> tuple[int, list[str]]:
        """Write all at once, or one by one where that fails: one that is refused must not cost the others."""
        try:
            self._log.add([self._entry(each) for each in taken])
            return len(taken), []
        except Exception as error:  # a thread that dies would lose what comes after, too
            if len(taken) == 1:
                said = str(error) if isinstance(error, FewShotError) else f"{type(error).__name__}: {error}"
                return 0, [self._redact(f"an earlier trace was not kept: {said}")]
        written = [self._write([each]) for each in taken]
        return sum(n for n, _ in written), [fault for _, faults in written for fault in faults]

    def _entry(self, waiting: _Waiting) -> TraceEntry:
        from policies.trace_log import TraceEntry

        made = waiting.trace() if callable(waiting.trace) else waiting.trace
        trace = made.redacted(self._redact)
        if waiting.grounds is not None:
            try:
                trace = trace.with_grounds(waiting.grounds())
            except Exception as error:  # a policy may be anybody's code; the rest of the trace is no worse for it
                self._say(f"the grounds of a decision are not known: {type(error).__name__}: {error}")
        row = TraceRow(trace.trace_id, trace.schema_version, trace.model_dump_json())
        self._unpruned_bytes += len(row.document)
        return TraceEntry(waiting.decision, row, trace.facts())

    def _say(self, what: str) -> None:
        with self._changed:
            self._unsaid = tuple(dict.fromkeys((*self._unsaid, self._redact(what))))

    def _prune(self) -> None:
        kept, now = self._retention, time.monotonic()
        if kept is None or (
            self._unpruned_bytes < _PRUNE_AFTER_SHARE * kept.max_bytes and now - self._pruned_at < _PRUNE_AFTER_S
        ):
            return
        self._unpruned_bytes, self._pruned_at = 0, now
        try:
            self._log.prune(max_age_s=kept.max_age_s, max_bytes=kept.max_bytes)
        except Exception as error:  # what is too much is pruned another time
            self._say(f"old traces were not pruned: {error}")


def _close_at_exit(writer: weakref.ref[TraceWriter]) -> None:
    if (still_there := writer()) is not None:
        still_there.close()
