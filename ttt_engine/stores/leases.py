"""Leases between the processes of one machine: a locked file for each adapter that is being trained.

The lock goes with its process, however that ends. A holder that is stopped instead keeps it; its file says until when
it holds, and after that the next one takes another file in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from pathlib import Path

from ttt_engine.adapter import checked_key
from ttt_engine.errors import StoreUnavailable

_GRACE_S = 0.5  # between locking a file and writing into it until when, and for clocks that differ a little


class FileLeases:
    """`Leases` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, int] = {}  # token: file descriptor

    def take(self, key: str, lease_s: float) -> str | None:
        """Take the lease; see `Leases`."""
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for _ in range(8):  # another one may put a new file there between our opening and our locking
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                held = False
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _hold_until(handle, time.time() + lease_s)
                    held = _is_at(handle, path)  # after writing: until then one may take a dead one's file for expired
                except BlockingIOError:
                    expired = os.fstat(handle).st_mtime + _GRACE_S < time.time()
                    if not expired:
                        return None
                    if _is_at(handle, path):
                        with contextlib.suppress(FileNotFoundError):
                            path.unlink()
                finally:
                    if not held:
                        os.close(handle)
                if held:
                    token = secrets.token_hex(8)
                    self._held[token] = handle
                    return token
        except OSError as error:
            raise StoreUnavailable(f"cannot lock {path}: {error.strerror or error}") from error
        return None

    def renew(self, key: str, token: str, lease_s: float) -> bool:
        """Hold the lease longer, if it is ours still; see `Leases`."""
        handle = self._held.get(token)
        if handle is None or not _is_at(handle, self._path(key)):
            return False
        try:
            _hold_until(handle, time.time() + lease_s)
        except OSError as error:
            raise StoreUnavailable(f"cannot renew the lease of {key}: {error.strerror or error}") from error
        return True

    def release(self, key: str, token: str) -> None:
        """Give the lease back; see `Leases`."""
        handle = self._held.pop(token, None)
        if handle is not None:
            path = self._path(key)
            with contextlib.suppress(OSError):
                if _is_at(handle, path):
                    path.unlink()
            os.close(handle)

    def _path(self, key: str) -> Path:
        return self.folder / f"{checked_key(key)}.lease"


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _hold_until(handle: int, until: float) -> None:
    os.utime(handle, (until, until))
