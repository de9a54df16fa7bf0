"""The routes: each reads what it is asked, calls one function and writes what that gives. Only /health needs no key."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from icl_engine.errors import FewShotError
from policies.errors import ArmUnavailable, UnknownTrace
from policies.trace_log import TraceFilter, Verdict
from router.serve import messages as wire
from router.serve.adapters import zipped
from router.serve.errors import BodyRefused, BodyTooLarge, QueryRefused, Stopping, UnknownJob
from router.serve.events import MEDIA_TYPE, EventStream
from router.serve.gate import API, Gate, declared_bytes
from router.serve.jobs import Asked, Job
from router.serve.keys import ApiKeys
from router.serve.metrics import CONTENT_TYPE
from router.serve.openapi import ERRORS, complete, link, takes
from router.serve.pages import Pages
from router.serve.problems import HEADERS, problem, problem_of, response_of
from router.serve.reading import policy_json, trace_json, traces_json
from router.serve.service import LEDGER_LOST, Service

log = logging.getLogger("ttt_router.serve")

_PARSED_ASIDE_BYTES = 64 * 2**10  # a longer body is read in another thread: others should not wait
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,200}")
_Body = TypeVar("_Body", wire.SolveBody, wire.DecideBody, wire.FeedbackBody)
_ID = re.compile(wire.ID)
_FORM: dict[str, Any] = {"pattern": wire.ID}  # for the document: what is of another form is unknown, not malformed
TraceId = Annotated[str, Path(json_schema_extra=_FORM, description="as a solution names it")]
JobId = Annotated[str, Path(json_schema_extra=_FORM, description="as the answer 202 names it")]


def make_app(service: Service, keys: ApiKeys) -> Gate:
    """Make the ASGI application: the routes behind the keys."""
    limit = service.settings.serve_body_bytes
    return Gate(make_api(service), keys, service.allowances, service.metrics, max_body_bytes=limit)


def make_api(service: Service) -> FastAPI:
    """Make the routes; who asks is in the request's state, where the gate puts it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.begin()
        yield
        await service.stop()

    app = FastAPI(
        title="ttt-router",
        summary="Few-shot tasks answered in context or by test-time training, decided per task.",
        version="1",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        max_body_size=service.settings.serve_body_bytes,
        lifespan=lifespan,
    )
    api = _Api(service)
    for path, method, route, reply, said in (
        ("/v1/solve", "POST", api.solve, wire.SolveReply, (408, 409, 413, 415, 429, 503, 504)),
        ("/v1/decide", "POST", api.decide, wire.DecisionReply, (408, 409, 413, 415, 429, 503)),
        ("/v1/feedback", "POST", api.feedback, wire.RecordedReply, (404, 408, 409, 413, 415, 429, 503)),
        ("/v1/jobs/{job_id}", "GET", api.job, wire.JobReply, (404, 429)),
        ("/v1/jobs/{job_id}", "DELETE", api.cancel_job, wire.JobReply, (404, 429, 503)),
        ("/v1/traces", "GET", api.traces, wire.TracesReply, (429, 503)),
        ("/v1/traces/{trace_id}", "GET", api.trace, wire.TraceReply, (404, 429, 503)),
        ("/v1/policy", "GET", api.policy, wire.PolicyReply, (429, 503)),
        ("/v1/adapters/{trace_id}", "GET", api.adapter, None, (404, 409, 429, 503)),
        ("/health", "GET", api.health, wire.HealthReply, ()),
        ("/ready", "GET", api.ready, wire.ReadyReply, ()),
        ("/metrics", "GET", api.metrics, None, ()),
    ):
        responses: dict[int | str, dict[str, Any]] = {code: ERRORS[code] for code in (401, 422, *said)}
        responses |= _OWN.get((path, method), {})
        if reply is not None:
            responses[200] = {"model": reply, **responses.get(200, {})}
        if path == "/health":
            del responses[401]
        about: dict[str, Any] = {"responses": responses, "openapi_extra": takes(path), "operation_id": route.__name__}
        about["response_class"] = Response if reply is None else JSONResponse
        if path.startswith(API):
            about["dependencies"] = [Depends(_check_query)]
        app.add_api_route(path, route, methods=[method], **about)
    for path, route in (("/health", api.health), ("/ready", api.ready)):  # as some load balancers ask
        app.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)
    app.router.routes += Pages(service).routes()
    app.add_exception_handler(FewShotError, api.refused)
    app.add_exception_handler(RequestValidationError, api.malformed)
    app.add_exception_handler(HTTPException, api.http_fault)
    app.add_exception_handler(Exception, api.fault)
    complete(app)
    return app


_OWN: dict[tuple[str, str], dict[int | str, dict[str, Any]]] = {
    ("/v1/solve", "POST"): {
        200: {
            "description": "the results of all tasks, or a stream of events",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
            "links": {
                "trace": link("trace", "/results/0/solution/trace_id", "trace_id"),
                "adapter": link("adapter", "/results/0/solution/trace_id", "trace_id"),
            },
        },
        202: {
            "model": wire.JobReply,
            "description": "taken; Location says where to look",
            "links": {"job": link("job", "/id", "job_id"), "cancel": link("cancel_job", "/id", "job_id")},
        },
    },
    ("/v1/jobs/{job_id}", "GET"): {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
    ("/v1/adapters/{trace_id}", "GET"): {
        200: {
            "description": "a PEFT folder or, where the whole model was trained, one that transformers loads",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    ("/metrics", "GET"): {
        200: {"description": "all families", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
    ("/health", "GET"): {503: {"model": wire.HealthReply, "description": "stopping"}},
    ("/ready", "GET"): {503: {"model": wire.ReadyReply, "description": "starting, stopping, or without its ledger"}},
}


class _Api:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings

    async def solve(self, request: Request) -> Response:
        """Answer one task or several.

        The answer comes at once; with `Prefer: respond-async` as 202 with an id to ask for; with `Accept:
        text/event-stream` as events: `step` (task, step, done, of), `result` (task and solution or problem), `done`;
        with both as events that begin with `job` (id).
        Whoever goes away before cancels, but for what was asked for with `respond-async`. With an `Idempotency-Key` the
        same request is done once.
        """
        prefers = [each.strip().lower() for each in request.headers.get("prefer", "").split(",")]
        later, tenant = "respond-async" in prefers, request.state.tenant
        key = _idempotency_key(request)
        self._service.check_room(tenant, key)
        asked = await self._read(request, wire.SolveBody, self._asked)
        followed = _wants_events(request)
        job = await self._service.submit(tenant, asked, kept=later, key=key, followed=followed)
        promised = {"Location": f"/v1/jobs/{job.id}", "Preference-Applied": "respond-async"}
        if followed:
            return self._stream(job, promised) if later else self._stream(job)
        if later:
            return _json(job.as_json(), 202, promised)
        await self._wait(request, job)
        if job.handed_back:
            raise Stopping
        results = job.ordered_results()
        if len(results) == 1 and "problem" in results[0]:
            return response_of(results[0]["problem"])
        return _json({"results": results})

    async def decide(self, request: Request) -> Response:
        """Say which arm a task would be answered with, and why; answer and record nothing."""

        def read(body: wire.DecideBody) -> tuple[Any, int | None]:
            return wire.read_task(body.task, "task", self._settings.limits), body.seed

        self._service.check_deciding(request.state.tenant)
        task, seed = await self._read(request, wire.DecideBody, read)
        gone = asyncio.create_task(_gone(request))
        try:
            decision = await self._service.decide(request.state.tenant, task, seed, gone)
        finally:
            gone.cancel()
        return _json(wire.decision_json(task, decision))

    async def feedback(self, request: Request) -> Response:
        """Say what came of a solve, at once or days later; what is answered with 200 is in the ledger.

        What the same source says otherwise later is refused, or with a `reason` corrects what it said before.
        """
        given = await self._read(request, wire.FeedbackBody, lambda body: body)
        tenant, service = request.state.tenant, self._service

        def record() -> None:
            self._check_own(tenant, given.trace_id)
            router = service.tenants.router(tenant)
            said = {"answer": given.answer, "reward": given.reward, "source": given.source, "reason": given.reason}
            router.feedback(given.trace_id, given.correct, **said)

        await run_in_threadpool(record)
        return _json({"trace_id": given.trace_id, "recorded": True})

    async def job(self, request: Request, job_id: JobId) -> Response:
        """Say where a job stands; its results once it is over.

        `Accept: text/event-stream` follows it, at the server that has it.
        """
        _check_job_id(job_id)
        if _wants_events(request):
            return self._stream(self._service.jobs.get(request.state.tenant, job_id))
        job = await self._service.find(request.state.tenant, job_id)
        return _json(job.as_json(), headers=None if job.over.is_set() else {"Retry-After": "1"})

    async def cancel_job(self, request: Request, job_id: JobId) -> Response:
        """Cancel a job for good: what waits is dropped, what runs stops before its next step of training.

        Its state is `cancelling` until that has stopped, then `cancelled`.
        """
        _check_job_id(job_id)
        job = self._service.jobs.get(request.state.tenant, job_id)
        await self._service.cancel_for_good(job)
        return _json(job.as_json())

    async def traces(
        self,
        request: Request,
        n: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[int | None, Query(ge=1, lt=2**62, description="`next` of the page before")] = None,
        arm: wire.ArmName | None = None,
        outcome: Verdict | None = None,
        degraded: bool | None = None,
    ) -> Response:
        """List one's own traces, newest first."""
        tenant, service = request.state.tenant, self._service
        wanted = TraceFilter(arm=arm, outcome=outcome, degraded=degraded, tenant=tenant)

        def read() -> dict[str, Any]:
            service.tenants.router(tenant).flush()
            found = traces_json(service.ledger, wanted, n, before)
            if not found["traces"] and arm not in (None, *self._arms):  # it was once an arm here, or never
                if traces_json(service.ledger, TraceFilter(arm=arm, tenant=tenant), 1, None)["traces"]:
                    return found
                raise QueryRefused(f"got {arm!r}", field="arm", remedy=f"Give one of {', '.join(self._arms)}.")
            return found

        return _json(await run_in_threadpool(read))

    async def trace(self, request: Request, trace_id: TraceId) -> Response:
        """Show a trace, what came of it, and why it went so."""
        tenant, service = request.state.tenant, self._service

        def read() -> dict[str, Any]:
            self._check_own(tenant, trace_id)
            service.tenants.router(tenant).flush()
            return trace_json(service.ledger, trace_id)

        return _json(await run_in_threadpool(read))

    async def policy(self, request: Request) -> Response:
        """Say who decides, and which versions there are. Policies are those of all tenants."""
        return _json(await run_in_threadpool(policy_json, self._service))

    async def adapter(self, request: Request, trace_id: TraceId) -> Response:
        """Give what was trained for an answer, as a zip file.

        It is a plain PEFT folder or, if all of the model was trained, one that transformers loads. What neither could
        load is refused with 409.
        """
        tenant, service = request.state.tenant, self._service

        def make() -> str:
            self._check_own(tenant, trace_id)
            router = service.tenants.router(tenant)
            router.flush()
            return zipped(router, service.ledger, trace_id)

        path = await run_in_threadpool(make)
        name = f"adapter-{trace_id[:12]}.zip"
        return _TemporaryFile(path, media_type="application/zip", filename=name)

    async def health(self) -> Response:
        """Say how it goes, as far as is known without asking. The one route without a key; it waits for nothing."""
        degraded = [fault.partition(":")[0] for fault in self._service.degraded]  # why is not for everybody
        return _json({"status": self._status(), "degraded": degraded}, 503 if self._service.stopping else 200)

    async def ready(self) -> Response:
        """Say what the server is doing, and whether its ledger, store of adapters and workers can be reached."""
        service = self._service
        lost = await run_in_threadpool(service.watch.look)
        return _json(
            {
                "status": self._status(),
                "degraded": service.degraded,
                "n_running": service.n_running,
                "n_waiting": service.n_waiting,
                "n_deciding": service.n_deciding,
                "model": service.tenants.model_name,
            },
            503 if service.stopping or not service.tenants.has_workers or LEDGER_LOST in lost else 200,
        )

    async def metrics(self) -> Response:
        """Give what is counted and measured, for Prometheus."""
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    async def refused(self, request: Request, error: Exception) -> Response:
        """Answer with the problem that an error is."""
        document = problem_of(error, self._service.redact)
        self._service.metrics.refused.labels(document["code"]).inc()
        return response_of(document)

    async def malformed(self, request: Request, error: Exception) -> Response:
        """Answer to what FastAPI itself finds wrong with a path or a query."""
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        loc = first["loc"][1:]  # without "query"
        got, remedy = wire.said_of(first["type"], first["msg"], first.get("input"), loc, ())
        return await self.refused(request, QueryRefused(got, field=".".join(map(str, loc)), remedy=remedy))

    async def http_fault(self, request: Request, error: Exception) -> Response:
        """Answer where there is no such route, or the body is too long. The path is not said back: it may be a key."""
        assert isinstance(error, HTTPException)
        if error.status_code == 413:
            return response_of(problem_of(BodyTooLarge(self._settings.serve_body_bytes)), error.headers)
        if error.status_code == 404:
            said = {"detail": "there is no such route.", "remedy": "GET /openapi.json names those that there are."}
            return response_of(problem(404, "no_such_route", **said), error.headers)
        if error.status_code == 405:
            methods = ", ".join(_methods_of(request))
            said = {"detail": f"{request.method} is not taken.", "remedy": f"This path takes {methods}."}
            return response_of(problem(405, "method_not_allowed", **said), {"Allow": methods})
        return response_of(problem(error.status_code, "refused", str(error.detail)), error.headers)

    async def fault(self, request: Request, error: Exception) -> Response:
        """Answer to what nobody foresaw; the log says more."""
        log.error("a request failed: %s", self._service.redact(repr(error)), exc_info=error)
        return response_of(problem_of(error))

    def _status(self) -> Literal["ok", "degraded", "stopping"]:
        return "stopping" if self._service.stopping else "degraded" if self._service.degraded else "ok"

    @property
    def _arms(self) -> tuple[str, ...]:
        """The names that may be asked for, among them of arms that this model or this task cannot do with."""
        return tuple(dict.fromkeys((*wire.ARM_NAMES, *self._settings.arms)))

    def _asked(self, body: wire.SolveBody) -> Asked:
        limit = self._settings.most_serve_tasks
        if len(body.tasks) > limit:  # before any of them is looked at
            remedy = f"At most {limit} are taken in one request."
            raise BodyRefused(f"got {len(body.tasks)} tasks", field="tasks", remedy=remedy)
        tasks = tuple(wire.read_task(raw, f"tasks[{i}]", self._settings.limits) for i, raw in enumerate(body.tasks))
        if body.arm is not None and body.arm not in self._arms:
            raise ArmUnavailable(body.arm[:40], self._settings.arms)
        deadline_s = None if body.deadline_s is None else float(body.deadline_s)
        return Asked(tasks, body.arm, body.seed, deadline_s)

    async def _read(self, request: Request, model: type[_Body], then: Callable[[_Body], Any]) -> Any:
        """Return what `then` makes of the body; a long one is looked at in another thread."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise BodyRefused(f"got {kind[:40]!a}", field="Content-Type", remedy="Send application/json.", status=415)
        longest = self._settings.serve_body_bytes
        declared = declared_bytes(request.scope)
        with self._service.reading(request.state.tenant, longest if declared is None else declared):
            body = await self._body(request)

            def read() -> Any:
                return then(wire.read_body(body, model, max_bytes=longest))

            return read() if len(body) <= _PARSED_ASIDE_BYTES else await run_in_threadpool(read)

    async def _body(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._settings.serve_body_s):
                return await request.body()
        except ClientDisconnect:  # nobody will read this, but the log
            raise BodyRefused("it broke off", field="body", remedy="Send all of it.", status=400) from None
        except TimeoutError:
            remedy = f"Send it within {self._settings.serve_body_s:g} s."
            raise BodyRefused("it did not arrive", field="body", remedy=remedy, status=408) from None

    async def _wait(self, request: Request, job: Job) -> None:
        """Wait until a job is over, or whoever asked has gone."""
        if job.over.is_set():
            return
        job.n_waiting_for += 1
        over = asyncio.create_task(job.over.wait())
        gone = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            gone.cancel()
            self._leave(job)

    def _check_own(self, tenant: str, trace_id: str) -> None:
        if not _ID.fullmatch(trace_id):
            raise UnknownTrace(trace_id[:40], self._service.ledger.location)
        self._service.tenants.check_own(tenant, trace_id)

    def _stream(self, job: Job, promised: dict[str, str] | None = None) -> Response:
        listener = job.listener()
        job.n_waiting_for += 1

        def gone() -> None:
            job.listeners.discard(listener)
            self._leave(job)

        first = () if promised is None else (("job", {"id": job.id}),)
        return EventStream(listener, gone, first=first, headers=promised)

    def _leave(self, job: Job) -> None:
        job.n_waiting_for -= 1
        self._service.leave(job)


class _TemporaryFile(FileResponse):
    """A file that is removed once it is sent, or cannot be; a background task is not run after a malformed range."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.unlink(self.path)


async def _check_query(request: Request) -> None:
    names = [each.alias for each in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in names:
            remedy = wire.nearest(name, names) if names else "This route takes none."
            raise QueryRefused("no such parameter", field=ascii(name[:40])[1:-1], remedy=remedy)


def _check_job_id(job_id: str) -> None:
    if not _ID.fullmatch(job_id):
        raise UnknownJob(job_id)


def _methods_of(request: Request) -> list[str]:
    """Return the methods that the path of a request is there for."""
    fitting = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in fitting for method in getattr(route, "methods", None) or ()})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        remedy = "Give up to 200 printable characters without blanks."
        raise BodyRefused("got something else", field="Idempotency-Key", remedy=remedy)
    return key


def _wants_events(request: Request) -> bool:
    return MEDIA_TYPE in request.headers.get("accept", "").lower()


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    sent = {**HEADERS, **(headers or {})}
    return Response(json.dumps(content, allow_nan=False), status, sent, media_type="application/json")
