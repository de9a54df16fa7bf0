"""The service on uvicorn: one process that listens, and stops as it is told."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable

import uvicorn

from router.serve.gate import Gate
from router.serve.service import Service
from router.settings import SettingsError

_KEEP_INTERPRETER_S = 0.0005
_LEFT_TO_SEND_S = 10.0  # after the last task is over or let go: for whoever reads slowly
_WAITING_CONNECTIONS = 2048  # as uvicorn has it
_LOOK_UP_S = 0.02  # from waiting for what runs


class Server(uvicorn.Server):
    """A server that lets its service know at once when it is told to stop."""

    def __init__(self, config: uvicorn.Config, service: Service, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._listens = service, listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._listens()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing more, let go of what is not done in time, then close.

        While anything is at work it goes on listening, and says to whoever looks that it stops; told once more (Ctrl-C)
        it closes at once.
        """
        self._service.begin_to_stop()
        end = time.monotonic() + self._service.settings.serve_stop_s + _LEFT_TO_SEND_S
        while self._service.is_busy and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(_LOOK_UP_S)
        await super().shutdown(sockets)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has an address and listens; who asks waits until the server runs.

    Only one that listens keeps others from the same address: those that are merely bound can be several.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # it names no protocol, so asyncio leaves it, and the body of an answer would wait 40 ms for its head
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((host, port))
        made.listen(_WAITING_CONNECTIONS)
    except OSError as error:
        made.close()
        remedy = "Give another (--host, --port), or 0 for any port that is free."
        raise SettingsError(f"{host}:{port}: {error.strerror}", variable="port", remedy=remedy) from None
    return made


def make_server(app: Gate, service: Service, listens: Callable[[], None] = lambda: None) -> Server:
    """Return a server, to be run with the socket it is to listen on.

    Args:
        listens: called as soon as it does.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the gate writes one, without what is in paths and queries
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(_LEFT_TO_SEND_S),
    )
    return Server(config, service, listens)


def run(server: Server, listening: socket.socket, connect: Callable[[], None]) -> None:
    """Serve until the server is told to stop, and meanwhile connect to the workers; it ends where these cannot be had.

    Raises:
        Exception: what `connect` raised.
    """
    failed: list[Exception] = []

    def connected() -> None:
        try:
            connect()
        except Exception as error:
            while not server.started:  # told before it listens it would leave what it has begun
                time.sleep(_LOOK_UP_S)
            if not server.should_exit:  # else it was stopped meanwhile, and this is what came of that
                failed.append(error)
                server.should_exit = True

    threading.Thread(target=connected, name="ttt-router connects", daemon=True).start()
    server.run(sockets=[listening])
    if failed:
        raise failed[0]


def favour_the_loop() -> None:
    """Let workers give way to the thread that answers sooner than Python would by itself.

    Each of them may keep the interpreter for so long at a time; by default it is 5 ms, and several may come first.
    """
    sys.setswitchinterval(_KEEP_INTERPRETER_S)


def forget_what_is_loaded() -> None:
    """Have the garbage collector leave alone what is there by now: modules, schemas and the model stay for good.

    To look through them takes 60 ms, now and then, and everybody waits.
    """
    gc.collect()
    gc.freeze()
