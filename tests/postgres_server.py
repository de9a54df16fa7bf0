"""A real PostgreSQL for tests: found or installed, started on a socket of its own, stopped and removed afterwards."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.system_packages import found_or_installed

START_S = 120.0


@dataclass(slots=True)
class PostgresServer:
    """A running server, which nobody else knows of."""

    folder: Path  # of the data, the socket and what the server says
    binaries: Path
    user: int | None  # who the server runs as: it refuses root
    durable: bool
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql+psycopg://tests@/{database}?host={self.folder}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database, give its URL, and drop it."""
        name = f"d{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        sync = "on" if self.durable else "off"
        command: list[str | Path] = [
            self.binaries / "postgres",
            "-D",
            self.folder / "data",
            "-k",
            self.folder,
            "-h",
            "",
        ]
        command += ["-c", f"fsync={sync}", "-c", "max_connections=40", "-c", "shared_buffers=32MB"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, user=self.user, extra_groups=_groups(self.user)
            )
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(psycopg.OperationalError):
                self._execute("SELECT 1")
                return
            time.sleep(0.05)
        self.stop(signal.SIGQUIT)
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT in good order, SIGQUIT at once, as in a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None

    def _execute(self, statement: str) -> None:
        with psycopg.connect(host=str(self.folder), user="tests", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Give a fresh server.

    Args:
        durable: wait for the disk at every commit, which only a test that cuts the power would notice.

    Raises:
        RuntimeError: there is none, and none may be installed; it says how.
    """
    binaries = postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="ttt-pg-"))
    try:
        user = _unprivileged_user()
        if user is not None:
            os.chown(folder, user, -1)
        made = subprocess.run(
            [
                binaries / "initdb",
                "-D",
                folder / "data",
                "-U",
                "tests",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "-N",
                "--locale=C",
            ],
            capture_output=True,
            text=True,
            cwd="/",
            user=user,
            extra_groups=_groups(user),
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr[-2000:]}")
        server = PostgresServer(folder, binaries, user, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_binaries() -> Path:
    """Return the folder of the server's programs, installed first where that is needed and we may.

    Raises:
        RuntimeError: there are none and they may not be installed; it says how.
    """
    return found_or_installed(_found_binaries, "postgresql")


def _found_binaries() -> Path | None:
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda folder: [int(part) for part in folder.parent.name.split(".")], reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def _unprivileged_user() -> int | None:
    """Return the user to run the server as; None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return 65534


def _groups(user: int | None) -> list[int] | None:
    return None if user is None else []  # none of root's
