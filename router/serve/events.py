"""A job as a stream of server-sent events: `job` where it was promised, `step`, `result`, and at the end `done`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from router.serve.jobs import Event

MEDIA_TYPE = "text/event-stream"
_STILL_HERE_S = 15.0  # between signs of life while nothing happens


class EventStream(StreamingResponse):
    """What a listener hears, until the job is over.

    Args:
        gone: told of its end, also where whoever asked had gone before it began.
        first: events to be told before all others.
        headers: to be sent with it.
    """

    def __init__(
        self,
        listener: asyncio.Queue[Event],
        gone: Callable[[], None],
        *,
        first: Sequence[Event] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        sent = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(_written(listener, first), media_type=MEDIA_TYPE, headers=sent)
        self._tell_gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._tell_gone()


async def _written(listener: asyncio.Queue[Event], first: Sequence[Event]) -> AsyncIterator[bytes]:
    for name, content in first:
        yield _line(name, content)
    while True:
        try:
            async with asyncio.timeout(_STILL_HERE_S):
                name, content = await listener.get()
        except TimeoutError:
            yield b": still here\n\n"
            continue
        yield _line(name, content)
        if name == "done":
            return


def _line(name: str, content: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()
