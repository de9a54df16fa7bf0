"""Jobs on disk: one that was promised (202) is there again after a crash, a kill or a stop that did not wait for it.

A file a job, written before the promise is given and rewritten with its results; private, since tasks are in it.
Servers of one home and port have a folder each, side by side, and hold it while they live: what one leaves another
takes over.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from icl_engine.errors import TaskRefused
from icl_engine.task import Limits, Task
from policies.whole_files import UNFINISHED, sync_folder, write_whole
from router.serve.jobs import Asked, Job
from router.serve.problems import problem_of
from ttt_engine.errors import Cancelled

log = logging.getLogger("ttt_router.serve")


class _Kept(BaseModel):
    """What a file holds."""

    model_config = ConfigDict(extra="forbid")

    id: str
    tenant: str
    key: str | None
    tasks: list[Any]  # none of a job that is over
    arm: str | None
    seed: int | None
    deadline_s: float | None
    until: float | None  # seconds since 1970, of the deadline
    results: dict[int, dict[str, Any]] | None
    digest: str | None = None  # of what was asked, where it is over
    cancelled: bool = False
    n_tries: int = 0  # see `Job`


@contextmanager
def own_folder(jobs: Path, port: int) -> Iterator[Path]:
    """Hold a folder that no other server writes to, though they share the home and, on other machines, the port.

    It is the first that is free, so what a server has left there that is no more is taken up by the next.

    Raises:
        OSError: it cannot be made.
    """
    for n in itertools.count():
        folder = jobs / (f"{port}.{n}" if n else str(port))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(folder) as is_ours:
            if is_ours:
                yield folder
                return


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder, or say that another does; its lock goes with the process, however that ends."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


class Journal:
    """The files of one server.

    Args:
        folder: nobody else's.
        limits: of tasks, those that are set now.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._writing = threading.Lock()  # a job may be promised and over at the same time
        self._unread: set[Path] = set()  # of our own, to be tried again
        self._out_of_reach: set[Path] = set()  # folders of others that could not be looked through the last time
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left_over in folder.glob(f"*{UNFINISHED}"):
            left_over.unlink(missing_ok=True)

    def write(self, job: Job) -> None:
        """Keep a job as it is now; returns once it is on disk.

        Raises:
            OSError: it cannot be written.
        """
        with self._writing:
            self._write(job)

    def count_try(self, job: Job) -> None:
        """Have it on disk, before anything is done, that a job that was taken up is tried once more.

        Of several threads that begin with its tasks the first does so, and the others wait for it.

        Raises:
            OSError: it cannot be written; the try is not counted.
        """
        with self._writing:
            if job.is_uncounted:
                job.n_tries += 1
                try:
                    self._write(job)
                finally:
                    job.is_uncounted = False

    def write_back(self, job: Job) -> None:
        """Keep a job that is handed back: what this server has tried of it does not count, since nothing ended with it.

        Raises:
            OSError: it cannot be written.
        """
        with self._writing:
            job.n_tries -= 1
            self._write(job)

    def _write(self, job: Job) -> None:
        left_s = None if job.deadline is None else job.deadline - time.monotonic()
        asked, done = job.asked, job.by_place()  # in this order: the tasks go when all results are there
        if job.handed_back:  # what it has is no result: whoever waited was told that the server stops
            done = {}
        cancelled = job.unwanted.is_set() and not job.handed_back
        if cancelled:  # what is at work on it may not know yet
            done = {place: {"problem": problem_of(Cancelled())} for place in range(len(asked.tasks))} | done
        is_over = len(done) >= len(asked.tasks)
        kept = _Kept(
            id=job.id,
            tenant=job.tenant,
            key=job.key,
            tasks=[] if is_over else [task.model_dump() for task in asked.tasks],
            arm=asked.arm,
            seed=asked.seed,
            deadline_s=asked.deadline_s,
            until=None if left_s is None else time.time() + left_s,
            results=done if is_over else None,
            cancelled=cancelled,
            n_tries=job.n_tries,
            digest=job.digest if is_over else None,
        )
        write_whole(self._path(job.id), kept.model_dump_json().encode(), mode=0o600)

    def drop(self, job_id: str) -> None:
        """Forget a job."""
        self._path(job_id).unlink(missing_ok=True)

    def read(self) -> Iterator[Job]:
        """Yield all jobs that are kept, oldest first.

        What is no job is put aside under another name; what cannot be read now is tried again by `take_over`.
        """
        yield from self._read(_oldest_first(self._folder))

    def take_over(self) -> list[Job]:
        """Return what servers have left that are no more, oldest first; from now on it is in this folder.

        Beside it what could not be read of our own before.
        """
        moved: list[Path] = []
        for folder in self._others():
            try:
                self._move_from(folder, moved)
            except OSError as error:  # what has been moved is ours, and the next look tries the rest again
                if folder not in self._out_of_reach:
                    log.error("%s: what is left there cannot be taken over: %s", folder.name, error.strerror)
                self._out_of_reach.add(folder)
            else:
                self._out_of_reach.discard(folder)
        return list(self._read([*sorted(self._unread), *moved]))

    def _move_from(self, folder: Path, moved: list[Path]) -> None:
        with _held(folder) as is_left:
            left = _oldest_first(folder) if is_left else []
            for path in left:
                moved.append(path.replace(self._folder / path.name))
            if left:
                sync_folder(self._folder)

    def find(self, job_id: str) -> Job | None:
        """Return a job as it was last written down, whichever server of this home and port has it; None: none has."""
        for folder in 2 * (self._folder, *self._others()):  # twice: one that is just taken over is missed once
            with suppress(OSError, ValidationError, TaskRefused):
                return self._restored(_Kept.model_validate_json((folder / f"{job_id}.json").read_bytes()))
        return None

    def _others(self) -> tuple[Path, ...]:
        """Return the folders that `own_folder` may have made for others, and no other: `8770.bak` is somebody's own."""
        port = self._folder.name.partition(".")[0]
        beside = sorted(self._folder.parent.glob(f"{port}*"))
        ours = [folder for folder in beside if re.fullmatch(rf"{re.escape(port)}(\.[0-9]+)?", folder.name)]
        return tuple(folder for folder in ours if folder != self._folder and folder.is_dir())

    def _read(self, paths: Iterable[Path]) -> Iterator[Job]:
        for path in paths:
            try:
                job = self._restored(_Kept.model_validate_json(path.read_bytes()))
            except OSError as error:  # too many open files, say, or a disk that is away: it is there all the same
                if path not in self._unread:
                    log.error("a job cannot be read now: %s", error.strerror, extra={"job": path.stem})
                self._unread.add(path)
                continue
            except (ValidationError, TaskRefused) as error:
                log.error("a file is no job that can be done, and is put aside", extra=_about(path, error))
                with suppress(OSError):  # it is read again at the next start, then
                    path.replace(path.with_suffix(".unreadable"))
                self._unread.discard(path)
                continue
            self._unread.discard(path)
            yield job

    def _restored(self, kept: _Kept) -> Job:
        tasks = tuple(Task.parse(raw, self._limits) for raw in kept.tasks)
        asked = Asked(tasks, kept.arm, kept.seed, kept.deadline_s)
        job = Job(kept.tenant, asked, kept=True, key=kept.key, id=kept.id)
        if kept.until is not None:
            job.deadline = time.monotonic() + kept.until - time.time()
        job.results, job.known_digest = kept.results or {}, kept.digest
        job.n_tries, job.is_uncounted = kept.n_tries, kept.results is None
        if kept.cancelled:
            job.unwanted.set()
        if kept.results is not None:
            job.put_away()
            job.over.set()
        return job

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"


def _oldest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"), key=_written_at)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # which says so again when it is read, and keeps nobody from the others
        return 0.0


def _about(path: Path, error: Exception) -> dict[str, str]:
    """Say which, and why; not what is in it, which is a tenant's."""
    return {"job": path.stem, "why": type(error).__name__}
