"""Requests to solve, from the moment they are taken to when their results are dropped. One thread, the event loop's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from icl_engine.task import Task
from router.serve.errors import KeyReused, UnknownJob

State = Literal["waiting", "running", "cancelling", "done", "cancelled"]
Event = tuple[str, dict[str, Any]]  # name, content
_EVENTS_WAITING = 1000  # of one listener; steps beyond that are not told, results always are
_EMPTY_JOB_BYTES = 3 * 2**10  # that a job takes beside its results, as measured


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with every task of a job."""

    tasks: tuple[Task, ...]
    arm: str | None = None
    seed: int | None = None
    deadline_s: float | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of it, but for the time it may take: whoever asks once more has less of that."""
        content = [[(task.id, task.fingerprint) for task in self.tasks], self.arm, self.seed]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(slots=True, eq=False)
class Job:
    """One request. Of one that is over and kept the tasks are gone, and the results are JSON, which takes least memory.

    Attributes:
        kept: its result is to be had by its id, after whoever asked has gone.
        handed_back: it was let go because the server stops; on disk it is as it was.
        may_go_otherwise: a task was not answered for a reason that may have gone when it is asked again; known once it
            is put away.
        n_tries: how often a server has begun with it after another had gone.
    """

    tenant: str
    asked: Asked
    kept: bool
    key: str | None = None  # for idempotency
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    deadline: float | None = None  # on the clock of time.monotonic
    results: dict[int, dict[str, Any]] = field(default_factory=dict)  # by place among the tasks
    packed: bytes | None = None  # the results of all tasks, in order, once it is over and kept
    known_digest: str | None = None  # of what was asked, where the tasks are gone
    may_go_otherwise: bool = False
    n_tries: int = 0
    is_uncounted: bool = False  # it was taken up, and the next try is not yet written down
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
        if self.unwanted.is_set() and not self.handed_back:
            return "cancelling"
        return "running" if self.is_begun else "waiting"

    @property
    def digest(self) -> str:
        """See `Asked.digest`."""
        return self.known_digest or self.asked.digest

    @property
    def n_bytes(self) -> int:
        """About what it takes in memory once it is put away."""
        return _EMPTY_JOB_BYTES + len(self.packed or b"")

    def put_away(self) -> None:
        """Keep no more of it than those can want who ask for it later; the first call counts."""
        if self.packed is not None:
            return
        problems = [result["problem"]["status"] for result in self.results.values() if "problem" in result]
        self.may_go_otherwise = any(status >= 500 or status == 429 for status in problems)
        self.known_digest = self.digest
        self.packed = json.dumps(self.ordered_results()).encode()
        self.asked, self.results = replace(self.asked, tasks=()), {}  # last: another thread may be writing it down

    def stays_undone(self, result: dict[str, Any]) -> None:
        """Say this of every task without a solution, of a job that was handed back and is done by nobody after all."""
        said = {place: each if "solution" in each else result for place, each in self.by_place().items()}
        if self.packed is None:
            self.results = said
        else:
            self.packed = json.dumps([each for _, each in sorted(said.items())]).encode()

    def as_json(self) -> dict[str, Any]:
        """Return what is told of it; see `JobReply`."""
        done = self.ordered_results()
        results = done if self.state in ("done", "cancelled") else None
        n_tasks = len(self.asked.tasks) if self.packed is None else len(done)
        return {"id": self.id, "state": self.state, "n_tasks": n_tasks, "n_done": len(done), "results": results}

    def by_place(self) -> dict[int, dict[str, Any]]:
        """Return what became of each task that is done."""
        results = self.results  # before `packed`, which is there before these go
        return dict(results) if self.packed is None else dict(enumerate(json.loads(self.packed)))

    def ordered_results(self) -> list[dict[str, Any]]:
        """Return what became of each task that is done, in the order of the tasks."""
        return [result for _, result in sorted(self.by_place().items())]

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
        for place, result in sorted(self.by_place().items()):
            listener.put_nowait(("result", {"task": place, **result}))
        if self.over.is_set():
            listener.put_nowait(("done", {"id": self.id, "state": self.state}))
        self.listeners.add(listener)
        return listener


@dataclass(slots=True)
class _Ended:
    """A tenant's jobs that are over, the oldest first, and what they take."""

    jobs: deque[Job] = field(default_factory=deque)
    n_bytes: int = 0

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        self.n_bytes += job.n_bytes

    def take_oldest(self) -> Job:
        job = self.jobs.popleft()
        self.n_bytes -= job.n_bytes
        return job


class Jobs:
    """All jobs that can be asked for: those that go on, and those that are over for not too long.

    Where these take too much memory the oldest goes of the tenant that keeps most, so nobody pushes out another's.

    Args:
        keep_s: how long results are kept.
        keep_bytes: of memory that those of all tenants may take.
        dropped: told of the id of each that is dropped.
    """

    def __init__(
        self,
        keep_s: float,
        keep_bytes: int,
        dropped: Callable[[str], None] = lambda job_id: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_s, self._keep_bytes, self._dropped, self._clock = keep_s, keep_bytes, dropped, clock
        self._by_id: dict[str, Job] = {}
        self._ended: defaultdict[str, _Ended] = defaultdict(_Ended)  # by tenant
        self._by_key: dict[tuple[str, str], Job] = {}

    def knows(self, tenant: str, key: str) -> bool:
        """Say whether there is a job that this key was used for."""
        self._prune()
        return (tenant, key) in self._by_key

    def same(self, tenant: str, key: str, asked: Asked) -> Job | None:
        """Return the job that this key was used for; None: there is none, or it is being cancelled.

        Raises:
            KeyReused: it was for something else.
        """
        self._prune()
        job = self._by_key.get((tenant, key))
        if job is None or job.unwanted.is_set():
            return None
        if job.digest != asked.digest:
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
            job.put_away()
            self._ended[job.tenant].add(job)
        if job.unwanted.is_set() or job.may_go_otherwise:
            self._forget_key(job)
        self._prune()

    def running(self) -> Sequence[Job]:
        """Return those that are not over."""
        return [job for job in self._by_id.values() if job.ended_at is None]

    def handed_back(self) -> Sequence[str]:
        """Return the ids of those that were promised, and let go because the server stops."""
        return [job.id for job in self._by_id.values() if job.kept and job.handed_back]

    def _prune(self) -> None:
        too_old = self._clock() - self._keep_s
        for ended in self._ended.values():
            while ended.jobs and (ended.jobs[0].ended_at or 0.0) <= too_old:
                self._drop(ended)
        while sum(ended.n_bytes for ended in self._ended.values()) > self._keep_bytes:
            self._drop(max(self._ended.values(), key=lambda ended: ended.n_bytes))

    def _drop(self, ended: _Ended) -> None:
        job = ended.take_oldest()
        del self._by_id[job.id]
        self._forget_key(job)
        if job.kept:
            self._dropped(job.id)

    def _forget_key(self, job: Job) -> None:
        if job.key is not None and self._by_key.get((job.tenant, job.key)) is job:
            del self._by_key[job.tenant, job.key]
