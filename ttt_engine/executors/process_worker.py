"""What runs in a process of `ProcessesExecutor`: one worker, which is given a batch at a time over a pipe.

Nothing of the program that started it is run again here, as multiprocessing would: scripts need no guard for it. When
that program ends, however it does, its end of the pipe closes, and so does this process.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from icl_engine.task import Task
from ttt_engine.executors.executor import Done, MakeWorker, Worker


@dataclass(frozen=True, slots=True)
class Begin:
    """The first that is sent: how the worker is made."""

    make: MakeWorker[Any, Any]
    name: str


@dataclass(frozen=True, slots=True)
class Given:
    """A batch, and who is dead by now."""

    tasks: tuple[Task, ...]
    asked: object
    deadline_s: float | None
    dead: tuple[str, ...]


# what is sent: the number of a batch (0: of the beginning) and what it is, pickled by itself, as only the thread that
# works may load what it takes; without a batch nobody wants that number any more; None: it is all over
Sent = tuple[int, bytes | None] | None


def main() -> None:
    """Work off what comes on stdin and say on stdout what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all; the program says when to stop
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    given = queue.SimpleQueue[tuple[int, bytes] | None]()
    unwanted = set[int]()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, given, unwanted), daemon=True).start()
    worker: Worker[Any, Any] | None = None
    while (job := given.get()) is not None:
        number, content = job
        spent_s: list[float] = []
        results: Sequence[Any] = ()
        error = None
        try:
            message = pickle.loads(content)
            if isinstance(message, Begin):
                worker = message.make(message.name)
            elif worker is not None:
                results = _run(worker, message, number, unwanted, spent_s)
        except Exception as raised:
            error = raised
        _answer(answers, Done(results, error, sum(spent_s)))
    if worker is not None:
        worker.close()


def _run(
    worker: Worker[Any, Any], given: Given, number: int, unwanted: set[int], spent_s: list[float]
) -> Sequence[Any]:
    for dead in given.dead:
        worker.bury(dead)
    return worker.run(given.tasks, given.asked, given.deadline_s, lambda: number in unwanted, spent_s.append)


def _answer(answers: BinaryIO, done: Done) -> None:
    try:
        content = pickle.dumps(done)
    except Exception as error:  # as of an error that holds what cannot be sent
        content = pickle.dumps(
            Done(error=RuntimeError(f"{done.error or error!r} cannot be sent"), spent_s=done.spent_s)
        )
    answers.write(content)
    answers.flush()


def _listen(source: BinaryIO, given: queue.SimpleQueue[tuple[int, bytes] | None], unwanted: set[int]) -> None:
    while True:
        try:
            sent: Sent = pickle.load(source)
        except EOFError:
            os._exit(1)
        if sent is None:
            given.put(None)
            return
        number, content = sent
        if content is None:
            unwanted.add(number)
        else:
            given.put((number, content))
