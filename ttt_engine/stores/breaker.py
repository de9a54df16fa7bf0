"""A circuit breaker: after a few failures in a row nothing is asked for a while, then one question, asked aside.

Whoever comes while the circuit is open is told so at once. The first to come after the pause starts the question in a
thread of its own and does not wait for it, so no solve pays for finding out that the other side is still away.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from ttt_engine.errors import StoreUnavailable

_log = logging.getLogger(__name__)


class Breaker:
    """Opens after `failures` in a row, or once failures in a row have taken `budget_s` together.

    Args:
        probe: asks whether the other side is back; raises `StoreUnavailable` where it is not.
        pause_s: from opening to the first question, and between questions.
    """

    def __init__(
        self,
        probe: Callable[[], None],
        *,
        failures: int = 3,
        budget_s: float = 0.45,
        pause_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._failures = failures
        self._budget_s = budget_s
        self._pause_s = pause_s
        self._clock = clock
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._n_failed = 0
        self._lost_s = 0.0
        self._asked_at: float | None = None  # when the circuit opened, or was last tried; None: it is closed
        self._reason = ""
        self._code = ""
        self._asking = False

    @property
    def is_open(self) -> bool:
        """Say whether nothing is asked at present."""
        return self._asked_at is not None

    def check(self) -> None:
        """Let pass, or not.

        Raises:
            StoreUnavailable: the circuit is open.
        """
        if self._asked_at is None:
            return
        if self._pid != os.getpid():  # forked: whoever was asking has stayed behind
            self._lock, self._asking, self._pid = threading.Lock(), False, os.getpid()
        with self._lock:
            asked_at = self._asked_at
            if asked_at is None:  # it has just been closed
                return
            due = self._clock() - asked_at >= self._pause_s and not self._asking
            self._asking = self._asking or due
        if due:
            try:
                threading.Thread(target=self._ask, name="ttt-router-store-probe", daemon=True).start()
            except RuntimeError:  # the system has no thread left: the next to come tries again
                self._asking = False
        raise StoreUnavailable(self._reason, code=self._code)

    def succeeded(self) -> None:
        """Note that the other side has answered."""
        if self._n_failed or self._asked_at is not None:
            with self._lock:
                was_open = self._asked_at is not None
                self._n_failed, self._lost_s, self._asked_at = 0, 0.0, None
            if was_open:
                _log.warning("the store of adapters is back")

    def failed(self, error: StoreUnavailable, took_s: float) -> None:
        """Note that it has not, and what was lost on it."""
        with self._lock:
            self._n_failed += 1
            self._lost_s += took_s
            self._reason, self._code = str(error), error.code
            opens = self._n_failed >= self._failures or self._lost_s >= self._budget_s
            opened = opens and self._asked_at is None
            if opens:
                self._asked_at = self._clock()
        if opened:
            _log.warning("going on without it: %s", error)

    def _ask(self) -> None:
        try:
            self._probe()
        except StoreUnavailable as error:
            self.failed(error, 0.0)
        else:
            self.succeeded()
        finally:
            self._asking = False
