"""Times as people give them on a command line: a date, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from router.settings import SettingsError

_AGO = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime, *, option: str) -> str:
    """Return a time in UTC, as the ledger writes it.

    Args:
        text: `2026-01-31`, `2026-01-31T12:00`, or `90m`, `36h`, `7d` ago. Without a zone it is UTC.
        option: what it was given as, for the error.

    Raises:
        SettingsError: it is none of these.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            at = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        remedy = "Give a date (2026-01-31), a time (2026-01-31T12:00) or how long ago (90m, 36h, 7d)."
        raise SettingsError(f"got {text[:40]!r}", variable=option, remedy=remedy) from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).isoformat(timespec="microseconds")
