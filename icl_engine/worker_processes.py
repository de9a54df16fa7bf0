"""Processes beside this one that end with it, however it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any


def worker_pool(processes: int, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> ProcessPoolExecutor:
    """Return a pool of `processes`, each begun by `initializer`; spawned, as torch's threads do not survive a fork.

    Those of a bare pool outlive a parent that is killed: each waits for work on a queue that it keeps open itself.
    """
    return ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(initializer, initargs)
    )


def _begin(initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    initializer(*initargs)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)
