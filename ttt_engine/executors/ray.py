"""The executor on a Ray cluster: one actor a GPU, or a share of the CPUs, each with a worker that holds the base model.

A thread here looks after the cluster: it connects, and again where the connection is lost, and asks for more actors
while batches wait; Ray's autoscaler sees that, and starts nodes for them. A thread for each actor keeps it at work with
what `Waiting` gives. Those who wait for results call nothing of Ray, so that a cluster that hangs keeps nobody. When
actor or node dies its batches go back to the front of the queue, and whoever takes one learns who died, so that what
the dead one was training is not waited for. Idle actors are ended, and the autoscaler stops their nodes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic
from urllib.parse import urlsplit

# else a call after the connection is gone makes one of its own, to whatever cluster was here last, and the process ends
# where that is not there any more; read as Ray is imported
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray
from ray.exceptions import RayActorError

from icl_engine.task import Task
from ttt_engine.errors import Cancelled, DeadlinePassed, ExecutorUnavailable
from ttt_engine.executors.executor import Asked, Batch, MakeWorker, Reach, Result, never
from ttt_engine.executors.in_process import already_started, seconds_left
from ttt_engine.executors.waiting import Hand, Job, Waiting

_LOOK_S = 0.2  # how often one who waits looks whether it is still needed
_LOOK_AT_CLUSTER_S = 10.0  # how often it is looked whether the cluster is there, where nothing else asks
_REACHED_WITHIN_S = 5.0  # a port of a cluster elsewhere
_CHECKED_WITHIN_S = 120.0  # Ray tries for a while to connect
_LATE_S = 10.0  # after its deadline that a batch is waited for: the worker ends its step and answers in context
_LET_GO_S = 5.0  # at the end, for what workers are doing
_DEAD_KNOWN = 64  # leases of those before have run out
_OBJECT_BYTES = 100 * 2**20  # tasks and answers are small
_LOST = (RayActorError, ConnectionError)  # the worker, or the way to it


class RayExecutor(Generic[Asked, Result]):
    """An `Executor` on Ray. Connects with the first batch, or to be checked.

    Whoever reaches a Ray cluster can run code on it: keep its ports to those who may, and set `RAY_AUTH_MODE=token`.

    Args:
        address: `local` (a cluster of this machine alone, without dashboard, ended with the executor), `auto` (that
            which this machine is a node of) or `ray://host:port`. Where Ray is connected already, that is used.
        gpus: of one worker; None: one where the cluster has any, else none.
        cpus: of one worker, and the threads that it computes with.
        workers: at most; None: as many as the cluster has room for when work comes in. Give it where the cluster grows.
        adapters: trained together at most, by one worker.
        retries: of a batch whose worker died.
        start_within_s: seconds that a batch waits for the first worker to be there; a new node may take minutes.
        idle_s: seconds after which a worker without work is ended, and with it the claim to its node.
    """

    def __init__(
        self,
        address: str = "local",
        *,
        gpus: float | None = None,
        cpus: float = 1.0,
        workers: int | None = None,
        adapters: int = 16,
        retries: int = 2,
        start_within_s: float = 600.0,
        idle_s: float = 300.0,
    ) -> None:
        self.reach: Reach = "machine" if address == "local" else "cluster"
        self.adapters_together = adapters
        self._address = address
        self._gpus = gpus
        self._cpus = cpus
        self._most_workers = workers
        self._retries = retries
        self._start_within_s = start_within_s
        self._idle_s = idle_s
        self._make: MakeWorker[Asked, Result] | None = None
        self._changed = threading.Condition()  # guards all below
        self._waiting = Waiting[Asked, Result](adapters)
        self._hands: dict[str, Hand[Asked, Result]] = {}  # by worker, those included that are still to come
        self._threads: set[threading.Thread] = set()
        self._dead: tuple[str, ...] = ()  # workers, the last ones
        self._n_failed_starts = 0  # in a row
        self._to_look = False  # after the cluster, at once
        self._n_looks = 0
        self._found: Mapping[str, float] = {}  # what the cluster has
        self._fault: ExecutorUnavailable | None = None  # of the last look
        self._looks_after = self._ours = self._closed = False

    def start(self, make: MakeWorker[Asked, Result]) -> None:
        """Say how a worker is made, which goes to the actors as it is; see `Executor`."""
        if self._make is not None:
            raise already_started()
        self._make = make

    @property
    def fault(self) -> str | None:
        """Why the cluster cannot be reached, since it was last tried, 10 s ago or less; see `Executor`."""
        fault = self._fault
        return None if fault is None else str(fault)

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the workers that are there."""
        with self._changed:
            return tuple(sorted(hand.name for hand in self._hands.values() if hand.is_there))

    def check(self) -> str:
        """Say what the cluster has, connecting to it where need be; see `Executor`."""
        with self._changed:
            n_looks = self._n_looks
            self._look_after()
            self._changed.wait_for(lambda: self._closed or self._n_looks > n_looks, _CHECKED_WITHIN_S)
            if self._closed:
                raise _closed()
            if self._n_looks == n_looks:
                raise _unavailable(TimeoutError(f"no answer in {_CHECKED_WITHIN_S:g} s"))
            if self._fault is not None:
                raise self._fault
            room = (f"{self._found.get(name, 0):g} {name}s" for name in ("GPU", "CPU"))
            return f"Ray {ray.__version__}, {' and '.join(room)}"

    def run(self, batches: Sequence[Batch[Asked]]) -> list[Sequence[Result]]:
        """Have the batches solved side by side; see `Executor`."""
        jobs = [Job[Asked, Result].of(batch) for batch in batches]
        with self._changed:
            if self._closed:
                raise _closed()
            self._waiting.jobs += jobs
            self._look_after()
        try:
            self._wait(jobs)
        finally:
            self._withdraw(jobs)
        failed = [error for job in jobs if job.done.done() and (error := job.done.exception()) is not None]
        if failed:
            raise failed[0]
        return [job.done.result() for job in jobs]

    def close(self) -> None:
        """End the workers, what they are doing included, and the cluster, if it is ours; see `Executor`."""
        with self._changed:
            self._closed = True
            under_way = [job for hand in self._hands.values() for job in hand.under_way]
            self._fail([*self._waiting.jobs, *under_way], _closed())
            threads = tuple(self._threads)
        until = time.monotonic() + 2 * _LET_GO_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))  # one that Ray keeps is let be
        if self._ours:
            ray.shutdown()

    # Those who wait

    def _wait(self, jobs: Sequence[Job[Asked, Result]]) -> None:
        """Wait until all are done, or one has failed or is given up."""
        bounded = any(job.batch.deadline is not None or job.batch.cancelled is not never for job in jobs)
        done = [job.done for job in jobs]
        while concurrent.futures.wait(done, _LOOK_S if bounded else None, concurrent.futures.FIRST_EXCEPTION).not_done:
            if any(each.done() and each.exception() is not None for each in done):
                return
            for job in jobs:
                self._give_up(job)

    def _give_up(self, job: Job[Asked, Result]) -> None:
        """Fail a job that nobody wants any more, or that has no time left."""
        batch, task_id = job.batch, job.batch.tasks[0].id
        late_s = 0.0 if batch.deadline is None else time.monotonic() - batch.deadline
        cancelled = batch.cancelled()
        with self._changed:
            if job.done.done():
                return
            if cancelled:
                self._fail([job], Cancelled(task_id=task_id))
            elif late_s > 0 and job in self._waiting.jobs:
                self._fail([job], DeadlinePassed("waiting for a worker", task_id=task_id))
            elif late_s > _LATE_S:
                self._fail([job], DeadlinePassed("waiting for its worker to end", task_id=task_id))

    def _withdraw(self, jobs: Sequence[Job[Asked, Result]]) -> None:
        """Take out of the queue what nobody waits for any more."""
        with self._changed:
            for job in jobs:
                job.wanted = False
            self._waiting.jobs = [job for job in self._waiting.jobs if job.wanted]

    def _fail(self, jobs: Sequence[Job[Asked, Result]], error: Exception) -> None:
        """Let those know who wait for them, and the workers that have them."""
        for job in jobs:
            job.wanted = False
            if not job.done.done():
                job.done.set_exception(error)
        for hand in self._hands.values():
            hand.to_stop += [job for job in hand.under_way if job in jobs]
        self._waiting.jobs = [job for job in self._waiting.jobs if job.wanted]
        self._changed.notify_all()

    # The cluster

    def _look_after(self) -> None:
        """Have it looked, now, whether the cluster is there and workers are missing."""
        self._to_look = True
        self._changed.notify_all()
        if not self._looks_after:
            self._begin(self._keep_looking, "ttt-router cluster")
            self._looks_after = True

    def _keep_looking(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._to_look, _LOOK_AT_CLUSTER_S)
                if self._closed:
                    return
                self._to_look = False
            try:
                found, fault = self._connected(), None
            except (Exception, SystemExit) as error:  # of many kinds; Ray exits where it is shut down
                found, fault = {}, _unavailable(error)
            with self._changed:
                self._fault, self._found = fault, found or self._found
                self._n_looks += 1
                self._changed.notify_all()
                if fault is None:
                    self._ask_for_workers()
                elif not self._has_workers():
                    self._fail(self._waiting.jobs, fault)

    def _connected(self) -> Mapping[str, float]:
        """Return what the cluster has, after connecting to it where there is no connection, or none that works."""
        if ray.is_initialized():
            try:
                return dict(ray.cluster_resources())
            except (Exception, SystemExit):
                if not self._ours or self._has_workers():
                    raise
        if self._ours:
            ray.shutdown()  # what is left of the connection that was lost
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray takes this from nowhere else
        local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
        _check_port(self._address)
        options = local if self._address == "local" else {}
        with _without_a_word_on_sigterm():
            ray.init(address=self._address, log_to_driver=False, configure_logging=False, **options)
        self._ours = True
        return dict(ray.cluster_resources())

    def _ask_for_workers(self) -> None:
        """Begin with as many workers as there are batches, as far as there may be."""
        if self._closed or not self._waiting.jobs:
            return
        n_under_way = sum(len(hand.under_way) for hand in self._hands.values())
        n_wanted = min(self._most(), len(self._waiting.jobs) + n_under_way)
        while len(self._hands) < n_wanted:
            hand = Hand[Asked, Result](f"worker-{uuid.uuid4().hex[:12]}")
            self._hands[hand.name] = hand
            self._begin(functools.partial(self._attend, hand), hand.name)

    def _most(self) -> int:
        if self._most_workers is not None:
            return max(1, self._most_workers)
        claims = (("GPU", self._gpus_each()), ("CPU", self._cpus))
        return max(1, min((int(self._found.get(name, 0) / each) for name, each in claims if each > 0), default=1))

    def _gpus_each(self) -> float:
        if self._gpus is not None:
            return self._gpus
        return 1.0 if self._found.get("GPU", 0) >= 1 else 0.0

    def _has_workers(self) -> bool:
        return any(hand.is_there for hand in self._hands.values())

    def _begin(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads = {thread, *(each for each in self._threads if each.is_alive())}

    # The workers

    def _attend(self, hand: Hand[Asked, Result]) -> None:
        """Start a worker, and keep it at work until there is no more, or it is no more."""
        actor, begun = None, False
        try:
            actor = _actor(self._cpus, self._gpus_each(), self.adapters_together)
            begun = self._begun(actor, hand)
            if begun:
                self._keep_at_work(actor, hand)
        except (Exception, SystemExit) as error:  # of Ray, which exits where it is shut down; nobody waits for ever
            self._lost(hand, error)
        finally:
            with self._changed:  # first, so that nothing waits for Ray to hear of it
                hand.is_there = False
                del self._hands[hand.name]
                self._waiting.forget(hand.name)
                self._changed.notify_all()
                if begun or not self._has_workers():  # else those who are there do what there is
                    self._look_after()
            if actor is not None:
                with contextlib.suppress(Exception, SystemExit):  # it may be dead, or the cluster gone
                    ray.kill(actor)

    def _begun(self, actor: Any, hand: Hand[Asked, Result]) -> bool:
        """Wait until a worker is there, which may take until the cluster has grown; say whether it is."""
        began = actor.begin.remote(self._make, hand.name)
        needed = time.monotonic()
        while not ray.wait([began], timeout=_LOOK_S)[0]:
            with self._changed:
                needed = time.monotonic() if self._waiting.jobs else needed
                if self._closed or time.monotonic() - needed > self._idle_s:
                    return False
                if not self._has_workers():
                    self._give_up_late()
        try:
            error: Exception | None = ray.get(began)
        except RayActorError as died:
            with self._changed:
                self._n_failed_starts += 1
                if self._n_failed_starts > self._retries and not self._has_workers():
                    self._n_failed_starts = 0
                    self._fail(self._waiting.jobs, _unavailable(died))
            return False
        with self._changed:
            if error is not None:
                if not self._has_workers():  # as of a model that cannot be loaded: the next would fare no better
                    self._fail(self._waiting.jobs, error)
                return False
            self._n_failed_starts = 0
            hand.is_there, hand.idle_since = True, time.monotonic()
            return True

    def _give_up_late(self) -> None:
        late = [job for job in self._waiting.jobs if time.monotonic() - job.since > self._start_within_s]
        needs = f"{self._gpus_each():g} GPUs and {self._cpus:g} CPUs"
        remedy = "Add nodes to the cluster, or ask for less (gpus=, cpus=)."
        said = f"no worker has started in {self._start_within_s:g} s; one needs {needs}"
        self._fail(late, ExecutorUnavailable(said, remedy=remedy))

    def _keep_at_work(self, actor: Any, hand: Hand[Asked, Result]) -> None:
        """Hand over what falls to a worker, until there has been nothing for long, it is dead, or it is all over."""
        while True:
            with self._changed:
                job = self._next(hand)
                to_stop, hand.to_stop = hand.to_stop, []
            for each in to_stop:
                actor.stop.remote(each.id)
            if job is not None:
                self._hand_over(actor, hand, job)
            elif not to_stop:
                break
        with self._changed:
            self._changed.wait_for(lambda: hand.is_dead or not hand.under_way, _LET_GO_S)

    def _next(self, hand: Hand[Asked, Result]) -> Job[Asked, Result] | None:
        """Wait until there is something for a worker to do or to stop; None: to stop, or it is not needed any more."""
        while not (self._closed or hand.is_dead or hand.to_stop):
            if (job := self._waiting.take(hand, self._hands.values())) is not None:
                if self._waiting.jobs:  # which may fall to another, now that this one has more to do
                    self._changed.notify_all()
                return job
            left_s = None if hand.under_way else hand.idle_since + self._idle_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                break
            self._changed.wait(left_s)
        hand.is_there = bool(hand.to_stop) and not (self._closed or hand.is_dead)
        return None

    def _hand_over(self, actor: Any, hand: Hand[Asked, Result], job: Job[Asked, Result]) -> None:
        batch = job.batch
        try:
            given = actor.run.remote(job.id, batch.tasks, batch.asked, seconds_left(batch.deadline), self._dead)
            came = given.future()
        except _LOST:
            raise
        except Exception as error:  # as of a task that cannot be sent
            came = concurrent.futures.Future()
            came.set_exception(error)
        came.add_done_callback(lambda came: self._came(hand, job, came))

    def _came(self, hand: Hand[Asked, Result], job: Job[Asked, Result], came: concurrent.futures.Future[Any]) -> None:
        """Take in what a worker says of a batch, or that it is dead; in a thread of Ray's."""
        error = came.exception()
        with self._changed:
            if job not in hand.under_way:  # it has been put back already
                return
            hand.under_way.remove(job)
            hand.idle_since = time.monotonic()
            if isinstance(error, _LOST):
                hand.is_there, hand.is_dead = False, True
                self._again(job, hand, error)
            elif not job.done.done():
                said = came.result() if error is None else _Raised(_unavailable(error))
                if isinstance(said, _Raised):
                    job.done.set_exception(said.error)
                else:
                    job.done.set_result(said)
            self._changed.notify_all()

    def _lost(self, hand: Hand[Asked, Result], error: BaseException) -> None:
        """Put back what a worker had that can be reached no more; where it was the last, nobody has to wait."""
        with self._changed:
            hand.is_there, hand.is_dead = False, True
            under_way, hand.under_way = hand.under_way, []
            for job in reversed(under_way):
                self._again(job, hand, error)
            if not self._has_workers():
                self._fail(self._waiting.jobs, _unavailable(error))

    def _again(self, job: Job[Asked, Result], hand: Hand[Asked, Result], died: BaseException) -> None:
        """Put a batch whose worker has died back to the front of the queue, if it has not cost too many."""
        if hand.name not in self._dead:
            self._dead = (*self._dead, hand.name)[-_DEAD_KNOWN:]
        job.deaths += 1
        if not job.wanted:
            return
        if job.deaths > self._retries:
            job.done.set_exception(_unavailable(died))
        else:
            self._waiting.jobs.insert(0, job)
            self._look_after()


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a worker raised: as a value it comes back as it was, and not wrapped by Ray."""

    error: Exception


class _Actor:
    """What runs on the cluster; its methods are called side by side."""

    def __init__(self) -> None:
        self._unwanted: dict[str, threading.Event] = {}  # by job

    def begin(self, make: MakeWorker[Any, Any], name: str) -> Exception | None:
        try:
            self._worker = make(name)
        except Exception as error:
            return error
        return None

    def run(
        self, job: str, tasks: Sequence[Task], asked: object, deadline_s: float | None, dead: Sequence[str]
    ) -> Sequence[object] | _Raised:
        unwanted = self._unwanted.setdefault(job, threading.Event())
        try:
            for worker in dead:
                self._worker.bury(worker)
            return self._worker.run(tasks, asked, deadline_s, unwanted.is_set)
        except Exception as error:
            return _Raised(error)
        finally:
            del self._unwanted[job]

    def stop(self, job: str) -> None:
        self._unwanted.setdefault(job, threading.Event()).set()  # it may overtake the job


def _actor(cpus: float, gpus: float, at_once: int) -> Any:
    """Ask for an actor. It is not restarted by Ray: who comes after it has to know that it died."""
    kind = ray.remote(_Actor).options(
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=0,
        max_concurrency=at_once + 1,  # and something to be stopped
        scheduling_strategy="SPREAD",
    )
    return kind.remote()


def _check_port(address: str) -> None:
    """See at once whether anybody listens; Ray would try for half a minute.

    Raises:
        OSError: nobody does.
    """
    if address.startswith("ray://"):
        at = urlsplit(address)
        socket.create_connection((at.hostname or "", at.port or 10001), _REACHED_WITHIN_S).close()


@contextlib.contextmanager
def _without_a_word_on_sigterm() -> Iterator[None]:
    """Connect in this thread without the warning that Ray leaves SIGTERM alone in it, which is what we want."""
    logger = logging.getLogger("ray._private.worker")

    def wanted(record: logging.LogRecord) -> bool:
        return "SIGTERM" not in record.getMessage()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def _closed() -> ExecutorUnavailable:
    return ExecutorUnavailable("the executor is closed", remedy="Make a new one.")


def _unavailable(error: BaseException) -> ExecutorUnavailable:
    told = " ".join(str(error).split())[:300] or type(error).__name__  # Ray's first line alone may say nothing
    return ExecutorUnavailable(f"Ray: {told}", remedy="See `ray status` and the logs of the cluster.")
