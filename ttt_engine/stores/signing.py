"""The deployment's secrets, and signing with them. The first secret signs, all are accepted: so secrets are changed.

A signature is HMAC-SHA256 under a key of the tenant's own, so that what one tenant's adapters were signed with says
nothing for another's.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ttt_engine.errors import StoreMisconfigured, StoreUnavailable
from ttt_engine.stores.tenants import checked_tenant

SECRET_FILE = "adapter-secret"
_LEAST_CHARS = 16
_PURPOSE = b"ttt-router adapter envelope 1\0"


class Signer:
    """Signs for one tenant, and says whether a signature is one of ours for that tenant."""

    def __init__(self, secrets: Sequence[str], tenant: str) -> None:
        if not secrets or any(len(secret) < _LEAST_CHARS for secret in secrets):
            raise StoreMisconfigured(
                "a secret for the adapters is missing or too short",
                remedy=f"Give one or more of at least {_LEAST_CHARS} characters each.",
            )
        self.tenant = checked_tenant(tenant)
        derived = (hmac.digest(secret.encode(), _PURPOSE + tenant.encode(), hashlib.sha256) for secret in secrets)
        self._keys = tuple(derived)

    def sign(self, *parts: bytes | memoryview) -> bytes:
        """Return the 32 bytes that sign the parts, one after the other, under the first secret."""
        return _mac(self._keys[0], parts)

    def accepts(self, signature: bytes | memoryview, *parts: bytes | memoryview) -> bool:
        """Say whether any of the secrets signed the parts; takes the same time wherever a signature differs."""
        verdicts = [hmac.compare_digest(_mac(key, parts), bytes(signature)) for key in self._keys]  # all, always
        return any(verdicts)


def load_secrets(home: Path, given: str | None = None) -> tuple[str, ...]:
    """Return the secrets that are given, separated by commas, or else those of the file in `home`, one a line.

    The file is made with the first use, readable by its owner alone. To change the secret, put a new line first; take
    the old one away once what it signed has run out.

    Raises:
        StoreMisconfigured: the file can be read by others.
        StoreUnavailable: it cannot be made or read.
    """
    if given is not None:
        return tuple(secret.strip() for secret in given.split(",") if secret.strip())
    path = home / SECRET_FILE
    try:
        if not path.exists():
            _make(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise StoreMisconfigured(f"{path} can be read by others (mode {mode:o})", remedy=f"chmod 600 {path}")
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(
            f"the secret in {path} cannot be made or read ({error}). Make the folder one that may be written, or set "
            "TTT_ROUTER_STORE_SECRETS."
        ) from error


def _make(path: Path) -> None:
    """Write a new secret beside its place and link it there: of several processes that do, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(prefix=".new-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        os.unlink(new)


def _mac(key: bytes, parts: Sequence[bytes | memoryview]) -> bytes:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        mac.update(part)
    return mac.digest()
