"""What runs on the cluster: an actor that has one worker, and tells of what that returns, raises and does."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import ray

from icl_engine.task import Task
from ttt_engine.executors.executor import Done, MakeWorker

_OVER_KNOWN = 1_000  # jobs, the last ones: a word to stop may come after the end


def start_actor(cpus: float, gpus: float, at_once: int) -> Any:
    """Ask for an actor. It is not restarted by Ray: who comes after it has to know that it died.

    Args:
        at_once: batches that it may have.
    """
    kind = ray.remote(Actor).options(
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=at_once + 1,  # and something to be stopped
        scheduling_strategy="SPREAD",
    )
    return kind.remote()


class Actor:
    """Its methods are called side by side."""

    def __init__(self) -> None:
        self._unwanted: dict[str, threading.Event] = {}  # by job
        self._over: deque[str] = deque(maxlen=_OVER_KNOWN)
        self._lock = threading.Lock()

    def begin(self, make: MakeWorker[Any, Any], name: str) -> Exception | None:
        """Make the worker, and return what that raises."""
        try:
            self._worker = make(name)
        except Exception as error:
            return error
        return None

    def run(
        self, job: str, tasks: Sequence[Task], asked: object, deadline_s: float | None, dead: Sequence[str]
    ) -> Done:
        """Have a batch solved by the worker, which learns before who is dead."""
        with self._lock:
            unwanted = self._unwanted.setdefault(job, threading.Event())
        spent_s: list[float] = []
        try:
            for worker in dead:
                self._worker.bury(worker)
            results = self._worker.run(tasks, asked, deadline_s, unwanted.is_set, spent_s.append)
            return Done(results, spent_s=sum(spent_s))
        except Exception as error:
            return Done(error=error, spent_s=sum(spent_s))
        finally:
            with self._lock:
                del self._unwanted[job]
                self._over.append(job)

    def stop(self, job: str) -> None:
        """Let the worker know that nobody wants a batch any more. May come before the batch, or after its end."""
        with self._lock:
            if job not in self._over:
                self._unwanted.setdefault(job, threading.Event()).set()
