"""A TCP proxy that breaks what passes: the toxics of Shopify's toxiproxy, as far as a cache meets them.

It runs an event loop in a thread of its own. What is set applies to connections that are open as well as to new ones,
to what comes back from the server; `black_hole` to both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Toxics:
    """What the proxy does to a connection; nothing, by default."""

    latency_s: float = 0.0  # before every part that is passed on
    black_hole: bool = False  # connections are accepted, nothing is passed on either way
    reset_after: int | None = None  # bytes from the server, then the connection is reset
    cut_after: int | None = None  # bytes from the server, then it is closed in good order
    slice_bytes: int | None = None  # what comes from the server is passed on in parts of so many bytes
    slice_delay_s: float = 0.0  # between these
    refuse: bool = False  # new connections are reset at once


class FaultProxy:
    """Listens on a port of its own and passes everything on to `target`, as the toxics let it."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.toxics = Toxics()
        self.port = 0
        self.n_connections = 0
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def set(self, toxics: Toxics) -> None:
        """Change what is done, from the next part of every connection on."""
        self.toxics = toxics

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.n_connections += 1
        try:
            if self.toxics.refuse:
                _reset(writer)
                return
            upstream, sink = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        finally:
            self._open.discard(task)
        self._open.add(task)
        ways = [
            asyncio.create_task(self._pass_on(reader, sink, from_server=False)),
            asyncio.create_task(self._pass_on(upstream, writer, from_server=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, sink):
                end.close()
            self._open.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool) -> None:
        n_passed = 0
        with contextlib.suppress(OSError):
            while part := await reader.read(_READ_BYTES):
                while self.toxics.black_hole:
                    await asyncio.sleep(0.01)
                toxics = self.toxics
                if not from_server:
                    writer.write(part)
                    await writer.drain()
                    continue
                if toxics.latency_s:
                    await asyncio.sleep(toxics.latency_s)
                limit = toxics.reset_after if toxics.reset_after is not None else toxics.cut_after
                left = None if limit is None else max(0, limit - n_passed)
                await self._write(writer, part if left is None else part[:left], toxics)
                n_passed += len(part)
                if left is not None and len(part) >= left:
                    if toxics.reset_after is not None:
                        _reset(writer)
                    return

    async def _write(self, writer: asyncio.StreamWriter, part: bytes, toxics: Toxics) -> None:
        step = toxics.slice_bytes or max(1, len(part))
        for start in range(0, len(part), step):
            writer.write(part[start : start + step])
            await writer.drain()
            if toxics.slice_bytes is not None:
                await asyncio.sleep(toxics.slice_delay_s)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets a reset: linger on, for no time."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
