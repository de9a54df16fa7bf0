"""Secrets taken out of what is told of faults, before it is kept or shown.

A store or a server may say in its error which URL it was given. The task and its answers are the user's own and are
never touched.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from router.settings import Settings

MASK = "…"
_SHORTEST = 4  # a shorter secret would be found in every other word; in a URL it is masked all the same
_CREDENTIALS = re.compile(r"(?<=://)[^/\s?#]*@")  # user and password of any URL; a password may hold an @
_PARAMETER = re.compile(r"((?:password|passwd|secret|token|api[_-]?key)\s*[=:]\s*)[^\s&,;'\"]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Redactor:
    """Masks secrets that are known, and whatever looks like the credentials of a URL.

    Example:
        >>> Redactor(("hunter22",))("redis://:pw@host refused; tried hunter22")
        'redis://…@host refused; tried …'
    """

    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Know what the settings hold: what adapters are signed with, and the passwords of ledger, store and server."""
        found = [each.strip() for each in (settings.store_secrets or "").split(",")]
        found.append(settings.remote_api_key or "")
        for url in (settings.ledger_url or "", settings.store_url, settings.remote_url or ""):
            found += _passwords(url)
        forms = {form for secret in found if len(secret) >= _SHORTEST for form in _forms(secret)}
        return cls(tuple(sorted(forms, key=lambda form: (-len(form), form))))  # the longest first: one may hold another

    def __call__(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        text = _CREDENTIALS.sub(f"{MASK}@", text)
        return _PARAMETER.sub(rf"\g<1>{MASK}", text)


def _passwords(url: str) -> list[str]:
    _, there, rest = url.partition("://")
    if not there:
        return []
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    whole = rest if "@" in rest and "@" not in authority else authority  # a password with a slash in it
    password = whole.rpartition("@")[0].partition(":")[2]
    return [password, *re.findall(r"[?&](?:password|secret|token)=([^&#]+)", url)]


def _forms(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, as in a URL, as in a quoted string."""
    plain = {secret, unquote(secret)}
    quoted = {form for each in plain for form in (quote(each, safe=""), quote(each), repr(each)[1:-1])}
    return plain | quoted | {json.dumps(each)[1:-1] for each in plain}
