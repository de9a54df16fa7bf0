"""A real redis-server of a test's own: on a private socket and port, stopped afterwards by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.system_packages import found_or_installed

_STARTS_WITHIN_S = 20.0


def installed() -> str:
    """Return the path of redis-server or valkey-server, installed first where that is missing and allowed."""
    return found_or_installed(lambda: shutil.which("redis-server") or shutil.which("valkey-server"), "redis-server")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RedisServer:
    """A server with nothing but what it is given; `options` are those of redis.conf, without the dashes."""

    def __init__(self, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ttt-redis-"))  # short: a socket's path has 107 characters
        self.port = free_port()
        self.socket = self.folder / "s"
        self.options = {"save": "", "appendonly": "no"} | {
            name.replace("_", "-"): value for name, value in options.items()
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, **options)

    def start(self) -> Self:
        arguments = [
            installed(), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket),
            "--dir", str(self.folder), "--daemonize", "no",
        ]  # fmt: skip
        for name, value in self.options.items():
            arguments += [f"--{name}", *([value] if value == "" else value.split(" "))]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()
        return self

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Let it accept connections and say nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        assert self.process is not None
        until = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"redis-server ended at once with code {self.process.returncode}")
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(self.socket))
                    sock.sendall(b"PING\r\n")
                    if sock.recv(1):  # PONG, or that it wants a password
                        return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError("redis-server does not answer")


@contextmanager
def redis_server(**options: str) -> Iterator[RedisServer]:
    """Start a server for a with block."""
    with RedisServer(**options) as server:
        yield server
