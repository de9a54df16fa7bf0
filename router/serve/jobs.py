"""Requests to solve, from the moment they are taken to when their results are dropped. One thread, the event loop's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from icl_engine.task import Task
from router.serve.errors import KeyReused, UnknownJob

State = Literal["waiting", "running", "done", "cancelled"]
Event = tuple[str, dict[str, Any]]  # name, content
_EVENTS_WAITING = 1000  # of one listener; steps beyond that are not told, results always are
_KEPT_AT_MOST = 2_000  # jobs that are over


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with every task of a job."""

    tasks: tuple[Task, ...]
    arm: str | None = None
    seed: int | None = None
    deadline_s: float | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all of it."""
        content = [[(task.id, task.fingerprint) for task in self.tasks], self.arm, self.seed, self.deadline_s]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(slots=True, eq=False)
class Job:
    """One request.

    Attributes:
        kept: its result is to be had by its id, after whoever asked has gone.
        handed_back: it was let go because the server stops; on disk it is as it was.
    """

    tenant: str
    asked: Asked
    kept: bool
    key: str | None = None  # for idempotency
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    deadline: float | None = None  # on the clock of time.monotonic
    results: dict[int, dict[str, Any]] = field(default_factory=dict)  # by place among the tasks
    handed_back: bool = False
    promise: asyncio.Future[None] | None = None  # on its way to disk, or there
    is_begun: bool = False  # set by a worker
    n_waiting_for: int = 0  # requests that wait for it now
    ended_at: float | None = None
    unwanted: threading.Event = field(default_factory=threading.Event)  # read by the workers
    over: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: set[asyncio.Queue[Event]] = field(default_factory=set)
    first_listener: asyncio.Queue[Event] | None = None  # there before the work begins, so that it misses nothing

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.handed_back and self.kept:
            return "waiting"  # for the next start
        if self.over.is_set():
            return "cancelled" if self.unwanted.is_set() else "done"
        return "running" if self.is_begun else "waiting"

    @property
    def may_go_otherwise(self) -> bool:
        """Whether a task was not answered for a reason that may have gone when it is asked again."""
        problems = [result["problem"]["status"] for result in self.results.values() if "problem" in result]
        return any(status >= 500 or status == 429 for status in problems)

    def as_json(self) -> dict[str, Any]:
        """Return what is told of it; see `JobReply`."""
        results = self.ordered_results() if self.state in ("done", "cancelled") else None
        n_tasks = len(self.asked.tasks)
        return {
            "id": self.id,
            "state": self.state,
            "n_tasks": n_tasks,
            "n_done": len(self.results),
            "results": results,
        }

    def ordered_results(self) -> list[dict[str, Any]]:
        """Return what became of each task, of all that are done."""
        return [self.results[place] for place in sorted(self.results)]

    def tell(self, name: str, content: dict[str, Any]) -> None:
        """Let everybody know who listens."""
        for listener in self.listeners:
            if name != "step" or listener.qsize() < _EVENTS_WAITING:
                listener.put_nowait((name, content))

    def listener(self) -> asyncio.Queue[Event]:
        """Return the queue of whoever has asked for this job and hears nothing yet, or a new one."""
        first, self.first_listener = self.first_listener, None
        return first or self.listen()

    def listen(self) -> asyncio.Queue[Event]:
        """Return a queue of what happens from now on, and of the results so far."""
        listener: asyncio.Queue[Event] = asyncio.Queue()
        for place, result in sorted(self.results.items()):
            listener.put_nowait(("result", {"task": place, **result}))
        if self.over.is_set():
            listener.put_nowait(("done", {"id": self.id, "state": self.state}))
        self.listeners.add(listener)
        return listener


class Jobs:
    """All jobs that can be asked for: those that go on, and those that are over for not too long.

    Args:
        keep_s: how long results are kept.
        dropped: told of the id of each that is dropped.
    """

    def __init__(
        self,
        keep_s: float,
        dropped: Callable[[str], None] = lambda job_id: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_s, self._dropped, self._clock = keep_s, dropped, clock
        self._by_id: dict[str, Job] = {}
        self._ended: OrderedDict[str, Job] = OrderedDict()  # the oldest first
        self._by_key: dict[tuple[str, str], Job] = {}

    def same(self, tenant: str, key: str, asked: Asked) -> Job | None:
        """Return the job that this key was used for; None: there is none, or it is being cancelled.

        Raises:
            KeyReused: it was for something else.
        """
        self._prune()
        job = self._by_key.get((tenant, key))
        if job is None or job.unwanted.is_set():
            return None
        if job.asked.digest != asked.digest:
            raise KeyReused
        return job

    def add(self, job: Job) -> None:
        """Take in a job that can be asked for."""
        self._prune()
        self._by_id[job.id] = job
        if job.key is not None:
            self._by_key[job.tenant, job.key] = job

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a tenant's job.

        Raises:
            UnknownJob: it has none of this id.
        """
        self._prune()
        job = self._by_id.get(job_id)
        if job is None or job.tenant != tenant:
            raise UnknownJob(job_id)
        return job

    def remove(self, job: Job) -> None:
        """Take back a job that could not be taken in."""
        self._by_id.pop(job.id, None)
        self._forget_key(job)

    def over(self, job: Job) -> None:
        """Note that a job is over; what was cancelled, or may go otherwise, does not answer for its key any more."""
        job.ended_at = self._clock()
        if job.id in self._by_id:
            self._ended[job.id] = job
        if job.unwanted.is_set() or job.may_go_otherwise:
            self._forget_key(job)

    def running(self) -> Sequence[Job]:
        """Return those that are not over."""
        return [job for job in self._by_id.values() if job.ended_at is None]

    def _prune(self) -> None:
        while self._ended:
            job = next(iter(self._ended.values()))
            assert job.ended_at is not None
            if len(self._ended) <= _KEPT_AT_MOST and self._clock() - job.ended_at < self._keep_s:
                return
            del self._ended[job.id], self._by_id[job.id]
            self._forget_key(job)
            if job.kept:
                self._dropped(job.id)

    def _forget_key(self, job: Job) -> None:
        if job.key is not None and self._by_key.get((job.tenant, job.key)) is job:
            del self._by_key[job.tenant, job.key]
