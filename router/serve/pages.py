"""The viewer behind the same keys: of each tenant its own traces, and what it runs goes the way of all requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from icl_engine.task import Task
from router.errors import DeadlinePassed
from router.serve.jobs import Asked
from router.ui.app import Attached, RunArm, make_app

if TYPE_CHECKING:
    from router.serve.service import Service

_PATHS = ("/", "/policies", "/traces/{rest:path}", "/theme/{rest:path}", "/static/{rest:path}")
_FIXED = ("/theme/", "/static/")
_LONGEST_RUN_S = 600.0


class Pages:
    """An ASGI application that hands each request to the viewer of its tenant."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._viewers: dict[str, ASGIApp] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the viewer's paths, each of them leading here."""
        return [Route(path, self, include_in_schema=False) for path in _PATHS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the tenant's viewer does."""
        tenant = scope["state"]["tenant"]
        if not scope["path"].startswith(_FIXED):
            await run_in_threadpool(self._service.tenants.router(tenant).flush)  # what was answered is to be seen
        viewer = self._viewers.get(tenant)
        if viewer is None:
            service = self._service
            attached = Attached(
                service.ledger, self._runner(tenant), any_host=True, tenant=tenant, redact=service.redact
            )
            viewer = self._viewers[tenant] = make_app(attached)
        await viewer({**scope, "path_params": {}}, receive, send)

    def _runner(self, tenant: str) -> RunArm:
        service = self._service
        loop = asyncio.get_running_loop()

        async def solved(task: Task, arm: str, seed: int) -> str:
            job = await service.submit(tenant, Asked((task,), arm, seed))
            try:
                async with asyncio.timeout(_LONGEST_RUN_S):
                    await job.over.wait()
            except TimeoutError:
                raise DeadlinePassed("waiting for what a page runs", task_id=task.id) from None
            finally:
                service.cancel(job)
            return service.trace_id_of(job)

        def run(task: Task, arm: str, seed: int) -> str:
            trace_id = asyncio.run_coroutine_threadsafe(solved(task, arm, seed), loop).result()
            service.tenants.router(
                tenant
            ).flush()  # traces are written behind the answer, and the page shows this one next
            return trace_id

        return run
