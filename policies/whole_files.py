"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

UNFINISHED = ".tmp"  # suffix of what a crash leaves behind; whoever owns the folder removes it


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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
