"""Evaluation in processes of its own, of which a kill costs only what was under way.

Each worker has a router on its share of the cores. What is finished is lines of JSON, on disk before it is told of.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from icl_engine.worker_processes import worker_pool
from router.settings import Settings

if TYPE_CHECKING:
    from router.router import Router

J = TypeVar("J")
R = TypeVar("R")


class Workers:
    """Processes that work off jobs; use it as a context manager.

    Args:
        settings: of the workers' routers; each has a home of its own, which goes with it, and adapters in memory.
        processes: that work beside each other, each on its share of the processor's cores.
    """

    def __init__(self, settings: Settings, processes: int) -> None:
        self._home = tempfile.TemporaryDirectory()
        self._processes = processes
        self._pool = worker_pool(processes, _start, (settings, self._home.name, processes))

    def each(
        self, work: Callable[[Router, J], R], jobs: Iterable[J], *, stop_after_s: float | None = None
    ) -> Iterator[R]:
        """Yield what `work` makes of each job, as they are done. An error of one is raised when all that was under way
        with it is finished and yielded: no work is lost to it but its own.

        Args:
            work: a function of a module, so that it can be named to another process.
            stop_after_s: begin no job after so many seconds; what is under way is finished.
        """
        until = None if stop_after_s is None else time.monotonic() + stop_after_s
        left, running = iter(jobs), set[Future[R]]()
        while True:
            while len(running) < 2 * self._processes and (until is None or time.monotonic() < until):
                job = next(left, None)
                if job is None:
                    break
                running.add(self._pool.submit(_run, work, job))
            if not running:
                return
            timeout = None if until is None else max(until - time.monotonic(), 0.0)
            done, running = wait(running, timeout, FIRST_COMPLETED)
            failed = any(job.exception() is not None for job in done)
            if failed or (until is not None and time.monotonic() >= until):
                running = {job for job in running if not job.cancel()}
                done |= wait(running).done
                running = set()
            errors = [error for job in done if (error := job.exception()) is not None]
            yield from (job.result() for job in done if job.exception() is None)
            if errors:
                raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._home.cleanup()


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read the objects of a file, one a line; none where there is no file. A last line that a kill cut short is taken
    away: that work is done again.
    """
    if not file.exists():
        return []
    content = file.read_bytes()
    end = content.rfind(b"\n") + 1
    os.truncate(file, end)
    return [json.loads(line) for line in content[:end].decode().splitlines()]


def append_lines(file: Path, entries: Iterable[Mapping[str, object]]) -> None:
    """Add objects to a file, one a line; they are on disk when it returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write("".join(f"{json.dumps(entry)}\n" for entry in entries))
        out.flush()
        os.fsync(out.fileno())


_router: Router  # of this worker process


def _start(settings: Settings, home: str, processes: int) -> None:
    """Make the router of a worker process, on its share of the cores."""
    global _router
    import torch

    from router.router import Router
    from ttt_engine.stores import MemoryAdapterStore

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    home = tempfile.mkdtemp(dir=home)  # its own ledger; the records go with it
    _router = Router(settings.model_copy(update={"home": Path(home)}), store=MemoryAdapterStore())


def _run(work: Callable[[Router, J], R], job: J) -> R:
    return work(_router, job)
