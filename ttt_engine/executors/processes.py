"""The executor of processes on this machine, each with a worker of its own and its share of the cores.

A small model gains little from a second thread, and Python nothing: two processes with a core each did a third more
than one with two (docs/scale.md).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import Pipe
from typing import Generic

from ttt_engine.errors import Cancelled, DeadlinePassed, ExecutorUnavailable
from ttt_engine.executors.executor import Asked, Batch, Done, MakeWorker, Reach, Result
from ttt_engine.executors.in_process import already_started, seconds_left
from ttt_engine.executors.process_worker import Begin, Given, Sent

_LOOK_S = 0.1  # how often one who waits looks whether it is still needed
_LATE_S = 10.0  # after its deadline, or once nobody wants it, that a batch is waited for; then its process is ended
_LET_GO_S = 5.0  # at the end, for what workers are doing
_DEAD_KNOWN = 64  # leases of those before have run out
_CLOSED = "the executor is closed"
_RUN = "from ttt_engine.executors.process_worker import main; main()"  # with -m its classes would be another module's


class ProcessesExecutor(Generic[Asked, Result]):
    """An `Executor` of processes beside this one, which start with the first batches and end with it.

    A batch is all that a worker has, also one that may be beside others. Each worker holds the model in its own memory.

    Args:
        workers: at most; None: one a core.
        adapters: trained together at most, by one worker.
        retries: of a batch whose worker died.

    Attributes:
        most: workers that there may be.
    """

    reach: Reach = "machine"
    fault: str | None = None

    def __init__(self, *, workers: int | None = None, adapters: int = 4, retries: int = 2) -> None:
        cores = _cores()
        self.adapters_together = adapters
        self.most = workers or cores
        self._threads = max(1, cores // self.most)
        self._retries = retries
        self._make: MakeWorker[Asked, Result] | None = None
        self._changed = threading.Condition()  # guards all below
        self._processes: list[_Process] = []  # that are there
        self._idle: list[_Process] = []
        self._line: list[object] = []  # those who wait for a process, the first first
        self._n_starting = self._n_started = 0
        self._failed_starts: list[Exception] = []
        self._dead: tuple[str, ...] = ()
        self._closed = False

    def start(self, make: MakeWorker[Asked, Result]) -> None:
        """Say how a worker is made, which is pickled for the processes; see `Executor`."""
        if self._make is not None:
            raise already_started()
        self._make = make

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the workers that are there."""
        with self._changed:
            return tuple(process.name for process in self._processes)

    def check(self) -> str:
        """Say how many processes there may be; see `Executor`."""
        return f"{self.most} processes on this machine, threads of each: {self._threads}"

    def run(self, batches: Sequence[Batch[Asked]]) -> list[Sequence[Result]]:
        """Have the batches solved side by side; see `Executor`."""
        if len(batches) < 2:
            return [self._solved(batch) for batch in batches]
        failed, interrupted = threading.Event(), threading.Event()

        def solved(batch: Batch[Asked]) -> Sequence[Result]:
            if failed.is_set():  # nobody will see what would come of it
                return ()
            try:
                wanted_no_more = batch.cancelled
                return self._solved(replace(batch, cancelled=lambda: wanted_no_more() or interrupted.is_set()))
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(min(len(batches), self.most)) as pool:
            try:
                return list(pool.map(solved, batches))
            except Exception:  # of a batch; those under way beside it come to their end
                raise
            except BaseException:  # of this thread, as from the keyboard
                failed.set()
                interrupted.set()
                raise

    def close(self) -> None:
        """End the processes, what they are doing included; see `Executor`."""
        with self._changed:
            self._closed = True
            processes = (*self._processes,)
            self._changed.notify_all()
        for process in processes:
            process.end()
        until = time.monotonic() + _LET_GO_S
        for process in processes:
            process.kill(after_s=max(0.0, until - time.monotonic()))

    # A batch

    def _solved(self, batch: Batch[Asked]) -> Sequence[Result]:
        n_died = 0
        while True:
            process = self._taken(batch)
            try:
                done = self._done(process, batch)
            except _Died as died:
                self._bury(process)
                n_died += 1
                if n_died > self._retries:
                    remedy = "See whether memory ran out; try the task alone, with TTT_ROUTER_EXECUTOR=in-process."
                    raise ExecutorUnavailable(f"{died}, as did {n_died - 1} before it", remedy=remedy) from None
                continue
            self._give_back(process)
            batch.spent(done.spent_s)
            if done.error is not None:
                raise done.error
            return done.results

    def _done(self, process: _Process, batch: Batch[Asked]) -> Done:
        """Have a process solve a batch; one that nobody wants any more, or that is late, is let go at once.

        Raises:
            _Died: it has.
        """
        given = Given(batch.tasks, batch.asked, seconds_left(batch.deadline), self._dead)
        try:
            number = process.give(given)
        except _Died:
            raise
        except Exception:  # it cannot be pickled, and nothing was sent
            self._give_back(process)
            raise
        try:
            while (done := process.hear(_LOOK_S)) is None:
                self._check_wanted(batch)
            return done
        except _Died:
            raise
        except BaseException as given_up:  # also an interruption from the keyboard
            # what is late has had its time: its process is ended at once
            left_s = 0.0 if isinstance(given_up, DeadlinePassed) else _LATE_S
            threading.Thread(target=self._let_go, args=(process, number, batch, left_s), daemon=True).start()
            raise

    def _check_wanted(self, batch: Batch[Asked]) -> None:
        if self._closed:
            raise _closed()
        if batch.cancelled():
            raise Cancelled(task_id=batch.tasks[0].id)
        if batch.deadline is not None and time.monotonic() - batch.deadline > _LATE_S:
            raise DeadlinePassed("waiting for its worker to end", task_id=batch.tasks[0].id)

    def _let_go(self, process: _Process, number: int, batch: Batch[Asked], left_s: float) -> None:
        """Wait until a process has noticed that nobody wants its batch; end it where that takes too long."""
        with contextlib.suppress(_Died):
            process.stop(number)
            done = process.hear(left_s)
            if done is not None:
                self._give_back(process)
                batch.spent(done.spent_s)
                return
        self._bury(process)

    # The processes

    def _taken(self, batch: Batch[Asked]) -> _Process:
        """Wait in line for a process that has nothing to do, and begin with another where there may be more."""
        place = object()
        with self._changed:
            n_failed = len(self._failed_starts)
            self._line.append(place)
            try:
                while True:
                    if self._closed:
                        raise _closed()
                    if self._idle and self._line[0] is place:
                        return self._idle.pop()
                    has_failed = len(self._failed_starts) > n_failed
                    if has_failed and not self._processes and not self._n_starting:
                        raise self._failed_starts[-1]  # as of a model that cannot be loaded
                    if batch.cancelled():
                        raise Cancelled(task_id=batch.tasks[0].id)
                    if batch.deadline is not None and time.monotonic() > batch.deadline:
                        raise DeadlinePassed("waiting for a worker", task_id=batch.tasks[0].id)
                    n_wanted = min(len(self._line), self.most - len(self._processes))
                    if self._n_starting < n_wanted and not has_failed:  # where one fails the next fares no better
                        self._n_starting += 1
                        threading.Thread(target=self._start_one, daemon=True).start()
                    self._changed.wait(_LOOK_S)
            finally:
                self._line.remove(place)
                self._changed.notify_all()

    def _start_one(self) -> None:
        with self._changed:
            self._n_started += 1
            name = f"process-{os.getpid()}-{id(self):x}-{self._n_started}"
        process, error = None, None
        try:
            assert self._make is not None  # whoever runs batches has said how
            process = _Process(name, self._threads)
            process.give(Begin(self._make, name))
            begun = process.hear(None)
            assert begun is not None  # as nothing bounds the wait
            error = begun.error
        except Exception as raised:  # what makes a worker may be anybody's, and not to be pickled
            error = _unavailable(raised)
        with self._changed:
            self._n_starting -= 1
            if error is not None:
                self._failed_starts.append(error)
            elif process is not None and not self._closed:
                self._processes.append(process)
                self._idle.append(process)
                process = None
            self._changed.notify_all()
        if process is not None:
            process.kill()

    def _give_back(self, process: _Process) -> None:
        with self._changed:
            self._idle.append(process)
            self._changed.notify_all()

    def _bury(self, process: _Process) -> None:
        """End a process, and let those who come after it know."""
        process.kill()
        with self._changed:
            self._dead = (*self._dead, process.name)[-_DEAD_KNOWN:]
            self._processes.remove(process)
            self._changed.notify_all()


class _Died(Exception):
    """A process has ended."""


class _Process:
    """A process with a worker, and the connection to it. One thread at a time gives and hears."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._n_given = -1
        self._sending = threading.Lock()
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        found_where_we_are = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self._connection, its_end = Pipe()
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN, str(its_end.fileno())],
                pass_fds=[its_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what libraries print is not for whoever reads this program's output
                env={**os.environ, **counts, **found_where_we_are},
            )

    def give(self, message: Begin | Given) -> int:
        """Send something to do, and return its number.

        Raises:
            _Died: the process is no more.
            Exception: what pickling it raises; nothing has been sent then.
        """
        self._n_given += 1
        self._send((self._n_given, message))
        return self._n_given

    def stop(self, number: int) -> None:
        """Say that nobody wants it any more.

        Raises:
            _Died: the process is no more.
        """
        self._send((number, None))

    def hear(self, within_s: float | None) -> Done | None:
        """Return what came of what was given; None: nothing yet.

        Raises:
            _Died: the process is no more.
        """
        try:
            return self._connection.recv() if self._connection.poll(within_s) else None
        except (EOFError, OSError) as error:
            raise self._died() from error
        except Exception as error:  # an answer that cannot be loaded here
            return Done(error=error)

    def end(self) -> None:
        """Have it end when it has done what it is doing; nobody wants that."""
        with contextlib.suppress(_Died):
            self.stop(self._n_given)
            self._send(None)

    def kill(self, after_s: float = 0.0) -> None:
        """End it, if it has not ended by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(after_s)
        self._process.kill()
        self._process.wait()

    def _send(self, message: Sent) -> None:
        with self._sending:
            try:
                self._connection.send(message)
            except OSError as error:
                raise self._died() from error

    def _died(self) -> _Died:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK_S)  # its end closes a moment before it is gone
        return _Died(f"a worker's process ended (exit code {self._process.returncode})")


def _cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _closed() -> ExecutorUnavailable:
    return ExecutorUnavailable(_CLOSED, remedy="Make a new one.")


def _unavailable(error: Exception) -> ExecutorUnavailable:
    return ExecutorUnavailable(
        f"no worker could be started ({error})", remedy="See what its process said on stderr, and `ttt-router doctor`."
    )
