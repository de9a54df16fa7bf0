"""Whether what the service depends on can be reached: looked at every few seconds, so that to say it asks nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

log = logging.getLogger("ttt_router.serve")

_LOOK_S = 5.0  # between looks
_LATE_S = 10.0  # that a check may take before it counts as one that fails


class Watch:
    """Calls checks, one after the other, in a thread of its own. Why one fails is for the log: it names servers.

    Args:
        checks: by what is said where one of them raises, such as `the ledger cannot be reached`.
    """

    def __init__(self, checks: Mapping[str, Callable[[], object]]) -> None:
        self._checks = checks
        self._faults: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._n_looks = 0
        self._at_work: str | None = None
        self._is_late = False  # what is at work, which may never come back
        self._wanted, self._stopped = threading.Event(), threading.Event()
        # one that hangs, on a disk or a line, keeps nobody from stopping
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be reached at the last look, or has not answered this one for too long."""
        faults = self._faults
        return tuple(said for said in self._checks if said in faults)

    def start(self) -> None:
        """Look now and then until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._wanted.set()
        with self._changed:
            self._changed.notify_all()

    def look(self) -> tuple[str, ...]:
        """Have it looked now, or join a look that goes on; return what cannot be reached.

        However many ask there is one look at a time, and none waits for a check that is late.
        """
        with self._changed:
            n_before = self._n_looks
            self._wanted.set()
            self._changed.wait_for(lambda: self._n_looks > n_before or self._is_late or self._stopped.is_set())
        return self.faults

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wanted.wait(_LOOK_S)
            if self._stopped.is_set():
                return
            for said, check in self._checks.items():
                self._try(said, check)
            with self._changed:
                self._n_looks += 1
                self._wanted.clear()
                self._changed.notify_all()

    def _try(self, said: str, check: Callable[[], object]) -> None:
        late = threading.Timer(_LATE_S, self._late, (said,))
        late.daemon = True
        self._at_work = said
        late.start()
        why = None
        try:
            check()
        except Exception as error:  # whatever it is: a thread that ended would go on saying that all is well
            why = f"{type(error).__name__}: {error}"
        late.cancel()
        with self._changed:
            self._at_work, self._is_late = None, False
            self._note(said, why)

    def _late(self, said: str) -> None:
        with self._changed:
            if self._at_work == said:
                self._is_late = True
                self._note(said, f"no answer within {_LATE_S:g} s")
                self._changed.notify_all()

    def _note(self, said: str, why: str | None) -> None:
        if why is not None and said not in self._faults:
            log.warning(said, extra={"why": why})
            self._faults = self._faults | {said}
        elif why is None and said in self._faults:
            log.warning("no longer: %s", said)
            self._faults = self._faults - {said}
