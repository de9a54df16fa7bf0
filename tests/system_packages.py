"""System packages whose programs the tests start: installed where they are missing and we may."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def found_or_installed(find: Callable[[], Found | None], package: str) -> Found:
    """Return what `find` finds, after installing the Debian package where it finds nothing and we may.

    Raises:
        RuntimeError: there is nothing, and it may not be installed; it says how.
    """
    lock_file = Path(tempfile.gettempdir()) / f"ttt-router-tests-packages-{os.geteuid()}.lock"  # root alone installs
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in another process may be installing it
        found = find()
        if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
            print(f"Installing the system package {package} ...", flush=True)
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # starts no service
            for command in (["update"], ["install", "-y", package]):
                subprocess.run(["apt-get", "-qq", *command], check=False, stdout=subprocess.DEVNULL, env=environment)
            found = find()
    if found is None:
        raise RuntimeError(f"these tests need {package}. On Debian or Ubuntu: sudo apt-get install {package}")
    return found
