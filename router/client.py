"""A client of the HTTP service, for programs with and without an event loop: `solve` is that of the library.

It sends every task under a key of its own, so that asking again after a lost connection does nothing twice while the
server lives (after a crash it is solved again). Where a server has no room or cannot be reached, as while it starts
again, it is asked anew until the deadline. Needs `pip install 'ttt-router[client]'`; loads neither torch nor langgraph.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from icl_engine.task import Task, Value
from policies.decision import Decision
from router.client_exchange import (
    Attempts,
    Progress,
    Request,
    ServiceError,
    Told,
    checked_url,
    deciding,
    decision_in,
    headers_of,
    listed,
    listing,
    path_of,
    saying,
    solutions_in,
    solving,
    unpacked,
)
from router.serve.messages import JobReply, TraceReply, TracesReply
from router.solution import Solution

__all__ = ["AsyncClient", "Client", "Progress", "ServiceError"]


class Client:
    """Asks a service. Use it as a context manager, or `close` it; one may be used from several threads.

    Args:
        url: of the service, such as `http://127.0.0.1:8770`.
        key: of one's tenant.
        retries: how often to ask again, at most, where the service is full or cannot be reached; None: as often as the
            deadline lets, and three times where there is none.
        transport: of httpx, in place of the network.

    Raises:
        SettingsError: `url` or `key` cannot be sent.

    Example:
        with Client("http://127.0.0.1:8770", key) as client:
            solution = client.solve(task)
            client.feedback(solution.trace_id, correct=True)
    """

    def __init__(
        self, url: str, key: str, *, retries: int | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(base_url=checked_url(url), headers=headers_of(key), transport=transport)
        self._retries = retries

    def solve(
        self,
        task: Task,
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Answer every query of a task; see `Router.solve`.

        Raises:
            TaskRefused, ArmUnavailable, DeadlinePassed, SettingsError: as there.
            ServiceError: whatever else the service says, or that it cannot be reached.
        """
        request = solving([task], arm, seed, deadline_s)
        if progress is None:
            return solutions_in([task], self._ask(request))[0]
        return solutions_in([task], self._followed(request, progress))[0]

    def solve_many(
        self,
        tasks: Iterable[Task],
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
    ) -> list[Solution]:
        """Answer several tasks; see `Router.solve_many`. The first that is not answered is raised."""
        tasks = listed(tasks)
        return solutions_in(tasks, self._ask(solving(tasks, arm, seed, deadline_s))) if tasks else []

    def solve_later(
        self,
        tasks: Iterable[Task],
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        key: str | None = None,
    ) -> JobReply:
        """Have tasks solved without waiting: the service promises it, and keeps the results for a while.

        Args:
            key: for idempotency; the same tasks under the same key are the same job, asked by another program too.

        Returns:
            The job; its `id` is what `job` and `cancel` take, from another program too.
        """
        return JobReply.model_validate(self._ask(solving(listed(tasks), arm, seed, deadline_s, later=True, key=key)))

    def job(self, job_id: str) -> JobReply:
        """Say where a job stands; once it is over, what became of each task.

        Its results are as they are sent, because whoever asks need not have the tasks: a `SolutionReply` has grids as
        lists, and the first answer at `answers[0].value`; what `solve` gives is a `Solution`.

        Raises:
            ServiceError: `unknown_job`: it is too long ago, or another server has it.
        """
        return JobReply.model_validate(self._ask(Request("GET", path_of("jobs", job_id))))

    def cancel(self, job_id: str) -> JobReply:
        """Cancel a job for good: what waits is dropped, what trains stops before its next step."""
        return JobReply.model_validate(self._ask(Request("DELETE", path_of("jobs", job_id))))

    def decide(self, task: Task, *, seed: int | None = None) -> Decision:
        """Say which arm `solve` would answer this task with; see `Router.decide`."""
        return decision_in(self._ask(deciding(task, seed)))

    def feedback(
        self,
        trace_id: str,
        correct: bool | float | None = None,
        *,
        answer: Value | Sequence[Value | None] | list[list[int]] | None = None,
        reward: float | None = None,
        source: str = "user",
        reason: str | None = None,
    ) -> None:
        """Say what came of a solve, or with a `reason` correct it; see `Router.feedback`. When this returns, the ledger
        has it.

        Raises:
            UnknownTrace, TraceNotKept, RecordRefused: as there.
            OutcomeConflict: the same source has said otherwise, and no reason is given.
            ServiceError: whatever else the service says.
        """
        self._ask(saying(trace_id, correct, answer, reward, source, reason))

    def traces(
        self,
        n: int = 50,
        *,
        before: int | None = None,
        arm: str | None = None,
        outcome: str | None = None,
        degraded: bool | None = None,
    ) -> TracesReply:
        """List one's own traces, newest first.

        Args:
            before: `next` of the page before.
            arm, outcome, degraded: leave out all others; outcomes are `right`, `wrong`, `partly` and `unknown`.
        """
        return TracesReply.model_validate(self._ask(listing(n, before, arm, outcome, degraded)))

    def trace(self, trace_id: str) -> TraceReply:
        """Return a trace as a document, what came of it, and why it went so.

        Raises:
            UnknownTrace, TraceNotKept: as for `explain`.
        """
        return TraceReply.model_validate(self._ask(Request("GET", path_of("traces", trace_id))))

    def explain(self, trace_id: str) -> str:
        """Say in words why a solve went as it did; see `Router.explain`.

        Raises:
            UnknownTrace, TraceNotKept: as there.
        """
        return "\n".join(self._ask(Request("GET", path_of("traces", trace_id)))["why"])

    def adapter(self, trace_id: str, folder: Path) -> Path:
        """Fetch what was trained for an answer into a folder: a plain PEFT one or, if all of it was trained, one that
        transformers loads.

        Args:
            folder: where to; made where there is none.

        Raises:
            UnknownTrace: as for `explain`.
            ServiceError: `no_adapter`: nothing was trained, or it is not kept any more.
        """
        return unpacked(self._send(Request("GET", path_of("adapters", trace_id))).content, folder)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Request) -> Any:
        return self._send(request).json()

    def _send(self, request: Request) -> httpx.Response:
        attempts = Attempts(request, self._retries)
        while True:
            try:
                answer = self._http.request(**attempts.next())
            except httpx.TransportError as error:
                wait_s = attempts.wait_after_fault(error)
            else:
                if answer.is_success:
                    return answer
                wait_s = attempts.wait_after(answer)
            time.sleep(wait_s)

    def _followed(self, request: Request, progress: Progress) -> Any:
        attempts = Attempts(request, self._retries)
        while True:
            told = Told(progress)
            try:
                with self._http.stream(**attempts.next(followed=True)) as answer:
                    if answer.is_success:
                        for line in answer.iter_lines():
                            told.take(line)
                        return told.reply()
                    answer.read()
                    wait_s = attempts.wait_after(answer)
            except httpx.TransportError as error:
                wait_s = attempts.wait_after_fault(error, begun=told.has_begun)
            time.sleep(wait_s)


class AsyncClient:
    """As `Client`, for an event loop. Use it as an async context manager, or await `close`."""

    def __init__(
        self, url: str, key: str, *, retries: int | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._http = httpx.AsyncClient(base_url=checked_url(url), headers=headers_of(key), transport=transport)
        self._retries = retries

    async def solve(
        self,
        task: Task,
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """See `Client.solve`; cancelling it cancels the work."""
        request = solving([task], arm, seed, deadline_s)
        if progress is None:
            return solutions_in([task], await self._ask(request))[0]
        return solutions_in([task], await self._followed(request, progress))[0]

    async def solve_many(
        self,
        tasks: Iterable[Task],
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
    ) -> list[Solution]:
        """See `Client.solve_many`."""
        tasks = listed(tasks)
        return solutions_in(tasks, await self._ask(solving(tasks, arm, seed, deadline_s))) if tasks else []

    async def solve_later(
        self,
        tasks: Iterable[Task],
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        key: str | None = None,
    ) -> JobReply:
        """See `Client.solve_later`."""
        return JobReply.model_validate(
            await self._ask(solving(listed(tasks), arm, seed, deadline_s, later=True, key=key))
        )

    async def job(self, job_id: str) -> JobReply:
        """See `Client.job`."""
        return JobReply.model_validate(await self._ask(Request("GET", path_of("jobs", job_id))))

    async def cancel(self, job_id: str) -> JobReply:
        """See `Client.cancel`."""
        return JobReply.model_validate(await self._ask(Request("DELETE", path_of("jobs", job_id))))

    async def decide(self, task: Task, *, seed: int | None = None) -> Decision:
        """See `Client.decide`."""
        return decision_in(await self._ask(deciding(task, seed)))

    async def feedback(
        self,
        trace_id: str,
        correct: bool | float | None = None,
        *,
        answer: Value | Sequence[Value | None] | list[list[int]] | None = None,
        reward: float | None = None,
        source: str = "user",
        reason: str | None = None,
    ) -> None:
        """See `Client.feedback`."""
        await self._ask(saying(trace_id, correct, answer, reward, source, reason))

    async def traces(
        self,
        n: int = 50,
        *,
        before: int | None = None,
        arm: str | None = None,
        outcome: str | None = None,
        degraded: bool | None = None,
    ) -> TracesReply:
        """See `Client.traces`."""
        return TracesReply.model_validate(await self._ask(listing(n, before, arm, outcome, degraded)))

    async def trace(self, trace_id: str) -> TraceReply:
        """See `Client.trace`."""
        return TraceReply.model_validate(await self._ask(Request("GET", path_of("traces", trace_id))))

    async def explain(self, trace_id: str) -> str:
        """See `Client.explain`."""
        return "\n".join((await self._ask(Request("GET", path_of("traces", trace_id))))["why"])

    async def adapter(self, trace_id: str, folder: Path) -> Path:
        """See `Client.adapter`."""
        return unpacked((await self._send(Request("GET", path_of("adapters", trace_id)))).content, folder)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, request: Request) -> Any:
        return (await self._send(request)).json()

    async def _send(self, request: Request) -> httpx.Response:
        attempts = Attempts(request, self._retries)
        while True:
            try:
                answer = await self._http.request(**attempts.next())
            except httpx.TransportError as error:
                wait_s = attempts.wait_after_fault(error)
            else:
                if answer.is_success:
                    return answer
                wait_s = attempts.wait_after(answer)
            await asyncio.sleep(wait_s)

    async def _followed(self, request: Request, progress: Progress) -> Any:
        attempts = Attempts(request, self._retries)
        while True:
            told = Told(progress)
            try:
                async with self._http.stream(**attempts.next(followed=True)) as answer:
                    if answer.is_success:
                        async for line in answer.aiter_lines():
                            told.take(line)
                        return told.reply()
                    await answer.aread()
                    wait_s = attempts.wait_after(answer)
            except httpx.TransportError as error:
                wait_s = attempts.wait_after_fault(error, begun=told.has_begun)
            await asyncio.sleep(wait_s)
