"""The executor that there is by default: one worker, in this process, called by whoever has something to be solved."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Generic

from ttt_engine.errors import ExecutorUnavailable
from ttt_engine.executors.executor import Asked, Batch, MakeWorker, Reach, Result, Worker

_LEAST_S = 1e-9  # left of a deadline that has passed: the worker answers in context


class InProcessExecutor(Generic[Asked, Result]):
    """An `Executor` without other processes."""

    reach: Reach = "process"
    fault: str | None = None

    def __init__(self, adapters_together: int = 64) -> None:
        self.adapters_together = adapters_together
        self._make: MakeWorker[Asked, Result] | None = None
        self._worker: Worker[Asked, Result] | None = None
        self._lock = threading.Lock()

    def start(self, make: MakeWorker[Asked, Result]) -> None:
        """Say how the worker is made; see `Executor`."""
        if self._make is not None:
            raise already_started()
        self._make = make

    def check(self) -> str:
        """Say that it is this process."""
        return "this process"

    def run(self, batches: Sequence[Batch[Asked]]) -> list[Sequence[Result]]:
        """Solve the batches one after another; see `Executor`."""
        worker = self._made()
        return [
            worker.run(batch.tasks, batch.asked, seconds_left(batch.deadline), batch.cancelled, batch.spent)
            for batch in batches
        ]

    def close(self) -> None:
        """End the worker; see `Executor`."""
        if self._worker is not None:
            self._worker.close()

    def _made(self) -> Worker[Asked, Result]:
        with self._lock:
            if self._worker is None:
                assert self._make is not None  # whoever runs batches has said how
                self._worker = self._make("here")
            return self._worker


def seconds_left(deadline: float | None) -> float | None:
    """Return the seconds until a deadline on the clock of `time.monotonic`, always above 0."""
    return None if deadline is None else max(_LEAST_S, deadline - time.monotonic())


def already_started() -> ExecutorUnavailable:
    """Return the error of an executor that serves somebody else."""
    return ExecutorUnavailable("this executor has workers of another router", remedy="Give each router its own.")
