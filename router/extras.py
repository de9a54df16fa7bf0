"""Extras: what has to be installed besides for a command, and whether it is."""

from __future__ import annotations

import importlib.util

from router.settings import SettingsError

EXTRAS = {  # modules of each, as pyproject.toml names their packages
    "serve": ("fastapi", "jinja2", "prometheus_client", "uvicorn"),
    "ui": ("fastapi", "jinja2", "uvicorn"),
}


def lacking(extra: str) -> tuple[str, ...]:
    """Return the modules of an extra that are not installed."""
    return tuple(name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None)


def remedy_for(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'ttt-router[{extra}]'"


def require_extra(extra: str) -> None:
    """Make sure that an extra is installed.

    Raises:
        SettingsError: it is not.
    """
    if missing := lacking(extra):
        remedy = f"Install them: {remedy_for(extra)}."
        raise SettingsError(f"{', '.join(missing)} not installed", variable=extra, remedy=remedy)
