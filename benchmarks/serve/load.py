"""Requests at a steady rate, whatever the server does with them, and how long each took from when it was due.

A plain HTTP client over asyncio's streams: a heavier one would measure itself on the cores that the server needs.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

TASK = {
    "demonstrations": [{"input": each, "output": each.upper()} for each in ("ada", "grace", "alan")],
    "queries": ["barbara"],
}


@dataclass
class Taken:
    """What came back, and when."""

    latencies_s: list[float] = field(default_factory=list)  # of answers with status 200
    statuses: Counter[int] = field(default_factory=Counter)  # 0: none, the connection broke
    without_retry_after: int = 0  # refusals that do not say when to come back

    @property
    def n(self) -> int:
        """Answers, and connections that broke."""
        return sum(self.statuses.values())

    def percentile_ms(self, share: float) -> float:
        """Return the latency, in ms, that this share of the good answers kept within."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Return what is written down."""
        return {
            "n": self.n,
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "p50_ms": round(self.percentile_ms(0.5), 2),
            "p99_ms": round(self.percentile_ms(0.99), 2),
            "worst_ms": round(self.percentile_ms(1.0), 2),
        }


class Connections:
    """Connections to one server, kept open and used again; a context manager, which closes them."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._key = str(parts.hostname), int(parts.port or 80), key
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer.

        Raises:
            OSError, asyncio.IncompleteReadError: the connection broke.
        """
        content = b"" if body is None else json.dumps(body).encode()
        sent = {"Host": "x", "Authorization": f"Bearer {self._key}", "Content-Length": str(len(content))}
        sent |= {"Content-Type": "application/json"} if content else {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in {**sent, **(headers or {})}.items())]
        message = "\r\n".join([*lines, "", ""]).encode() + content
        while self._idle:
            reader, writer = self._idle.pop()
            try:
                return await self._exchange(reader, writer, message)
            except (OSError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b""):  # else the server had closed it, since nothing came for a while
                    raise
        return await self._exchange(*await asyncio.open_connection(self._host, self._port), message)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        try:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            received = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            answered = await reader.readexactly(int(received.get("content-length", "0")))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head[0].split()[1]), received, answered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._idle:
            connection[1].close()
        self._idle.clear()


class Request(NamedTuple):
    """What is asked for; see `Connections.ask`."""

    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] | None = None


Ask = Callable[[int], Request]  # by the number of the request


async def open_loop(
    connections: Connections,
    ask: Ask,
    *,
    rate: float,
    seconds: float,
    taken: Taken | None = None,
    all_sent: asyncio.Event | None = None,
) -> Taken:
    """Send `rate` requests a second, each when it is due, and wait for all answers; latency counts from then.

    Args:
        taken: what to add to; it holds what came back by then where this is cancelled.
        all_sent: is set when the last request is on its way, while answers may still be waited for.
    """
    taken = taken or Taken()
    began = time.perf_counter()

    async def one(i: int, due: float) -> None:
        try:
            status, headers, _ = await connections.ask(*ask(i))
        except (OSError, asyncio.IncompleteReadError):
            status, headers = 0, {}
        taken.statuses[status] += 1
        taken.without_retry_after += status == 503 and "retry-after" not in headers
        if status == 200:
            taken.latencies_s.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as running:
        for i in range(int(rate * seconds)):
            due = began + i / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            running.create_task(one(i, due))
        if all_sent is not None:
            all_sent.set()
    return taken


async def closed_loop(connections: Connections, ask: Ask, n: int) -> Taken:
    """Send one request after the other."""
    taken = Taken()
    for i in range(n):
        began = time.perf_counter()
        status, _, _ = await connections.ask(*ask(i))
        taken.statuses[status] += 1
        if status == 200:
            taken.latencies_s.append(time.perf_counter() - began)
    return taken


def solving(i: int) -> Request:
    """Ask for another task each time."""
    return Request("POST", "/v1/solve", {"tasks": [{**TASK, "queries": [f"query number {i}"]}]})


def solving_under_a_key(i: int) -> Request:
    """Ask as `router.client` does: the server keeps what it answers, in case it is asked again."""
    return solving(i)._replace(headers={"Idempotency-Key": uuid.uuid4().hex})


def deciding(i: int) -> Request:
    """Ask for a decision about another task each time."""
    return Request("POST", "/v1/decide", {"task": {**TASK, "queries": [f"query number {i}"]}})


def health(i: int) -> Request:
    """Ask how it goes."""
    return Request("GET", "/health")
