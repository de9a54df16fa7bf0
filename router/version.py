"""Which release this is."""

from __future__ import annotations

UNKNOWN = "(not installed)"


def installed_version() -> str:
    """Return the version that is installed; of a checkout that nobody has installed none is known."""
    import importlib.metadata  # a twentieth of a second, and most commands never say it

    try:
        return importlib.metadata.version("ttt-router")
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
