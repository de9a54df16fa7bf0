"""The service on uvicorn: one process that listens, and stops as it is told."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time

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

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

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


def make_server(app: Gate, service: Service) -> Server:
    """Return a server, to be run with the socket it is to listen on."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the gate writes one, without what is in paths and queries
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(_LEFT_TO_SEND_S),
    )
    return Server(config, service)


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
