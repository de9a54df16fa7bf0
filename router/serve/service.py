"""The service without its HTTP: who asks what, in threads of its own, bounded, with deadlines, and stopped with grace.

Everything that is kept here belongs to the event loop's thread; workers solve, and tell the loop. What
waits for the model at the same time is done at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_engine.task import Task
from router.errors import Cancelled, DeadlinePassed
from router.lanes import Lanes
from router.redaction import Redactor
from router.serve.allowances import Allowances
from router.serve.errors import (
    CancellationNotKept,
    ComputeSpent,
    JobGivenUp,
    JobNotKept,
    Overloaded,
    SolveFailed,
    Stopping,
    UnknownJob,
)
from router.serve.jobs import Asked, Job, Jobs
from router.serve.journal import Journal
from router.serve.messages import solution_json
from router.serve.metrics import Metrics
from router.serve.problems import problem_of, words_of
from router.serve.tenants import Tenants
from router.serve.watch import Watch
from router.solution import Solution

if TYPE_CHECKING:
    from icl_engine.language_model import LanguageModel
    from policies.decision import Decision
    from policies.ledger import Ledger
    from router.settings import Settings

log = logging.getLogger("ttt_router.serve")

_DECIDING_AT_ONCE = 2  # threads: a decision is a prompt, and others wait
_LONGEST_RETRY_S = 60.0
LEDGER_LOST = "the ledger cannot be reached"
_LOOK_UP_S = 0.02  # from waiting for what runs
_LOOK_FOR_LEFT_S = 5.0  # whether another server has gone and left promised jobs
_MOST_TRIES = 3  # of a job that was taken up: one that ends its server ends all of them in turn
_BODIES_AT_ONCE = 8  # of the longest that is taken; parsed they take five times as much


class Service:
    """Solves what it is asked by several tenants.

    Args:
        settings: the `serve_` ones are about this.
        ledger: one for all tenants.
        model: instead of the one the settings name.
        secrets: masked in whatever is told, beside those that the settings hold.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        model: LanguageModel | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.metrics = Metrics()
        self.redact = Redactor.of(settings).knowing((*secrets, str(settings.home), settings.ledger_location))
        self.allowances = Allowances(settings.serve_rate, settings.serve_compute_s)
        self.journal: Journal | None = None  # until `keep_jobs`, promised jobs are kept in memory alone
        self.jobs = Jobs(settings.serve_job_s, settings.serve_job_bytes, self._dropped)
        self.lanes = Lanes()
        self.stopping = False
        self.tenants = Tenants(settings, ledger, model)
        self.watch = Watch(
            {
                LEDGER_LOST: ledger.last_seq,
                "the store of adapters cannot be reached": self.tenants.ping_store,
            }
        )
        self._taking_over: asyncio.Task[None] | None = None
        self._workers = ThreadPoolExecutor(settings.serve_workers, thread_name_prefix="solve")
        self._deciders = ThreadPoolExecutor(_DECIDING_AT_ONCE, thread_name_prefix="decide")
        self._futures: dict[tuple[Job, int], Future[None]] = {}  # of tasks that are not done
        self._n_promised = 0
        self._n_deciding = self._writing = 0
        self._n_reading_bytes = Counter[str]()  # by tenant
        self._mean_solve_s = 1.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch()

    def keep_jobs(self, folder: Path) -> None:
        """Keep in this folder what is promised, from now on; to be called before `begin`."""
        self.journal = Journal(folder, self.settings.limits)

    def begin(self) -> None:
        """Go to work in the loop that is running; jobs that were promised before are taken up again.

        So are, as long as it runs, those of other servers of this home and port that are no more.
        """
        self._loop = asyncio.get_running_loop()
        self.watch.start()
        if self.journal is not None:
            for job in self.journal.read():
                self._take_up(job)
            self._taking_over = asyncio.create_task(self._take_over(self.journal))

    def trace_id_of(self, job: Job) -> str:
        """Return the trace of a job of one task.

        Raises:
            SolveFailed: it has none, because the task was not answered.
        """
        result = job.ordered_results()[0]
        if "problem" in result:
            raise SolveFailed(words_of(result["problem"]))
        trace_id: str = result["solution"]["trace_id"]
        return trace_id

    @property
    def degraded(self) -> tuple[str, ...]:
        """What does not go as it should, as far as it is known without asking; why, after a colon."""
        return tuple(map(self.redact, (*self.tenants.faults, *self.watch.faults)))

    @property
    def n_running(self) -> int:
        """Tasks that are being solved."""
        return len(self._futures) - self.n_waiting

    @property
    def n_waiting(self) -> int:
        """Tasks that no worker has taken up."""
        return sum(not (future.running() or future.done()) for future in self._futures.values())

    @property
    def n_deciding(self) -> int:
        """Decisions that are asked for."""
        return self._n_deciding

    def check_room(self, tenant: str, key: str | None = None) -> None:
        """Refuse, before it is read, a request to solve that would be refused whatever is in it.

        Raises:
            Stopping, Overloaded, ComputeSpent: as for `submit`.
        """
        if key is None or not self.jobs.knows(tenant, key):  # else there may be an answer already
            self._admit(tenant, 1)

    def check_deciding(self, tenant: str) -> None:
        """Refuse, before it is read, a request to decide that would be refused whatever is in it.

        Raises:
            Stopping, Overloaded, ComputeSpent: as for `decide`.
        """
        self._check_taking(tenant)
        if self._n_deciding >= self.settings.serve_decides:
            raise Overloaded(f"{self._n_deciding} decisions wait", 1.0)

    @contextmanager
    def reading(self, tenant: str, n_bytes: int) -> Iterator[None]:
        """Hold the memory that a body takes until it is taken in.

        Raises:
            Overloaded: those of all take too much, or those of this tenant half as much.
        """
        room, of_all = _BODIES_AT_ONCE * self.settings.serve_body_bytes, self._n_reading_bytes.total()
        if of_all + n_bytes > room or self._n_reading_bytes[tenant] + n_bytes > room // 2:
            raise Overloaded(f"{of_all} bytes are being read", 1.0)
        self._n_reading_bytes[tenant] += n_bytes
        try:
            yield
        finally:
            self._n_reading_bytes[tenant] -= n_bytes

    async def find(self, tenant: str, job_id: str) -> Job:
        """Return a tenant's job: of this server, or of another one of its home and port, as that has last kept it.

        Raises:
            UnknownJob: none of them has it.
        """
        try:
            return self.jobs.get(tenant, job_id)
        except UnknownJob:
            found = None if self.journal is None else await asyncio.to_thread(self.journal.find, job_id)
            if found is None or found.tenant != tenant:
                raise
            return found

    async def submit(
        self, tenant: str, asked: Asked, *, kept: bool = False, key: str | None = None, followed: bool = False
    ) -> Job:
        """Take in a job and begin with it; one that is kept is on disk when this returns.

        Args:
            followed: somebody will listen from the first step on.

        Raises:
            Stopping, Overloaded, ComputeSpent, JobNotKept: it is not taken.
            KeyReused: the idempotency key was used for another.
        """
        if key is not None and (same := self.jobs.same(tenant, key, asked)) is not None:
            if kept:
                await self._promise_too(same)
            return same
        self._admit(tenant, len(asked.tasks))
        job = Job(tenant, asked, kept, key)
        limit_s = self.settings.deadline_s if asked.deadline_s is None else asked.deadline_s
        job.deadline = None if limit_s is None else time.monotonic() + limit_s
        if followed:
            job.first_listener = job.listen()
        if kept or key is not None:
            self.jobs.add(job)
        self._n_promised += len(asked.tasks)  # its place is held while it is written down
        try:
            if kept:
                await self._promise(job)
        except JobNotKept as error:
            self._break_off(job, error)
            raise
        finally:
            self._n_promised -= len(asked.tasks)
        self._start(job)
        return job

    def leave(self, job: Job) -> None:
        """Let go of a job if nobody waits for it and it was not promised to anybody."""
        if not job.n_waiting_for and not job.kept:
            self.cancel(job)

    def cancel(self, job: Job) -> None:
        """Let go of a job: what waits is dropped now, what runs stops before its next step."""
        if job.over.is_set():
            return
        job.unwanted.set()
        for place in range(len(job.asked.tasks)):
            future = self._futures.get((job, place))
            if future is not None and future.cancel():
                self._finished(job, place, {"problem": problem_of(Cancelled())})

    async def cancel_for_good(self, job: Job) -> None:
        """Cancel a job; when this returns, no start takes it up again, not even after a kill.

        Raises:
            CancellationNotKept: that could not be written down; it is cancelled until the next start.
        """
        self.cancel(job)
        was_handed_back = job.handed_back
        if was_handed_back:  # who cancels it is heard, also while the server stops
            job.handed_back = False
            job.stays_undone({"problem": problem_of(Cancelled())})
        if self.journal is not None and job.kept and (was_handed_back or not job.over.is_set()):
            try:
                await asyncio.to_thread(self.journal.write, job)
            except OSError as error:
                job.handed_back = was_handed_back  # as it is on disk
                raise CancellationNotKept(error.strerror or type(error).__name__) from error

    async def decide(self, tenant: str, task: Task, seed: int | None, gone: asyncio.Future[None]) -> Decision:
        """Say which arm a task would be answered with; does not wait for what is being solved.

        Args:
            gone: done when nobody wants to know any more.

        Raises:
            Stopping, Overloaded, ComputeSpent: it is not taken.
            TaskRefused: as for `Router.decide`.
            Cancelled: nobody wants to know.
        """
        self.check_deciding(tenant)

        def decided() -> Decision:
            began = time.perf_counter()
            try:
                return self.tenants.router(tenant).decide_unless(gone.done, task, seed=seed)
            finally:
                self._spent(tenant, time.perf_counter() - began)

        decision = self._deciders.submit(decided)
        gone.add_done_callback(lambda _: decision.cancel())  # what waits, that is; what runs looks for itself
        self._n_deciding += 1
        try:
            return await asyncio.wrap_future(decision)
        except asyncio.CancelledError:
            if gone.done():
                raise Cancelled from None
            raise
        finally:
            self._n_deciding -= 1

    def begin_to_stop(self) -> None:
        """Take nothing more, and let go after a while of what is not done by then."""
        if not self.stopping:
            self.stopping = True
            up_to = f"up to {self.settings.serve_stop_s:g} s" if self.is_busy else "nothing is left to do"
            log.info("stopping: %s at work, %d waiting, %s", _tasks(self.n_running), self.n_waiting, up_to)
            asyncio.get_running_loop().call_later(self.settings.serve_stop_s, self._hand_back)

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits for an answer, or one is being written down."""
        return bool(self._futures or self._writing or self._n_promised or self._n_deciding)

    async def stop(self) -> None:
        """Wait for what runs, as long as it may, and close."""
        self.begin_to_stop()
        if self._taking_over is not None:
            self._taking_over.cancel()
        while self.is_busy:
            await asyncio.sleep(_LOOK_UP_S)
        await asyncio.to_thread(self._close)
        left = self.jobs.handed_back()
        if not left:
            log.info("stopped")
        elif self.journal is not None:
            log.info("stopped: %s on disk for the next start", _stay(len(left)), extra={"jobs": left})
        else:
            log.warning("stopped: %s nowhere: a server without a port of its own (0) keeps none", _stay(len(left)))

    def _hand_back(self) -> None:
        """Let go of all that is not done; what was promised stays on disk, and is taken up at the next start."""
        for job in {job for job, _ in self._futures}:
            job.handed_back = not job.unwanted.is_set()
            self.cancel(job)

    async def _take_over(self, journal: Journal) -> None:
        while True:
            await asyncio.sleep(_LOOK_FOR_LEFT_S)
            if self.stopping:
                return
            try:
                self._take_up_all(await asyncio.to_thread(journal.take_over))
            except Exception as error:  # whatever it is: the next look may do better
                log.error("nothing was taken over: %s", self.redact(repr(error)), exc_info=True)

    def _take_up_all(self, left: Sequence[Job]) -> None:
        if not self.stopping:  # since the look began; else they lie in our folder, for whoever comes next
            for job in left:
                self._take_up(job)

    def _take_up(self, job: Job) -> None:
        if job.key is not None and self.jobs.knows(job.tenant, job.key):
            job.key = None  # it was asked for anew, and that answers for the key
        self.jobs.add(job)
        if job.over.is_set():
            self.jobs.over(job)
        elif job.n_tries >= _MOST_TRIES:
            log.error("given up: servers have ended with it", extra={"job": job.id, "tries": job.n_tries})
            given_up = {"problem": problem_of(JobGivenUp(job.n_tries))}
            job.results = dict.fromkeys(range(len(job.asked.tasks)), given_up)
            self._ended(job)
        else:
            log.info("taken up again", extra={"job": job.id})
            self._start(job)

    def _close(self) -> None:
        self.watch.stop()
        self._workers.shutdown()
        self._deciders.shutdown()
        self.tenants.close()

    def _admit(self, tenant: str, n_tasks: int) -> None:
        self._check_taking(tenant)
        n_taken = len(self._futures) + self._n_promised
        if n_taken + n_tasks > self.settings.serve_workers + self.settings.serve_queue:
            waits_s = self._mean_solve_s * n_taken / self.settings.serve_workers
            raise Overloaded(f"{n_taken} tasks are at work or wait", min(max(1.0, waits_s), _LONGEST_RETRY_S))

    def _check_taking(self, tenant: str) -> None:
        if self.stopping:
            raise Stopping
        if wait_s := self.allowances.compute_wait_s(tenant):
            raise ComputeSpent(self.settings.serve_compute_s or 0.0, wait_s)

    async def _promise(self, job: Job) -> None:
        if self.journal is None:
            return
        if job.promise is None:  # else another request under the same key has asked, and both get what comes of it
            job.promise = asyncio.ensure_future(asyncio.to_thread(self.journal.write, job))
        promise = job.promise
        try:
            await asyncio.shield(promise)
        except OSError as error:
            if job.promise is promise:
                job.promise = None
            raise JobNotKept(error.strerror or type(error).__name__) from error

    async def _promise_too(self, job: Job) -> None:
        """Promise a job that has been taken in already; where that fails it goes on for whoever waits for it."""
        job.kept = True  # from now on: whoever waits for it may go before it is written down
        try:
            await self._promise(job)
        except JobNotKept:
            job.kept = job.promise is not None  # to somebody who has asked since
            self.leave(job)
            raise

    def _start(self, job: Job) -> None:
        for place in range(len(job.asked.tasks)):
            self._futures[job, place] = self._workers.submit(self._work, job, place)

    def _work(self, job: Job, place: int) -> None:
        """Solve one task of a job, in a worker's thread."""
        job.is_begun = True
        began = time.perf_counter()
        solution = None
        try:
            self._count_try(job)
            solution = self._solve(job, place)
            result = {"solution": solution_json(solution, self.redact)}
        except Exception as error:  # whatever it is, whoever asked gets to know that it is over
            result = {"problem": problem_of(error, self.redact)}
            if result["problem"]["code"] == "internal":
                log.error("a solve failed: %s", self.redact(repr(error)), exc_info=True, extra={"job": job.id})
        try:
            self._count(solution, result, time.perf_counter() - began)
        except Exception as error:  # a number that is no number, say; its place must be free again all the same
            log.error("a solve could not be counted: %s", self.redact(repr(error)), extra={"job": job.id})
        self._tell(self._finished, job, place, result)

    def _count_try(self, job: Job) -> None:
        if not job.is_uncounted or self.journal is None:
            return
        try:
            self.journal.count_try(job)
        except OSError as error:  # it is done all the same, and may be tried once more often
            log.error("that a job is tried again could not be kept: %s", error.strerror, extra={"job": job.id})

    def _solve(self, job: Job, place: int) -> Solution:
        task, asked = job.asked.tasks[place], job.asked
        if job.deadline is not None and time.monotonic() > job.deadline:
            raise DeadlinePassed("waiting for a worker", task_id=task.id)
        used = 0.0

        def spent(seconds: float) -> None:
            nonlocal used
            used += seconds
            self._spent(job.tenant, seconds)

        def progress(step: str, done: int, of: int) -> None:
            if job.listeners:
                self._tell(job.tell, "step", {"task": place, "step": step, "done": done, "of": of})

        workers = self.tenants.elsewhere
        if workers is not None:  # which tell of no steps
            solution = workers.solve_elsewhere(
                task,
                tenant=job.tenant,
                arm=asked.arm,
                seed=asked.seed,
                deadline=job.deadline,
                cancelled=job.unwanted.is_set,
                spent=spent,
            )
        else:
            solution = self.tenants.router(job.tenant).solve_among(
                task,
                self.lanes,
                arm=asked.arm,
                seed=asked.seed,
                deadline=job.deadline,
                cancelled=job.unwanted.is_set,
                progress=progress,
                spent=spent,
            )
        self._spent(job.tenant, max(0.0, solution.cost.seconds - used))
        return solution

    def _finished(self, job: Job, place: int, result: dict[str, Any]) -> None:
        del self._futures[job, place]
        if job.handed_back and "problem" in result:
            result = {"problem": problem_of(Stopping())}
        job.results[place] = result
        job.tell("result", {"task": place, **result})
        if len(job.results) == len(job.asked.tasks):
            self._ended(job)

    def _ended(self, job: Job) -> None:
        """Write down, where it was promised, what came of a job, and let everybody know who waits."""
        was_counted = job.n_tries > 0 and not job.is_uncounted
        if job.kept and self.journal is not None and (was_counted or not job.handed_back):
            self._writing += 1
            written = asyncio.get_running_loop().run_in_executor(None, self._write, job)
            written.add_done_callback(lambda _: self._kept(job))
        else:
            self._over(job)

    def _break_off(self, job: Job, error: JobNotKept) -> None:
        """Let everybody know who has joined a job that is not begun with."""
        self.jobs.remove(job)
        for place in range(len(job.asked.tasks)):
            job.results[place] = {"problem": problem_of(error, self.redact)}
            job.tell("result", {"task": place, **job.results[place]})
        self._over(job)

    def _kept(self, job: Job) -> None:
        self._writing -= 1
        self._over(job)

    def _over(self, job: Job) -> None:
        job.over.set()
        self.jobs.over(job)
        job.tell("done", {"id": job.id, "state": job.state})

    def _write(self, job: Job) -> None:
        assert self.journal is not None
        try:
            if job.handed_back:
                self.journal.write_back(job)
            else:
                self.journal.write(job)
        except OSError as error:  # its results are still here, and after a crash it is done once more
            log.error("the results of a job could not be kept: %s", error.strerror, extra={"job": job.id})

    def _dropped(self, job_id: str) -> None:
        if self.journal is not None:
            self.journal.drop(job_id)

    def _spent(self, tenant: str, seconds: float) -> None:
        """Note what was computed; from the thread that did it: the loop need not wake up for that."""
        self.allowances.computed(tenant, seconds)
        self.metrics.compute_s.inc(seconds)

    def _count(self, solution: Solution | None, result: dict[str, Any], seconds: float) -> None:
        metrics = self.metrics
        self._mean_solve_s += 0.1 * (seconds - self._mean_solve_s)
        if solution is None:
            metrics.solves.labels("none", result["problem"]["code"]).inc()
            return
        metrics.solves.labels(solution.answered_by, "solved").inc()
        metrics.solve_s.labels(solution.answered_by).observe(seconds)
        metrics.tokens.inc(solution.cost.tokens)
        metrics.degraded.inc(bool(solution.degraded))

    def _tell(self, what: Callable[..., object], *content: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(what, *content)
        except RuntimeError:  # the loop is closed, and nobody listens any more
            log.debug("nobody was there to be told")

    def _watch(self) -> None:
        metrics = self.metrics
        metrics.watch("running", "Tasks that are being solved", lambda: self.n_running)
        metrics.watch("waiting", "Tasks that wait for a worker", lambda: self.n_waiting)
        metrics.watch("deciding", "Decisions that are asked for", lambda: self.n_deciding)
        to_train = "Tasks that wait to be trained, or answered with what was trained"
        metrics.watch("waiting_to_train", to_train, lambda: self.lanes.training.n_waiting)
        metrics.watch("jobs", "Jobs that are not over", lambda: len(self.jobs.running()))


def _tasks(n: int) -> str:
    return f"{n} task{'' if n == 1 else 's'}"


def _stay(n: int) -> str:
    return "1 promised job stays" if n == 1 else f"{n} promised jobs stay"
