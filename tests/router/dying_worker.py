"""A worker that dies once, right after it has stored the first adapter of a batch, for tests of what that costs."""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path
from typing import Any

from router.workers import RouterWorker
from ttt_engine.adapter import Adapter
from ttt_engine.executors import MakeWorker
from ttt_engine.executors.ray import RayExecutor


class DyingOnce(RayExecutor[Any, Any]):
    """An executor the first of whose workers is such a one.

    Args:
        note: file that is there once one has died.
    """

    def __init__(self, note: Path, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._note = note

    def start(self, make: MakeWorker[Any, Any]) -> None:
        """Have each worker die where none has yet."""
        super().start(functools.partial(_dying, make, self._note))


def _dying(make: MakeWorker[Any, Any], note: Path, name: str) -> RouterWorker:
    worker = make(name)
    assert isinstance(worker, RouterWorker)
    ttt = worker.base.steps.ttt
    assert ttt is not None
    store: Any = ttt.store
    keep, one_by_one = store.keep, threading.Lock()

    def keep_and_die(adapter: Adapter) -> object:
        with one_by_one:
            degraded = keep(adapter)
            if not note.exists():
                note.touch()
                os._exit(1)
            return degraded

    store.keep = keep_and_die
    return worker
