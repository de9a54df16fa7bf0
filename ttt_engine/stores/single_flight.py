"""One training for all who want the same adapter at the same time; the others wait and share it.

Threads of one process share the leader's result directly. Between processes and machines whoever takes the lease
trains; the others look into the store until it is there, the lease has run out, or their time is up: their
deadline or, without one, ten minutes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ttt_engine.adapter import Adapter
from ttt_engine.errors import Cancelled, DeadlinePassed, StoreUnavailable, TrainingFailed
from ttt_engine.stores.store import Leases

Renew = Callable[[], None]
_LOOK_UP_S = 0.1  # from waiting, to see whether one still has to


@dataclass(slots=True)
class _Flight:
    """A training under way in this process."""

    done: threading.Event = field(default_factory=threading.Event)
    adapter: Adapter | None = None
    error: Exception | None = None


class SingleFlight:
    """Sees to it that one of many trains.

    Args:
        leases: of other processes and machines, the nearest first.
        lease_s: for which a lease is held without a sign of life; a sign is given at every training step.
        longest_wait_s: for another process or machine, after which one that has no deadline trains by itself; who
            trains in this process is waited for.
    """

    def __init__(
        self,
        leases: Sequence[Leases] = (),
        *,
        lease_s: float = 30.0,
        longest_wait_s: float = 600.0,
        poll_s: float = 0.05,
    ) -> None:
        self._leases = tuple(leases)
        self._lease_s = lease_s
        self._longest_wait_s = longest_wait_s
        self._poll_s = poll_s
        self._flights: dict[str, _Flight] = {}
        self._lock, self._pid = threading.Lock(), os.getpid()

    def run(
        self,
        key: str,
        *,
        find: Callable[[], Adapter | None],
        make: Callable[[Renew], Adapter],
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        waiting: Callable[[], None] = lambda: None,
    ) -> Adapter:
        """Return what `make` made, here or wherever it was made first.

        Args:
            find: looks into the store.
            make: trains and keeps; calls what it is given at every step, as a sign of life.
            deadline: on the clock of `time.monotonic`; of waiting. `make` sees to its own.
            cancelled: looked at now and then while waiting; `make` sees to its own.
            waiting: called before waiting for another's training.

        Raises:
            TrainingFailed: the deadline passed while another was training; or what `make` raises, here or there.
            Cancelled: it was, while another was training.
        """
        if self._pid != os.getpid():  # forked: those who train have stayed behind
            self._lock, self._flights, self._pid = threading.Lock(), {}, os.getpid()
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if flight is None:
                    mine = self._flights[key] = _Flight()
            if flight is None:
                until = time.monotonic() + self._longest_wait_s if deadline is None else deadline
                return self._lead(key, mine, find, make, until, cancelled, waiting, patient=deadline is None)
            waiting()
            if not _landed(flight, math.inf if deadline is None else deadline, cancelled):
                raise _late()
            if flight.adapter is not None:
                return flight.adapter
            if flight.error is not None and not _gave_up(flight.error):  # its deadline was its own affair
                raise flight.error

    def _lead(
        self,
        key: str,
        flight: _Flight,
        find: Callable[[], Adapter | None],
        make: Callable[[Renew], Adapter],
        until: float,
        cancelled: Callable[[], bool],
        waiting: Callable[[], None],
        *,
        patient: bool,
    ) -> Adapter:
        try:
            flight.adapter = self._across(key, find, make, until, cancelled, waiting, patient=patient)
            return flight.adapter
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.done.set()

    def _across(
        self,
        key: str,
        find: Callable[[], Adapter | None],
        make: Callable[[Renew], Adapter],
        until: float,
        cancelled: Callable[[], bool],
        waiting: Callable[[], None],
        *,
        patient: bool,
    ) -> Adapter:
        held: list[tuple[Leases, str]] = []
        try:
            for leases in self._leases:
                token = None
                while token is None:
                    try:
                        token = leases.take(key, self._lease_s)
                    except StoreUnavailable:
                        break  # nobody can say who trains; the store itself tells of the fault
                    if token is not None:
                        held.append((leases, token))
                    elif (found := find()) is not None:
                        return found
                    elif time.monotonic() >= until:
                        if not patient:
                            raise _late()
                        break
                    elif cancelled():
                        raise Cancelled
                    else:
                        waiting()
                        time.sleep(self._poll_s)
            found = find()  # the holder before us may have finished since we last looked
            return found if found is not None else make(self._renewing(key, held))
        finally:
            for leases, token in reversed(held):
                try:
                    leases.release(key, token)
                except StoreUnavailable:
                    continue  # it runs out by itself

    def _renewing(self, key: str, held: Sequence[tuple[Leases, str]]) -> Renew:
        last = time.monotonic()

        def renew() -> None:
            nonlocal last
            if time.monotonic() - last < self._lease_s / 3:
                return
            last = time.monotonic()
            for leases, token in held:
                try:
                    leases.renew(key, token, self._lease_s)
                except StoreUnavailable:
                    continue

        return renew


def _late() -> TrainingFailed:
    return TrainingFailed("deadline reached while another solve was training this adapter", gave_up=True)


def _landed(flight: _Flight, until: float, cancelled: Callable[[], bool]) -> bool:
    """Wait for another's training, and say whether it came to an end in time."""
    while not flight.done.wait(min(_LOOK_UP_S, max(0.0, until - time.monotonic()))):
        if cancelled():
            raise Cancelled
        if time.monotonic() >= until:
            return False
    return True


def _gave_up(error: Exception) -> bool:
    """Say whether it ended for reasons of whoever led it: others may go on."""
    return isinstance(error, Cancelled | DeadlinePassed) or (isinstance(error, TrainingFailed) and error.gave_up)
