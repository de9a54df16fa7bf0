"""The log of a process as JSON, one object a line, with all that Python would write to stderr besides.

Needs nothing that has to be installed, so that what is missing can be said in it too.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger("ttt_router.serve")


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with whatever came as `extra`, secrets masked."""

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "said": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in self._USUAL}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return self._redact(json.dumps(line, default=str))


def log_as_json(redact: Callable[[str], str], level: str) -> None:
    """Write the log of this process to stderr as JSON, secrets masked: warnings and what ends a thread, too.

    Args:
        level: of our own log and of uvicorn's.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(redact))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for ours in ("ttt_router", "uvicorn.error"):
        logging.getLogger(ours).setLevel(level.upper())
    logging.captureWarnings(True)
    threading.excepthook = _thread_ended


def _thread_ended(about: threading.ExceptHookArgs) -> None:
    if about.exc_type is not SystemExit:  # which ends a thread quietly
        log.error("a thread ended: %s", about.thread and about.thread.name, exc_info=about.exc_value)
