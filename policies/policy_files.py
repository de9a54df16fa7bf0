"""Policies as files that never change: each is named after the SHA-256 of its bytes.

A file is there whole or not at all, also after a crash, and is trusted only once its bytes have been compared with its
name. What the bytes mean is left to others; nothing here runs or unpickles them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from policies.errors import PolicyFileDamaged
from policies.whole_files import UNFINISHED, sync_folder, write_whole

SUFFIX = ".policy"


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
        sync_folder(folder)  # the one who made it may have crashed before doing so
        return version_id
    write_whole(path, content, reached=lambda point: reached(f"policy file: {point}"))
    return version_id


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
