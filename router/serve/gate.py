"""What every request passes first: its key, how often its tenant may ask, and afterwards the log and the counters."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.serve.allowances import Allowances
from router.serve.errors import BodyTooLarge, KeyRequired, RateExceeded
from router.serve.keys import ApiKeys, presented_in
from router.serve.metrics import Metrics
from router.serve.problems import problem_of, response_of

OPEN = frozenset({"/health"})  # the only path that needs no key
GONE = 499  # noted where whoever asked had gone before all of the answer was sent; such a status is never sent
API = "/v1/"  # below it a key is given as a bearer's alone, and requests are counted

log = logging.getLogger("ttt_router.access")


class Gate:
    """An ASGI application around another; `scope["state"]["tenant"]` says whose request it is."""

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, allowances: Allowances, metrics: Metrics, *, max_body_bytes: int
    ) -> None:
        self._app, self._keys, self._allowances, self._metrics = app, keys, allowances, metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no web sockets here
        began, status, answered = time.perf_counter(), 500, False

        async def noting(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start" and status != GONE:
                status = message["status"]
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        async def listening() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and not answered:
                status = GONE
            return message

        try:
            await self._let_in(scope, listening, noting)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path not in OPEN:
            tenant = self._tenant(scope, basic=not path.startswith(API))
            if tenant is None:
                scheme = "Bearer" if path.startswith(API) else "Basic"  # which makes a browser ask for it
                headers = {"WWW-Authenticate": f'{scheme} realm="ttt-router"'}
                await self._refuse(KeyRequired(), scope, receive, send, headers)
                return
            scope.setdefault("state", {})["tenant"] = tenant
            if path.startswith(API) and (wait_s := self._allowances.request(tenant)):
                await self._refuse(RateExceeded(wait_s), scope, receive, send)
                return
            if (
                declared_bytes(scope) or 0
            ) > self._max_body_bytes:  # what comes without a length is counted as it is read
                await self._refuse(BodyTooLarge(self._max_body_bytes), scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _tenant(self, scope: Scope, *, basic: bool) -> str | None:
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        presented = presented_in(headers[0], basic=basic) if len(headers) == 1 else None
        return None if presented is None else self._keys.tenant(presented)

    async def _refuse(
        self, error: Exception, scope: Scope, receive: Receive, send: Send, headers: dict[str, str] | None = None
    ) -> None:
        document = problem_of(error)
        self._metrics.refused.labels(document["code"]).inc()
        await response_of(document, headers)(scope, receive, send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")  # never the path itself: anybody may invent those
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_s.labels(route).observe(seconds)
        tenant = scope.get("state", {}).get("tenant")
        about = {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        log.info("request", extra={**about, "tenant": tenant})


def declared_bytes(scope: Scope) -> int | None:
    """Return how long a request says that its body is; None: it does not."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else None
