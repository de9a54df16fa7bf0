"""Workers that are there at once and do what they are asked, for the tests of executors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from icl_engine.errors import ModelUnavailable, TaskRefused
from icl_engine.task import Task

What = Literal["say", "die", "die once", "refuse", "wait", "hang"]
SPENT_S = 0.25  # that each batch is said to have cost, but those that are refused or kill their worker


class TellingWorker:
    """Says of each task who had it, and how many it knows to be dead; "wait" and "hang" end when there is a file `go`.

    Args:
        notes: folder in which it is written what was begun.
    """

    def __init__(self, notes: Path, name: str) -> None:
        self.name = name
        self.buried: set[str] = set()
        self._notes = notes

    def run(
        self,
        tasks: Sequence[Task],
        asked: What,
        deadline_s: float | None,
        cancelled: Callable[[], bool],
        spent: Callable[[float], None],
    ) -> list[tuple[str, str, int]]:
        (self._notes / f"{time.monotonic_ns()}.begun").write_text(",".join(task.id for task in tasks))
        again = len(list(self._notes.glob("*.begun"))) > 1
        if asked == "die" or (asked == "die once" and not again):
            os._exit(1)
        if asked == "refuse":
            raise TaskRefused("got this one", field="task", remedy="Give another.", task_id=tasks[0].id)
        spent(SPENT_S)
        while asked in ("wait", "hang") and not (self._notes / "go").exists():
            if asked == "wait" and cancelled():
                (self._notes / "stopped").touch()
                break
            time.sleep(0.01)
        time.sleep(0.05)
        return [(self.name, task.id, len(self.buried)) for task in tasks]

    def bury(self, worker: str) -> None:
        self.buried.add(worker)

    def close(self) -> None:
        (self._notes / "closed").touch()


def without_a_model(name: str) -> TellingWorker:
    raise ModelUnavailable("no such model", remedy="Name another.")


def begun(notes: Path) -> list[str]:
    """Return the tasks of each batch that was begun, in the order in which they were."""
    return [path.read_text() for path in sorted(notes.glob("*.begun"))]


def task_of(length: int, id: str = "") -> Task:
    """A task of about this many characters; of another length, another task."""
    return Task.from_pairs([("a" * length, "b"), ("c", "d")], "e", id=id or str(length))
