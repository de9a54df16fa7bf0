"""Whether what the service depends on can be reached: looked at every few seconds, so that to say it asks nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

log = logging.getLogger("ttt_router.serve")

_LOOK_S = 5.0  # between looks


class Watch:
    """Calls checks, one after the other, in a thread of its own. Why one fails is for the log: it names servers.

    Args:
        checks: by what is said where one of them raises, such as `the ledger cannot be reached`.
    """

    def __init__(self, checks: Mapping[str, Callable[[], object]]) -> None:
        self._checks = checks
        self._faults: tuple[str, ...] = ()
        self._stopped = threading.Event()
        # one that hangs, on a disk or a line, keeps nobody from stopping
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be reached at the last look."""
        return self._faults

    def start(self) -> None:
        """Look now and then until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self) -> tuple[str, ...]:
        """Look now; return what cannot be reached."""
        before, found = self._faults, []
        for said, check in self._checks.items():
            try:
                check()
            except Exception as error:  # whatever it is: a thread that ended would go on saying that all is well
                found.append(said)
                if said not in before:
                    log.warning(said, extra={"why": f"{type(error).__name__}: {error}"})
        for said in before:
            if said not in found:
                log.warning("no longer: %s", said)
        self._faults = tuple(found)
        return self._faults

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            self.look()
