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
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError

from ttt_engine.errors import Cancelled, DeadlinePassed, ExecutorUnavailable
from ttt_engine.executors.executor import Asked, Batch, Done, MakeWorker, Reach, Result, never
from ttt_engine.executors.in_process import already_started, seconds_left
from ttt_engine.executors.ray.actor import start_actor
from ttt_engine.executors.ray.connection import Connection
from ttt_engine.executors.waiting import Hand, Job, Waiting

_LOOK_S = 0.2  # how often one who waits looks whether it is still needed
_LOOK_AT_CLUSTER_S = 10.0  # how often it is looked whether the cluster is there, where nothing else asks
_CHECKED_WITHIN_S = 120.0  # Ray tries for a while to connect
_LATE_S = 10.0  # after its deadline that a batch is waited for: the worker ends its step and answers in context
_LET_GO_S = 5.0  # at the end, for what workers are doing
_DEAD_KNOWN = 64  # leases of those before have run out
_LOST = (  # the worker, the way to it, or what it had answered
    RayActorError,
    NodeDiedError,
    OutOfMemoryError,
    ObjectLostError,
    ConnectionError,
    concurrent.futures.CancelledError,
)


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
        self._connection = Connection(address)
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
        self._is_looking = False
        self._found: Mapping[str, float] = {}  # what the cluster has
        self._fault: ExecutorUnavailable | None = None  # of the last look
        self._looks_after = self._closed = False

    def start(self, make: MakeWorker[Asked, Result]) -> None:
        """Say how a worker is made, which goes to the actors as it is; see `Executor`."""
        if self._make is not None:
            raise already_started()
        self._make = make

    @property
    def fault(self) -> str | None:
        """Why the cluster cannot be reached, since it was last tried, 10 s ago or less; see `Executor`."""
        if self._looks_after and not self._n_looks:
            return "connecting to Ray"
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
            wanted = self._n_looks + (2 if self._is_looking else 1)  # a look under way may see what is over by now
            self._look_after()
            self._changed.wait_for(lambda: self._closed or self._n_looks >= wanted, _CHECKED_WITHIN_S)
            if self._closed:
                raise _closed()
            if self._n_looks < wanted:
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
        self._connection.close()

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
                self._to_look, self._is_looking = False, True
            before, found = self._connection.id, dict[str, float]()
            fault: ExecutorUnavailable | None = None
            try:
                found.update(self._connection.resources(in_use=self._has_workers()))
            except (Exception, SystemExit) as error:  # of many kinds; Ray exits where it is shut down
                fault = _unavailable(error)
            with self._changed:
                if self._connection.id != before:  # and nothing will be heard of what came through that
                    for hand in self._hands.values():
                        self._lose(hand, ConnectionError("the connection to Ray was ended"))
                self._fault, self._found = fault, found or self._found
                self._n_looks, self._is_looking = self._n_looks + 1, False
                self._changed.notify_all()
                if fault is None:
                    self._ask_for_workers()
                elif not self._has_workers():
                    self._fail(self._waiting.jobs, fault)

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
            actor = start_actor(self._cpus, self._gpus_each(), self.adapters_together)
            begun = self._begun(actor, hand)
            if begun:
                self._keep_at_work(actor, hand)
        except (Exception, SystemExit) as error:  # of Ray, which exits where it is shut down; nobody waits for ever
            with self._changed:
                self._lose(hand, error)
                # of a connection that was ended it is seen now whether there is a way back
                if not self._connection.is_ended and not self._has_workers():
                    self._fail(self._waiting.jobs, _unavailable(error))
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
                if self._closed or hand.is_dead or time.monotonic() - needed > self._idle_s:
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
            if hand.is_dead:  # it came through a connection that is no more
                return False
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
            if self._connection.is_ended:
                raise
            came = concurrent.futures.Future()
            came.set_exception(error)
        came.add_done_callback(lambda came: self._came(hand, job, came))

    def _came(self, hand: Hand[Asked, Result], job: Job[Asked, Result], came: concurrent.futures.Future[Done]) -> None:
        """Take in what a worker says of a batch, or that it is dead; in a thread of Ray's."""
        error = concurrent.futures.CancelledError("a call was cancelled") if came.cancelled() else came.exception()
        done = Done(error=_unavailable(error)) if error is not None else came.result()
        try:
            if done.spent_s:
                job.batch.spent(done.spent_s)  # also of what nobody waits for any more
        finally:
            with self._changed:
                if job in hand.under_way:  # else it has been put back already
                    self._take_in(hand, job, done, error)

    def _take_in(
        self, hand: Hand[Asked, Result], job: Job[Asked, Result], done: Done, error: BaseException | None
    ) -> None:
        hand.idle_since = time.monotonic()
        if isinstance(error, _LOST):
            self._lose(hand, error)
            return
        hand.under_way.remove(job)
        if not job.done.done():
            if done.error is None:
                job.done.set_result(done.results)
            else:
                job.done.set_exception(done.error)
        self._changed.notify_all()

    def _lose(self, hand: Hand[Asked, Result], error: BaseException) -> None:
        """Put back what a worker had that can be reached no more."""
        hand.is_there, hand.is_dead = False, True
        under_way, hand.under_way = hand.under_way, []
        for job in reversed(under_way):
            self._again(job, hand, error)
        self._changed.notify_all()

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


def _closed() -> ExecutorUnavailable:
    return ExecutorUnavailable("the executor is closed", remedy="Make a new one.")


def _unavailable(error: BaseException) -> ExecutorUnavailable:
    told = " ".join(str(error).split())[:300] or type(error).__name__  # Ray's first line alone may say nothing
    return ExecutorUnavailable(f"Ray: {told}", remedy="See `ray status` and the logs of the cluster.")
