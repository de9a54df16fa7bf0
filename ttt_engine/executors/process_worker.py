"""What runs in a process of `ProcessesExecutor`: one worker, which is given a batch at a time over a connection.

Nothing of the program that started it is run again here, as multiprocessing would: scripts need no guard for it. When
that program ends, however it does, its end of the connection closes, and so does this process.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

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


# a number and what is to be done, or None where nobody wants that number any more; None alone: it is all over
Sent = tuple[int, Begin | Given | None] | None
_Queue = queue.SimpleQueue[tuple[int, Begin | Given | Exception] | None]


def main() -> None:
    """Work off what comes over the connection whose number is the argument, and answer each with what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all; the program says when to stop
    connection = Connection(int(sys.argv[1]))
    given, unwanted = _Queue(), set[int]()
    threading.Thread(target=_listen, args=(connection, given, unwanted), daemon=True).start()
    worker: Worker[Any, Any] | None = None
    while (job := given.get()) is not None:
        number, message = job
        spent_s: list[float] = []
        results: Sequence[Any] = ()
        error = None
        try:
            if isinstance(message, Exception):
                raise message
            if isinstance(message, Begin):
                worker = message.make(message.name)
            elif worker is not None:
                results = _run(worker, message, number, unwanted, spent_s)
        except Exception as raised:
            error = raised
        _answer(connection, Done(results, error, sum(spent_s)))
    if worker is not None:
        worker.close()


def _run(
    worker: Worker[Any, Any], given: Given, number: int, unwanted: set[int], spent_s: list[float]
) -> Sequence[Any]:
    for dead in given.dead:
        worker.bury(dead)
    return worker.run(given.tasks, given.asked, given.deadline_s, lambda: number in unwanted, spent_s.append)


def _answer(connection: Connection[Any, Any], done: Done) -> None:
    try:
        connection.send(done)
    except OSError:
        os._exit(1)  # nobody is there
    except Exception as error:  # as of an error that holds what cannot be sent
        connection.send(Done(error=RuntimeError(f"{done.error or error!r} cannot be sent"), spent_s=done.spent_s))


def _listen(connection: Connection[Any, Any], given: _Queue, unwanted: set[int]) -> None:
    n_given = 0
    while True:
        try:
            sent: Sent = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        except Exception as error:  # what cannot be loaded here, such as a policy of the program's main module
            given.put((n_given, error))
            continue
        if sent is None:
            given.put(None)
            return
        n_given, message = sent
        if message is None:
            unwanted.add(n_given)
        else:
            given.put((n_given, message))
