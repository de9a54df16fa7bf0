"""The executor on a Ray cluster: one actor a GPU, or a share of the CPUs, each with a worker that holds the base model.

A thread here keeps each actor at work: it takes the batch whose adapters lie with its actor, else the longest that is
waiting, and hands it over. When actor or node dies the batch goes back to the front of the queue, and whoever takes it
learns who died, so that what the dead one was training is not waited for. More actors are asked for while batches wait:
Ray's autoscaler sees that, and starts nodes for them; idle ones are ended, and it stops the nodes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import ray
from ray.exceptions import RayActorError

from icl_engine.task import Task
from ttt_engine.errors import DeadlinePassed, ExecutorUnavailable
from ttt_engine.executors.executor import Asked, Batch, MakeWorker, Reach, Result
from ttt_engine.executors.in_process import already_started, seconds_left

_LOOK_S = 0.5  # how often one who waits looks whether it is still needed
_ADAPTERS_KNOWN = 100_000  # of which it is remembered with whom they lie
_PASSED_AT_MOST = 16  # times that the first in the queue lets others go before
_DEAD_KNOWN = 64  # leases of those before have run out
_OBJECT_BYTES = 100 * 2**20  # tasks and answers are small


@dataclass(eq=False, slots=True)
class _Job(Generic[Asked, Result]):
    """A batch on its way."""

    batch: Batch[Asked]
    adapters: frozenset[str]  # fingerprints of the demonstrations
    since: float = field(default_factory=time.monotonic)
    deaths: int = 0  # of workers that had it
    passed: int = 0  # times that another was taken although this one came first
    wanted: bool = True  # somebody waits for it
    done: concurrent.futures.Future[Sequence[Result]] = field(default_factory=concurrent.futures.Future)


class RayExecutor(Generic[Asked, Result]):
    """An `Executor` on Ray. Connects with the first batch.

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
        self._waiting: list[_Job[Asked, Result]] = []
        self._threads: dict[str, threading.Thread] = {}  # by worker, those included that are still to come
        self._present: set[str] = set()  # workers that are there
        self._n_under_way = 0  # batches that a worker has
        self._with_whom: OrderedDict[str, str] = OrderedDict()  # adapter: worker
        self._dead: tuple[str, ...] = ()  # workers, the last ones
        self._n_failed_starts = 0  # in a row
        self._connected = self._ours = self._closed = False

    def start(self, make: MakeWorker[Asked, Result]) -> None:
        """Say how a worker is made, which goes to the actors as it is; see `Executor`."""
        if self._make is not None:
            raise already_started()
        self._make = make

    def run(self, batches: Sequence[Batch[Asked]]) -> list[Sequence[Result]]:
        """Have the batches solved side by side; see `Executor`."""
        jobs = [
            _Job[Asked, Result](batch, frozenset(task.demonstrations_fingerprint for task in batch.tasks))
            for batch in batches
        ]
        self._submit(jobs)
        try:
            self._wait(jobs)
        finally:
            self._withdraw(jobs)
        failed = [error for job in jobs if job.done.done() and (error := job.done.exception()) is not None]
        if failed:
            raise failed[0]
        return [job.done.result() for job in jobs]

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the workers that are there."""
        with self._changed:
            return tuple(sorted(self._present))

    def close(self) -> None:
        """End the workers, and the cluster, if it is ours; see `Executor`."""
        with self._changed:
            self._closed = True
            self._fail(self._waiting, _closed())
            self._changed.notify_all()
            threads = list(self._threads.values())
        for thread in threads:
            thread.join()
        if self._ours:
            ray.shutdown()

    # The queue

    def _submit(self, jobs: Sequence[_Job[Asked, Result]]) -> None:
        with self._changed:
            if self._closed:
                raise _closed()
            self._connect()
            self._waiting += jobs
            self._changed.notify_all()
            self._ask_for_workers()

    def _wait(self, jobs: Sequence[_Job[Asked, Result]]) -> None:
        """Wait until all are done, one has failed, or the deadline of one has passed that no worker has begun."""
        timeout = None if all(job.batch.deadline is None for job in jobs) else _LOOK_S
        done = [job.done for job in jobs]
        while concurrent.futures.wait(done, timeout, concurrent.futures.FIRST_EXCEPTION).not_done:
            if any(each.done() and each.exception() is not None for each in done):
                return
            now = time.monotonic()
            with self._changed:
                for job in [job for job in self._waiting if job in jobs]:
                    if job.batch.deadline is not None and now > job.batch.deadline:
                        self._fail([job], DeadlinePassed("waiting for a worker", task_id=job.batch.tasks[0].id))

    def _withdraw(self, jobs: Sequence[_Job[Asked, Result]]) -> None:
        """Take out of the queue what nobody waits for any more."""
        with self._changed:
            for job in jobs:
                job.wanted = False
            self._waiting = [job for job in self._waiting if job.wanted]

    def _fail(self, jobs: Sequence[_Job[Asked, Result]], error: Exception) -> None:
        for job in jobs:
            job.done.set_exception(error)
        self._waiting = [job for job in self._waiting if job not in jobs]

    def _next(self, name: str) -> _Job[Asked, Result] | None:
        """Return the batch that a worker does next; None: there has been nothing to do for long, or it is all over."""
        idle_until = time.monotonic() + self._idle_s
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting, idle_until - time.monotonic())
            if self._closed or not self._waiting:
                return None
            first = self._waiting[0]
            job = min(self._waiting, key=lambda job: self._distance(job, name))  # of equals the first
            if first.passed >= _PASSED_AT_MOST:
                job = first
            first.passed += 1
            self._waiting.remove(job)
            self._n_under_way += 1
            for adapter in job.adapters:
                self._with_whom[adapter] = name
                self._with_whom.move_to_end(adapter)
            while len(self._with_whom) > _ADAPTERS_KNOWN:
                self._with_whom.popitem(last=False)
            return job

    def _distance(self, job: _Job[Asked, Result], name: str) -> tuple[int, int]:
        """Return how far a batch is from a worker: first comes whose adapters lie with it, last whose lie elsewhere."""
        lying_with = [self._with_whom[adapter] for adapter in job.adapters if adapter in self._with_whom]
        here = lying_with.count(name)
        return -here, len(lying_with) - here

    # The workers

    def _ask_for_workers(self) -> None:
        """Begin with as many workers as there are batches, as far as there may be."""
        if self._closed or not self._waiting:
            return
        n_wanted = min(self._most(), len(self._waiting) + self._n_under_way)
        while len(self._threads) < n_wanted:
            name = f"worker-{uuid.uuid4().hex[:12]}"
            self._threads[name] = threading.Thread(target=self._attend, args=(name,), name=name, daemon=True)
            self._threads[name].start()

    def _most(self) -> int:
        if self._most_workers is not None:
            return max(1, self._most_workers)
        there = ray.cluster_resources()
        gpus = self._gpus_each()
        room = [int(there.get(name, 0) / each) for name, each in (("GPU", gpus), ("CPU", self._cpus)) if each > 0]
        return max(1, min(room, default=1))

    def _gpus_each(self) -> float:
        if self._gpus is not None:
            return self._gpus
        return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0

    def _attend(self, name: str) -> None:
        """Start a worker, and keep it at work until there is no more, or it is no more."""
        actor, begun = None, False
        try:
            actor = _actor(self._cpus, self._gpus_each())
            begun = self._begun(actor, name)
            if begun:
                while (job := self._next(name)) is not None:
                    if not self._done(actor, name, job):
                        break
        except (Exception, SystemExit) as error:  # of Ray, which exits where it is shut down; nobody waits for ever
            with self._changed:
                self._fail(self._waiting, _unavailable(error))
        finally:
            if actor is not None:
                with contextlib.suppress(Exception):  # it may be dead, or the cluster gone
                    ray.kill(actor)
            with self._changed:
                del self._threads[name]
                self._present.discard(name)
                for adapter in [adapter for adapter, worker in self._with_whom.items() if worker == name]:
                    del self._with_whom[adapter]
                if begun or not self._present:  # else those who are there do what there is
                    self._ask_for_workers()

    def _begun(self, actor: Any, name: str) -> bool:
        """Wait until a worker is there, which may take until the cluster has grown; say whether it is."""
        began = actor.begin.remote(self._make, name)
        needed = time.monotonic()
        while not ray.wait([began], timeout=_LOOK_S)[0]:
            with self._changed:
                needed = time.monotonic() if self._waiting else needed
                if self._closed or time.monotonic() - needed > self._idle_s:
                    return False
                if not self._present:
                    self._give_up_late()
        try:
            error: Exception | None = ray.get(began)
        except RayActorError as died:
            with self._changed:
                self._n_failed_starts += 1
                if self._n_failed_starts > self._retries and not self._present:
                    self._n_failed_starts = 0
                    self._fail(self._waiting, _unavailable(died))
            return False
        with self._changed:
            if error is not None:
                if not self._present:  # as of a model that cannot be loaded: the next would fare no better
                    self._fail(self._waiting, error)
                return False
            self._n_failed_starts = 0
            self._present.add(name)
            return True

    def _give_up_late(self) -> None:
        late = [job for job in self._waiting if time.monotonic() - job.since > self._start_within_s]
        needs = f"{self._gpus_each():g} GPUs and {self._cpus:g} CPUs"
        remedy = "Add nodes to the cluster, or ask for less (gpus=, cpus=)."
        self._fail(
            late,
            ExecutorUnavailable(
                f"no worker has started in {self._start_within_s:g} s; one needs {needs}", remedy=remedy
            ),
        )

    def _done(self, actor: Any, name: str, job: _Job[Asked, Result]) -> bool:
        """Have a worker do a batch; say whether it is alive after that."""
        batch = job.batch
        try:
            said = ray.get(actor.run.remote(batch.tasks, batch.asked, seconds_left(batch.deadline), self._dead))
        except RayActorError as died:
            with self._changed:
                self._n_under_way -= 1
                self._again(job, name, died)
            return False
        except (Exception, SystemExit) as error:  # as of a result that cannot be sent
            said = _Raised(error if isinstance(error, Exception) else _unavailable(error))
        with self._changed:
            self._n_under_way -= 1
        if isinstance(said, _Raised):
            job.done.set_exception(said.error)
        else:
            job.done.set_result(said)
        return True

    def _again(self, job: _Job[Asked, Result], name: str, died: Exception) -> None:
        """Put a batch whose worker has died back to the front of the queue, if it has not cost too many."""
        self._dead = (*self._dead, name)[-_DEAD_KNOWN:]
        job.deaths += 1
        if job.deaths > self._retries:
            job.done.set_exception(_unavailable(died))
        elif job.wanted and self._closed:
            job.done.set_exception(_closed())
        elif job.wanted:
            self._waiting.insert(0, job)
            self._changed.notify_all()

    def _connect(self) -> None:
        if self._connected:
            return
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray takes this from nowhere else
            local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
            try:
                with _sigterm_kept():
                    ray.init(
                        address=self._address,
                        log_to_driver=False,
                        configure_logging=False,
                        **(local if self._address == "local" else {}),
                    )
            except Exception as error:  # of many kinds
                raise _unavailable(error) from error
            self._ours = True
        self._connected = True


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a worker raised: as a value it comes back as it was, and not wrapped by Ray."""

    error: Exception


class _Actor:
    """What runs on the cluster."""

    def begin(self, make: MakeWorker[Any, Any], name: str) -> Exception | None:
        try:
            self._worker = make(name)
        except Exception as error:
            return error
        return None

    def run(
        self, tasks: Sequence[Task], asked: object, deadline_s: float | None, dead: Sequence[str]
    ) -> Sequence[object] | _Raised:
        try:
            for worker in dead:
                self._worker.bury(worker)
            return self._worker.run(tasks, asked, deadline_s)
        except Exception as error:
            return _Raised(error)


def _actor(cpus: float, gpus: float) -> Any:
    """Ask for an actor. It is not restarted by Ray: who comes after it has to know that it died."""
    kind = ray.remote(_Actor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD")
    return kind.remote()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put back what is done at SIGTERM: connecting, Ray takes that over."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _closed() -> ExecutorUnavailable:
    return ExecutorUnavailable("the executor is closed", remedy="Make a new one.")


def _unavailable(error: BaseException) -> ExecutorUnavailable:
    told = str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
    return ExecutorUnavailable(f"Ray: {told}", remedy="See `ray status` and the logs of the cluster.")
