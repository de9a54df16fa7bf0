"""Who may ask: keys, each of one tenant, compared in a time that says nothing of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from router.settings import Settings, SettingsError
from ttt_engine.stores.tenants import TENANT_NAME

SHORTEST = 16  # characters of a key
_KEY = re.compile(rf"[!-+\--~]{{{SHORTEST},256}}")  # printable ASCII without blank and comma
_NEW_KEY = """python -c 'import secrets; print("default=" + secrets.token_urlsafe(32))'"""


class ApiKeys:
    """The keys of all tenants; of each only its digest is kept, but for `secrets`, which are masked wherever told.

    Example:
        >>> ApiKeys([("lab", "a-key-of-16-chars")]).tenant("a-key-of-16-chars")
        'lab'
    """

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        self.secrets = tuple(key for _, key in keys)
        self._known = [(_digest(key), tenant) for tenant, key in keys]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Read the keys that the settings name.

        Raises:
            SettingsError: there is none, one is malformed, or others may read the file.
        """
        found = _parsed((settings.serve_keys or "").split(","), "TTT_ROUTER_SERVE_KEYS")
        if settings.serve_keys_file is not None:
            found += _parsed(_lines(settings.serve_keys_file), str(settings.serve_keys_file))
        if not found:
            remedy = f"Put tenant=key lines into a file that only you can read, such as {_NEW_KEY} prints, and name it."
            raise SettingsError("no key is set, so nobody could ask", variable="serve_keys_file", remedy=remedy)
        if len({key for _, key in found}) < len(found):
            raise SettingsError("one key is given twice", variable="serve_keys", remedy="Give each tenant its own.")
        return cls(found)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Everybody who has a key."""
        return tuple(sorted({tenant for _, tenant in self._known}))

    def tenant(self, presented: str) -> str | None:
        """Return whose key this is; takes as long for a wrong one as for any right one."""
        digest, found = _digest(presented), None
        for known, tenant in self._known:  # all of them: where it stops would tell
            if hmac.compare_digest(known, digest):
                found = tenant
        return found


def presented_in(header: bytes, *, basic: bool) -> str | None:
    """Return the key in an Authorization header, or None.

    Args:
        basic: accept what a browser sends of itself, with the key as the password.
    """
    scheme, _, value = header.decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic" or not basic:
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, no ASCII or no UTF-8
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _parsed(lines: Sequence[str], place: str) -> list[tuple[str, str]]:
    found = []
    for n, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        tenant, _, key = (part.strip() for part in entry.partition("="))
        if not re.fullmatch(TENANT_NAME, tenant) or not _KEY.fullmatch(key):
            # neither is repeated: it may be the secret
            remedy = f"Give tenant=key, a key of {SHORTEST} to 256 characters without blank or comma."
            raise SettingsError(f"entry {n} is not a tenant and its key", variable=place, remedy=remedy)
        found.append((tenant, key))
    return found


def _lines(file: Path) -> list[str]:
    try:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            remedy = f"Keep it to yourself: chmod 600 {file}"
            raise SettingsError("others may read this file of keys", variable=str(file), remedy=remedy)
        return file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(said, variable=str(file), remedy="Name a readable file of tenant=key lines.") from None
