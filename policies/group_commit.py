"""Group commit: what several threads want to write while another commits is written in one transaction after it.

A commit is several waits for the disk and nearly no work, so that one for all takes as long as one for each. No thread
of its own: of those that wait one writes for all. Nobody is told that something is written before it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from policies.errors import LedgerCorrupt, LedgerFull, LedgerLocked

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AT_ONCE = 64  # pieces of work in one transaction

Written = TypeVar("Written")


class GroupCommit:
    """Writes for several threads at once.

    Args:
        writing: gives a connection in a transaction, and commits it.
    """

    def __init__(self, writing: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._writing = writing
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._is_led = False  # somebody writes for all

    def write(self, work: Callable[[Connection], Written]) -> Written:
        """Return what `work` returns, once it is committed; its error is raised here, and costs no other's work."""
        mine = _Waiting(work)
        with self._changed:
            self._waiting.append(mine)
        try:
            while not self._done_meanwhile(mine):
                self._lead(mine)
        except BaseException:
            with self._changed:  # whoever is interrupted has given up: nobody writes it later
                self._waiting = [each for each in self._waiting if each is not mine]
            raise
        return cast("Written", mine.result())

    def _done_meanwhile(self, mine: _Waiting) -> bool:
        """Wait until nobody leads or `mine` is written, and say whether it is."""
        with self._changed:
            self._changed.wait_for(lambda: mine.is_done or not self._is_led)
            return mine.is_done

    def _lead(self, mine: _Waiting) -> None:
        """Write what waits, `mine` among it, unless somebody else has begun to."""
        group: list[_Waiting] = []
        led = False
        try:
            with self._changed:
                if self._is_led:
                    return
                led = self._is_led = True
                group, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            self._write_all(group)
        finally:
            if led:
                with self._changed:
                    self._is_led = False
                    # what an interrupt has left undone, another thread writes
                    self._waiting[:0] = [each for each in group if not each.is_done and each is not mine]
                    self._changed.notify_all()

    def _write_all(self, group: Sequence[_Waiting]) -> Exception | None:
        """Write a group in one transaction; return the fault of the database that kept all of it from being written."""
        begun = False
        try:
            with self._writing() as connection:
                begun = True
                results = [each.work(connection) for each in group]
        except Exception as error:
            nobody_s_work = not begun or isinstance(error, (LedgerLocked, LedgerFull, LedgerCorrupt))
            if not nobody_s_work and len(group) > 1:
                return self._write_one_by_one(group)
            for each in group:
                each.failed(error)
            return error if nobody_s_work else None
        for each, result in zip(group, results, strict=True):
            each.written(result)
        return None

    def _write_one_by_one(self, group: Sequence[_Waiting]) -> Exception | None:
        """Find out whose work it was; a fault that is nobody's ends it for the rest, who would wait in a row."""
        fault: Exception | None = None
        for each in group:
            if fault is None:
                fault = self._write_all([each])
            else:
                each.failed(fault)
        return fault


class _Waiting:
    """Work that waits to be written."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.is_done = False
        self._result: Any = None
        self._error: Exception | None = None

    def written(self, result: object) -> None:
        self._result, self.is_done = result, True

    def failed(self, error: Exception) -> None:
        self._error, self.is_done = error, True

    def result(self) -> object:
        if self._error is not None:
            raise self._error
        return self._result
