"""The client gives what the library gives, sync and async, and asks again where that is of use."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import router.client_exchange
from icl_engine.task import Task
from router.client import AsyncClient, Client, ServiceError
from router.errors import ArmUnavailable, OutcomeConflict, RecordRefused, SettingsError, TaskRefused, UnknownTrace
from router.router import Router
from tests.models import CONSTANT_TASK, tiny_model
from tests.router.serve.serving import LAB, OTHER, Held, Running, serving, text, until

TASK = Task.parse(text())


def test_solve_is_asked_for_as_in_the_library() -> None:
    def parameters(kind: type, name: str) -> list[tuple[str, object, object]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(getattr(kind, name)).parameters.values()]

    for kind in (Client, AsyncClient):
        for name in ("solve", "solve_many", "decide"):
            here_alone = [each for each in parameters(Router, name) if each[0] == "share_adapter"]
            assert [*parameters(kind, name), *here_alone] == parameters(Router, name)
        assert parameters(kind, "feedback") == [each for each in parameters(Router, "feedback") if each[0] != "kind"]
    for name in (name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")):
        assert parameters(AsyncClient, name) == parameters(Client, name)


def test_an_answer_is_that_of_the_library(running: Running) -> None:
    steps: list[str] = []
    with Client(running.url, LAB) as client:
        solution = client.solve(TASK, seed=1)
        followed = client.solve(TASK, seed=1, progress=lambda step, done, of: steps.append(step))
        alone = running.service.tenants.router("lab").solve(TASK, seed=1)

    assert solution.answers == followed.answers == alone.answers
    assert (solution.task, solution.arm, solution.reason) == (alone.task, alone.arm, alone.reason)
    assert steps[0] == "admit"
    assert str(solution)


def test_what_came_of_it_can_be_said_and_asked(running: Running) -> None:
    with Client(running.url, LAB) as client:
        solution = client.solve(TASK)
        client.feedback(solution.trace_id, correct=True)
        decision = client.decide(TASK, seed=4)

        assert "It was right" in client.explain(solution.trace_id)
        assert decision == running.service.tenants.router("lab").decide(TASK, seed=4)


def test_what_was_said_wrongly_is_corrected_with_a_reason_as_in_the_library(running: Running) -> None:
    with Client(running.url, LAB) as client:
        trace_id = client.solve(TASK).trace_id
        client.feedback(trace_id, correct=True)
        with pytest.raises(OutcomeConflict) as told:
            client.feedback(trace_id, correct=False)
        client.feedback(trace_id, correct=False, reason="misread")

        assert [each.value for each in client.trace(trace_id).outcomes] == [0.0]
    with pytest.raises(OutcomeConflict) as by_the_library:
        running.service.tenants.router("lab").feedback(trace_id, reward=0.5)
    assert (told.value.source, told.value.recorded, told.value.given) == ("user", 1.0, 0.0)
    assert str(told.value).partition(" got ")[0] == str(by_the_library.value).partition(" got ")[0]


def test_traces_are_listed_page_by_page(running: Running) -> None:
    with Client(running.url, LAB) as client:
        ids = [client.solve(TASK, arm="icl_vote").trace_id for _ in range(3)]
        first = client.traces(2, arm="icl_vote", outcome="unknown", degraded=False)
        second = client.traces(2, before=first.next, arm="icl_vote")

    assert [each.trace_id for each in first.traces] == ids[:0:-1]
    assert second.traces[0].trace_id == ids[0]


def test_a_job_is_promised_looked_at_and_cancelled(tmp_path: Path) -> None:
    held = Held()

    async def ask(url: str) -> tuple[str, str]:
        async with AsyncClient(url, LAB) as client:
            job = await client.solve_later([TASK])
            while (await client.job(job.id)).state != "done":
                await asyncio.sleep(0.01)
            assert (await client.solve_later([TASK], key="mine")).id == (
                await client.solve_later([TASK], key="mine")
            ).id
            cancelled = await client.cancel((await client.solve_later([Task.parse(text("wait"))])).id)
            results = (await client.job(job.id)).results
            assert results is not None
            assert results[0].solution is not None
            return str(results[0].solution.answers[0].value), cancelled.id

    with serving(tmp_path, held) as running, Client(running.url, LAB) as client:
        job = client.solve_later([Task.parse(text("wait")), TASK])
        held.wait_begun()
        client.cancel(job.id)
        until(lambda: client.job(job.id).state == "cancelled", "it is not cancelled")
        held.go.set()
        answer, other = asyncio.run(ask(running.url))
        until(lambda: client.job(other).state in ("cancelled", "done"), "it goes on")
        problems = [each.problem for each in client.job(job.id).results or ()]

    assert answer == "D"
    assert problems[0] is not None
    assert problems[0].code == "cancelled"


def test_several_are_answered_at_once_in_an_event_loop(running: Running) -> None:
    async def ask() -> list[str]:
        steps: list[str] = []
        async with AsyncClient(running.url, LAB) as client:
            one, many, followed = await asyncio.gather(
                client.solve(TASK),
                client.solve_many([TASK, TASK.model_copy(update={"queries": ("e",)})]),
                client.solve(TASK, progress=lambda step, done, of: steps.append(step)),
            )
            await client.feedback(one.trace_id, reward=0.5)
            decision = await client.decide(TASK)
            said = await client.explain(one.trace_id)
        assert decision.arm == "icl"
        assert "worth 0.50" in said
        assert "record" in steps
        return [str(each.answer) for each in (one, *many, followed)]

    assert asyncio.run(ask()) == ["D", "D", "E", "D"]


def test_errors_are_those_of_the_library_where_it_has_them(running: Running) -> None:
    with Client(running.url, LAB) as client:
        with pytest.raises(ArmUnavailable, match="Available: icl, icl_vote"):
            client.solve(TASK, arm="ttt")
        with pytest.raises(ArmUnavailable) as magic, Client(running.url, LAB) as again:
            again.solve(TASK, arm="magic")
        with pytest.raises(ArmUnavailable) as by_the_library:
            running.service.tenants.router("lab").solve(TASK, arm="magic")
        with pytest.raises(ServiceError) as unknown:
            client.job("0" * 32)
        with pytest.raises(ServiceError) as wrong, Client(running.url, "wrong" * 5) as stranger:
            stranger.decide(TASK)
        too_long = TASK.replace(queries=("x" * 30_000,))
        with pytest.raises(TaskRefused, match="At most 20000 characters") as refused:
            client.solve(too_long)

    assert (unknown.value.status, unknown.value.code) == (404, "unknown_job")
    assert (wrong.value.status, wrong.value.code) == (401, "key_required")
    assert refused.value.field == "tasks[0].queries[0]"
    assert str(magic.value) == str(by_the_library.value)


@pytest.mark.parametrize("trace_id", ["f" * 32, "last", "a?b", "é"])
def test_a_trace_that_is_none_is_told_as_by_the_library(running: Running, trace_id: str) -> None:
    with Client(running.url, LAB) as client:
        for ask in (client.explain, client.trace, lambda trace_id: client.feedback(trace_id, correct=True)):
            with pytest.raises(UnknownTrace) as told:
                ask(trace_id)

            assert told.value.trace_id == trace_id


def test_feedback_that_will_not_do_is_told_as_by_the_library(running: Running) -> None:
    with Client(running.url, LAB) as client:
        trace_id = client.solve(TASK).trace_id
        with pytest.raises(RecordRefused) as nothing:
            client.feedback(trace_id)
        with pytest.raises(RecordRefused) as by_the_library:
            running.service.tenants.router("lab").feedback(trace_id)
        with pytest.raises(RecordRefused, match=r"^reward: got 1.5 \(float\)\. Give a number from 0 to 1\."):
            client.feedback(trace_id, reward=1.5)
        with pytest.raises(RecordRefused, match=r"^answer: got 2 for 1 queries\."):
            client.feedback(trace_id, answer=["D", "E"])

    assert str(nothing.value) == str(by_the_library.value)


def test_what_is_no_task_is_told_as_by_the_library_and_nothing_is_sent(running: Running) -> None:
    raw: Any = text()
    router, transport = running.service.tenants.router("lab"), Scripted()
    with Client(running.url, LAB, transport=transport) as client:
        with pytest.raises(TaskRefused) as by_the_library:
            router.solve(raw)
        for ask in (client.solve, client.decide, lambda task: client.solve_many([task])):
            with pytest.raises(TaskRefused) as told:
                ask(raw)
            assert str(told.value) == str(by_the_library.value)
        one: Any = TASK
        for ask_many in (client.solve_many, client.solve_later):
            with pytest.raises(TaskRefused, match=r"^tasks: got a single Task\. Give a list of tasks: \[task\]\.$"):
                ask_many(one)
        for deadline_s in (0.0, -1.0, float("nan")):
            with pytest.raises(SettingsError, match=r"^deadline_s: got"):
                client.solve(TASK, deadline_s=deadline_s)

    assert transport.sent == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_cannot_be_sent_is_told_at_once_and_shows_no_key(kind: type[Client] | type[AsyncClient]) -> None:
    for url in ("127.0.0.1:8770", "localhost", "", "ftp://x", "http://", "http://a:b:c"):
        with pytest.raises(SettingsError, match=r"^url: got .* Give it as http://HOST:PORT\.$"):
            kind(url, LAB)
    for key in ("", LAB + "\n", "ké"):
        with pytest.raises(SettingsError, match=r"^key: ") as told:
            kind("http://127.0.0.1:8770", key)
        assert not key or key not in str(told.value)


def test_a_server_that_starts_again_is_waited_for_until_the_deadline(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.client_exchange, "_LONGEST_BACKOFF_S", 0.01)
    transport = Scripted(*[httpx.ConnectError("refused")] * 40)
    with Client(running.url, LAB, transport=transport) as client:
        solutions = client.solve_many([TASK, TASK], deadline_s=20)

    assert [solution.answer for solution in solutions] == ["D", "D"]
    assert len(transport.sent) == 41


@pytest.mark.alone
def test_a_server_that_is_not_there_is_given_up_at_the_deadline_and_not_long_before() -> None:
    with Client("http://127.0.0.1:9", LAB) as client:
        began = time.monotonic()
        with pytest.raises(ServiceError, match="be reached"):
            client.solve(TASK, deadline_s=1.0)

    assert 0.2 < time.monotonic() - began < 1.0  # the last wait would have gone beyond it


def test_a_server_that_is_full_is_asked_again_when_it_says(running: Running) -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [
            httpx.Response(503, headers={"Retry-After": "0"}, json={"code": "overloaded", "detail": "full"}),
            httpx.ConnectError("refused"),
        ]
    )
    keys: list[str] = []
    real = httpx.HTTPTransport()

    class Passing(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            keys.append(request.headers["Idempotency-Key"])
            given = next(answers, None)
            if isinstance(given, Exception):
                raise given
            return given or real.handle_request(request)

    with Client(running.url, LAB, transport=Passing()) as client:
        assert client.solve(TASK).answer == "D"
    assert len(keys) == 3
    assert len(set(keys)) == 1
    real.close()


class Scripted(httpx.BaseTransport):
    """Answers, or fails, as it is told, then as the real one; notes what was sent."""

    def __init__(self, *said: httpx.Response | Exception) -> None:
        self.said, self.sent, self._real = list(said), list[dict[str, Any]](), httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(json.loads(request.content))
        said = self.said.pop(0) if self.said else self._real.handle_request(request)
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        self._real.close()


def full(retry_after_s: int) -> httpx.Response:
    return httpx.Response(
        503, headers={"Retry-After": str(retry_after_s)}, json={"code": "overloaded", "detail": "full", "status": 503}
    )


def test_no_attempt_is_waited_for_that_would_come_after_the_deadline(running: Running) -> None:
    transport = Scripted(full(20), full(20), full(20), full(20))
    began = time.monotonic()
    with Client(running.url, LAB, transport=transport) as client, pytest.raises(ServiceError) as told:
        client.solve(TASK, deadline_s=5.0)

    assert time.monotonic() - began < 5.0
    assert (told.value.code, len(transport.sent)) == ("overloaded", 1)


def test_where_there_is_nothing_for_hours_it_is_told_at_once() -> None:
    transport = Scripted(httpx.Response(429, headers={"Retry-After": "7200"}, json={"code": "compute_spent"}))
    with Client("http://nobody", LAB, transport=transport) as client, pytest.raises(ServiceError) as told:
        client.solve(TASK)

    assert (told.value.code, len(transport.sent)) == ("compute_spent", 1)


def test_each_attempt_is_given_the_time_that_is_left(running: Running) -> None:
    transport = Scripted(httpx.ConnectError("refused"), full(0))
    with Client(running.url, LAB, transport=transport) as client:
        assert client.solve(TASK, deadline_s=20.0).answer == "D"

    first, second, third = (sent["deadline_s"] for sent in transport.sent)
    assert first == 20.0
    assert first > second > third > 0


def test_what_is_followed_is_asked_for_again_until_its_first_event(running: Running) -> None:
    transport, steps = Scripted(full(0), httpx.ConnectError("refused")), list[str]()
    with Client(running.url, LAB, transport=transport) as client:
        solution = client.solve(TASK, progress=lambda step, done, of: steps.append(step))

    broken = Scripted(httpx.Response(200, content=BreaksOff()))
    with Client(running.url, LAB, transport=broken) as client, pytest.raises(ServiceError, match="be reached"):
        client.solve(TASK, progress=lambda step, done, of: None)

    assert solution.answer == "D"
    assert (steps.count("admit"), len(transport.sent)) == (1, 3)
    assert len(broken.sent) == 1


class BreaksOff(httpx.SyncByteStream):
    """A connection that is lost after the first event."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'event: step\ndata: {"step": "admit", "done": 0, "of": 0}\n\n'
        raise httpx.ReadError("lost")


def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router.client_exchange, "_SILENT_S", 0.2)
    monkeypatch.setattr(router.client_exchange, "_LATE_S", 0.2)

    async def decide(url: str) -> None:
        async with AsyncClient(url, LAB) as client:
            await client.decide(TASK)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with Client(url, LAB) as client:
            for ask in (
                lambda: client.feedback("0" * 32, correct=True),
                lambda: client.decide(TASK),
                lambda: client.solve(TASK, deadline_s=0.1),
                lambda: client.solve_later([TASK], deadline_s=3600, key="42"),  # who promises does so at once
                lambda: client.solve(TASK, progress=lambda step, done, of: None),
                lambda: asyncio.run(decide(url)),
            ):
                with pytest.raises(ServiceError, match="be reached"):
                    ask()

    assert time.monotonic() - began < 10


def test_a_server_that_is_not_there_is_told_of() -> None:
    with (
        Client("http://127.0.0.1:9", LAB, retries=0) as client,
        pytest.raises(ServiceError, match="be reached") as error,
    ):
        client.solve(TASK)
    assert error.value.code == "unreachable"


def test_cancelling_in_an_event_loop_cancels_the_work(tmp_path: Path) -> None:
    held = Held()

    async def ask(running: Running) -> None:
        async with AsyncClient(running.url, LAB) as client:
            asked = asyncio.create_task(client.solve(Task.parse(text("wait"))))
            await asyncio.to_thread(held.wait_begun)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

    with serving(tmp_path, held, serve_workers=1, serve_queue=0) as running:
        asyncio.run(ask(running))
        until(lambda: running.service.n_running == 0, "it was not let go of")
        held.go.set()
        with Client(running.url, OTHER) as client:
            assert client.solve(TASK).answer == "D"
        assert running.solves() == 1


def test_an_adapter_is_fetched_as_a_folder(tmp_path: Path) -> None:
    with (
        serving(tmp_path, tiny_model(), ttt_steps=3, ttt_rank=2, n_views=2) as running,
        Client(running.url, LAB) as client,
    ):
        solution = client.solve(CONSTANT_TASK, arm="ttt")
        folder = client.adapter(solution.trace_id, tmp_path / "adapter")

    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_one_client_may_be_used_from_several_threads(running: Running) -> None:
    with Client(running.url, LAB) as client:
        found: list[object] = []
        threads = [threading.Thread(target=lambda: found.append(client.solve(TASK).answer)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    assert found == ["D"] * 8


def test_the_client_loads_no_engine() -> None:
    said = "import sys, router.client; print({'torch', 'langgraph', 'fastapi', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "set()"
