"""The connection of this process to a Ray cluster: made, made anew where it is lost, and ended if we made it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import ray

_REACHED_WITHIN_S = 5.0  # a port of a cluster elsewhere
_MADE_WITHIN_S = 30.0  # that it is waited for at the end: half made, it could not be ended
_SIGACTION_BYTES = 256  # more than C's struct has, which is not looked into
_OBJECT_BYTES = 100 * 2**20  # tasks and answers are small


class Connection:
    """There is one in a process: where the program has made it, that is used, and left to it.

    Args:
        address: as `RayExecutor` has it.

    Attributes:
        id: of the connection, as it was last looked at; None: there was none. What came through another, actors and
            results, will not be heard of any more.
    """

    def __init__(self, address: str) -> None:
        self.id: str | None = None
        self._address = address
        self._is_ours = self._closed = False
        self._making = threading.Lock()

    def resources(self, *, in_use: bool) -> Mapping[str, float]:
        """Return what the cluster has, after connecting to it where there is no connection, or none that works.

        Args:
            in_use: there are actors that are reached through it, so that it is not given up for one fault.

        Raises:
            Exception, SystemExit: the cluster cannot be reached; of many kinds, and Ray exits where it is shut down.
        """
        if not ray.is_initialized():
            self.id = None
        elif (found := self._asked(give_up=self._is_ours and not in_use)) is not None:
            return found
        self._make()
        return self._asked() or {}

    @property
    def is_ended(self) -> bool:
        """Whether there is none in this process. Asks nobody: a cluster that is away would take half a minute."""
        return not ray.is_initialized()

    def close(self) -> None:
        """End it if it is ours and, of a cluster of this machine alone, that too."""
        self._closed = True  # one that is being made is ended by whoever makes it, should it take longer
        if self._making.acquire(timeout=_MADE_WITHIN_S):
            try:
                self._end()
            finally:
                self._making.release()

    def _asked(self, *, give_up: bool = False) -> Mapping[str, float] | None:
        """Ask what there is; None: the connection does not work, and is given up."""
        try:
            found = dict(ray.cluster_resources())
            self.id = ray.get_runtime_context().get_worker_id()
            return found
        except (Exception, SystemExit):
            if not give_up:
                raise
            return None

    def _make(self) -> None:
        with self._making:
            self._end()  # what is left of one that was lost
            if self._closed:
                raise ConnectionError("closed")
            _check_port(self._address)
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray takes this from nowhere else
            local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
            options = local if self._address == "local" else {}
            with _sigterm_left_alone():
                ray.init(address=self._address, log_to_driver=False, configure_logging=False, **options)
            self._is_ours = True
            if self._closed:
                self._end()

    def _end(self) -> None:
        if self._is_ours:
            ray.shutdown()
            self._is_ours = False


def _check_port(address: str) -> None:
    """See at once whether anybody listens; Ray would try for half a minute.

    Raises:
        OSError: nobody does.
    """
    if address.startswith("ray://"):
        at = urlsplit(address)
        socket.create_connection((at.hostname or "", at.port or 10001), _REACHED_WITHIN_S).close()


@contextlib.contextmanager
def _sigterm_left_alone() -> Iterator[None]:
    """Connect without Ray's taking SIGTERM for a crash.

    Ray sets a handler that tells where the program was, sets an alarm that aborts it 3 s later, and only then calls the
    one before: a server that takes longer to stop would end with 134. Python lets no thread but the first set handlers;
    C does. Until it is put back, in the last second of connecting, Ray's is there.
    """
    libc = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(_SIGACTION_BYTES)
    libc.sigaction(signal.SIGTERM, None, before)
    logger = logging.getLogger("ray._private.worker")  # which warns that it sets no handler of Python's in a thread
    logger.addFilter(_is_not_of_sigterm)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_of_sigterm)
        libc.sigaction(signal.SIGTERM, before, None)


def _is_not_of_sigterm(record: logging.LogRecord) -> bool:
    return "SIGTERM" not in record.getMessage()
