"""Policies as files that never change: each is named after the SHA-256 of its bytes.

A file is there whole or not at all, also after a crash, and is trusted only once its bytes have been compared with its
name. What the bytes mean is left to others; nothing here runs or unpickles them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from policies.errors import PolicyFileDamaged

SUFFIX = ".policy"
UNFINISHED = ".tmp"


def version_id_of(content: bytes) -> str:
    """Return the name that `content` has."""
    return hashlib.sha256(content).hexdigest()


def path_of(folder: Path, version_id: str) -> Path:
    """Return where a version's file is, or would be."""
    return folder / f"{version_id}{SUFFIX}"


def write(folder: Path, content: bytes, reached: Callable[[str], object]) -> str:
    """Make the file of `content` and return its name; on the disk when this returns. A whole one is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    version_id = version_id_of(content)
    path = path_of(folder, version_id)
    if _bytes_of(path) == content:
        _sync_folder(folder)  # the one who made it may have crashed before doing so
        return version_id
    write_whole(path, content, reached=lambda point: reached(f"policy file: {point}"))
    return version_id


def write_whole(
    path: Path, content: bytes, *, mode: int = 0o666, reached: Callable[[str], object] = lambda point: None
) -> None:
    """Make a file hold `content`, on the disk when this returns; after a crash it holds that or what it held before.

    Args:
        mode: of the file, less what the process masks.
        reached: told of each point at which a crash would leave something else behind.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.stem}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            reached("written")
            os.fsync(file.fileno())
        reached("synced")
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)  # a full disk should not be filled with these
        raise
    reached("renamed")
    _sync_folder(path.parent)


def read(folder: Path, version_id: str) -> bytes:
    """Return the bytes that `version_id` names.

    Raises:
        PolicyFileDamaged: the file is missing or holds anything else.
    """
    path = path_of(folder, version_id)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PolicyFileDamaged(version_id, str(path), error.strerror or str(error)) from error
    if version_id_of(content) != version_id:
        raise PolicyFileDamaged(version_id, str(path), "its bytes are not those that its name stands for")
    return content


def strays(folder: Path, known: Collection[str]) -> list[Path]:
    """Return the files of `folder` that a crash has left behind: unfinished ones, and ones no version is known of."""
    if not folder.is_dir():
        return []
    kept = {f"{version_id}{SUFFIX}" for version_id in known}
    return sorted(path for path in folder.iterdir() if path.suffix in (SUFFIX, UNFINISHED) and path.name not in kept)


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
