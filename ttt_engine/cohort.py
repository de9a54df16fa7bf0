"""Tasks solved side by side, each in a thread of its own: what they ask of the model is gathered and done at once.

A request waits until every member of the cohort has asked for something, left, or stands back; then all that was asked
for is served, requests of one kind together. So what is served together hangs on the tasks, not on which thread was
quicker; only who stands back, because somebody else is at work on what it needs, comes back when that is done. Knows
nothing of tasks or models.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from icl_engine.errors import released

Request = TypeVar("Request")
Result = TypeVar("Result")
Serve = Callable[[Sequence[Request]], Sequence[Result | Exception]]  # an exception is raised to the one who asked


class Cohort:
    """A number of members, of which each asks from its own thread."""

    def __init__(self, n_members: int) -> None:
        self._coming = set(range(n_members))  # who may still ask before the next serving
        self._asked: dict[int, tuple[Serve[Any, Any], Any]] = {}
        self._results: dict[int, Any] = {}
        self._changed = threading.Condition()
        self.seats = tuple(Seat(self, member) for member in range(n_members))

    def ask(self, member: int, serve: Serve[Request, Result], request: Request) -> Result:
        """Return what `serve` makes of the request; it is given all requests that name it, by member."""
        with self._changed:
            self._asked[member] = serve, request
            self._coming.discard(member)
            self._serve_if_complete()
            self._changed.wait_for(lambda: member in self._results)
            result = self._results.pop(member)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]  # of the type that `serve` has

    def leave(self, member: int) -> None:
        """Let the others go on without this member; it may still ask later."""
        with self._changed:
            self._coming.discard(member)
            self._serve_if_complete()

    def _serve_if_complete(self) -> None:
        if self._coming or not self._asked:
            return
        asked, self._asked = self._asked, {}
        self._coming = set(asked)
        try:
            for serve in dict.fromkeys(serve for serve, _ in (asked[member] for member in sorted(asked))):
                members = [member for member in sorted(asked) if asked[member][0] == serve]
                began = time.perf_counter()
                try:
                    results = serve([asked[member][1] for member in members])
                    self._results.update(zip(members, results, strict=True))
                except Exception as error:  # of all who asked for this
                    self._results.update(dict.fromkeys(members, released(error)))
                for member in members:
                    self.seats[member].seconds += (time.perf_counter() - began) / len(members)
        finally:  # also where an interrupt breaks it off: nobody is to wait for ever
            for member in asked.keys() - self._results.keys():
                self._results[member] = RuntimeError("what several tasks asked for together was broken off")
            self._changed.notify_all()


class Seat:
    """One member's place in a cohort.

    Attributes:
        seconds: its even share of the time in which what it asked for was served.
        shared: whether that was, or may have been, together with others.
    """

    def __init__(self, cohort: Cohort, member: int) -> None:
        self.seconds = 0.0
        self.shared = True
        self._cohort = cohort
        self._member = member

    def ask(self, serve: Serve[Request, Result], request: Request) -> Result:
        """See `Cohort.ask`."""
        return self._cohort.ask(self._member, serve, request)

    def leave(self) -> None:
        """See `Cohort.leave`; to be called before waiting for anything but the cohort, and at the end."""
        self._cohort.leave(self._member)
