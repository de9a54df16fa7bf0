"""From panels to HTML: the templates, what all of them are given, and a page as one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from router.values_shown import printable

STATIC = {"app.css": "text/css", "htmx.min.js": "text/javascript"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page is given beside its own content."""

    theme: str = "system"  # or "dark", "light"
    here: str = "/"  # path and query of the page
    token: str = ""  # of its forms
    offline: bool = False  # one file: no links to elsewhere, no forms


def render(template: str, frame: Frame, content: Mapping[str, object]) -> str:
    """Fill a template; everything in it that is not markup of ours is escaped, and nothing in it is invisible."""
    style = _offline_style() if frame.offline else None
    return _templates().get_template(template).render(frame=frame, style=style, **content)


def static(name: str) -> bytes:
    """Return a file that pages ask for."""
    return files("router.ui").joinpath("static", name).read_bytes()


@dataclass(frozen=True, slots=True)
class _Style:
    text: Markup
    digest: str  # for the content policy


@cache
def _offline_style() -> _Style:
    text = static("app.css").decode()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return _Style(Markup(text), f"sha256-{digest}")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("router.ui", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _visible(value: object) -> object:
    """Write out what cannot be seen in any text that a template shows, marks that turn its direction included."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
