"""Solves that come and go, each in a thread of its own: what waits for the model at the same time is served together.

The counterpart of a cohort where nobody knows beforehand who will ask. Requests of one kind that wait are served at
once; what has been asked by somebody who was served before comes first, and whoever was just served is waited for,
so that what was trained is answered before the next is trained. What is served together hangs on when it was asked,
and so do the lowest bits of the results. Knows nothing of tasks or models.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from icl_engine.errors import released
from ttt_engine.cohort import Request, Result, Seat, Serve

_LOOK_UP_S = 0.05  # from waiting, to see whether one still has to
_IDLE_S = 5.0  # after which the thread ends, and somebody who was served and does nothing is waited for no longer


class Lane:
    """One thread that serves what others ask for, and a queue before it.

    Args:
        at_once: requests that are served together at most.
    """

    def __init__(self, at_once: int = 64) -> None:
        self._at_once = at_once
        self._waiting: list[_Asked] = []
        self._coming: set[LaneSeat] = set()  # who was just served, and may ask again
        self._served: list[_Asked] = []  # together, at the moment
        self._shared_until = 0.0  # on the clock of time.perf_counter
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def seat(
        self, check: Callable[[], None] = lambda: None, spent: Callable[[float], None] = lambda seconds: None
    ) -> LaneSeat:
        """Return a place for one solve.

        Args:
            check: called now and then while it waits; what it raises ends the waiting.
            spent: told of its share of each serving, in seconds: what it is by then when it gives up, and the rest at
                the end. From when it has given up on, those who have not bear what is served together.
        """
        return LaneSeat(self, check, spent)

    @property
    def n_waiting(self) -> int:
        """Requests that nobody serves yet."""
        with self._changed:
            return len(self._waiting)

    def ask(self, seat: LaneSeat, serve: Serve[Request, Result], request: Request) -> Result:
        """Return what `serve` makes of the request; it is given all of its requests that wait."""
        asked = _Asked(seat, serve, request)
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="ttt-router lane", daemon=True)
                thread.start()  # which fails where there are too many; the next who asks tries again
                self._thread = thread
            self._coming.discard(seat)
            self._waiting.append(asked)
            self._changed.notify_all()
        try:
            while not asked.done.wait(_LOOK_UP_S):
                seat.check()
        except BaseException:
            self._give_up(asked)
            raise
        if isinstance(asked.result, Exception):
            raise asked.result
        return asked.result  # type: ignore[no-any-return]  # of the type that `serve` has

    def leave(self, seat: LaneSeat) -> None:
        """Go on without this solve; it may still ask later."""
        with self._changed:
            self._coming.discard(seat)
            if self._waiting:  # else there is nothing to wake up for
                self._changed.notify_all()

    def _give_up(self, asked: _Asked) -> None:
        with self._changed:
            if asked in self._served:
                self._share()
            asked.given_up = True
            if asked in self._waiting:
                self._waiting.remove(asked)
            self._coming.discard(asked.seat)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) and not self._coming, _IDLE_S)
                self._coming.clear()
                if not self._waiting:
                    self._thread = None  # under the lock: whoever asks next starts another
                    return
                batch = self._next()
            self._serve(batch)

    def _next(self) -> list[_Asked]:
        """Take what is served now: of the one who has come furthest, and whatever else is of that kind."""
        by_progress = sorted(self._waiting, key=lambda asked: -asked.seat.n_served)
        batch = [asked for asked in by_progress if asked.serve == by_progress[0].serve][: self._at_once]
        self._waiting = [asked for asked in self._waiting if asked not in batch]
        self._served, self._shared_until = batch, time.perf_counter()
        for asked in batch:
            asked.seat.shared |= len(batch) > 1
        return batch

    def _serve(self, batch: list[_Asked]) -> None:
        try:
            results = list(batch[0].serve([asked.request for asked in batch]))
            assert len(results) == len(batch)
        except BaseException as error:  # of all who asked for this; the thread goes on for the others
            failed = error if isinstance(error, Exception) else RuntimeError(f"broken off by {type(error).__name__}")
            results = [released(failed)] * len(batch)
        with self._changed:
            self._share()
            self._served = []
            for asked, result in zip(batch, results, strict=True):
                asked.seat.n_served += 1
                if not asked.given_up:
                    self._coming.add(asked.seat)
                asked.result = result
                asked.done.set()

    def _share(self) -> None:
        """Share out the time since this was last done: among those who still want it or, if nobody does, among all."""
        now = time.perf_counter()
        bearing = [asked for asked in self._served if not asked.given_up] or self._served
        share = (now - self._shared_until) / len(bearing)
        self._shared_until = now
        for asked in bearing:
            if not asked.given_up:  # else its solve has gone on without it
                asked.seat.seconds += share
            asked.seat.spent(share)


class LaneSeat(Seat):
    """One solve's place in a lane.

    Attributes:
        n_served: how many of its requests were served.
    """

    def __init__(self, lane: Lane, check: Callable[[], None], spent: Callable[[float], None]) -> None:
        self.seconds = 0.0
        self.shared = False
        self.n_served = 0
        self.check = check
        self.spent = spent
        self._lane = lane

    def ask(self, serve: Serve[Request, Result], request: Request) -> Result:
        """See `Lane.ask`."""
        return self._lane.ask(self, serve, request)

    def leave(self) -> None:
        """See `Lane.leave`; to be called before waiting for anything but the lane, and at the end."""
        self._lane.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


@dataclass(slots=True, eq=False)
class _Asked:
    """A request on its way."""

    seat: LaneSeat
    serve: Serve[Any, Any]
    request: Any
    result: Any = None
    done: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False
