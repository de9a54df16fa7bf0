"""The measurements of the service run, and their kills find what a server forgets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

import benchmarks.serve.__main__ as measurements
from benchmarks.serve.__main__ import open_rate, overload, recovered_after_s
from benchmarks.serve.kills import Acknowledged, KillReport, _missing, kill_under_load
from benchmarks.serve.load import Connections, Taken, health, open_loop
from benchmarks.serve.scripted_server import KEY
from policies.ledger import Ledger
from tests.redis_server import free_port


def test_nothing_that_a_server_acknowledged_is_lost_when_it_is_killed_under_load(tmp_path: Path) -> None:
    report = asyncio.run(kill_under_load(tmp_path, free_port(), 1, longest_s=1.5))

    assert report.lost == []
    assert report.acknowledged.decisions
    assert report.acknowledged.outcomes
    assert report.acknowledged.jobs
    assert len(report.healthy_after_s) == 1


def test_kills_that_are_broken_off_look_at_what_they_have(tmp_path: Path) -> None:
    async def broken_off() -> KillReport:
        def stop(said: str) -> None:
            killing.cancel()

        killing = asyncio.create_task(kill_under_load(tmp_path, free_port(), 50, longest_s=0.5, progress=stop))
        return await killing

    report = asyncio.run(broken_off()).as_json()

    assert (report["kills"], report["of"], report["lost"]) == (1, 50, 0)


class Noting(Connections):
    """Connections that note under which key something is asked."""

    noted: ClassVar[list[str]] = []

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        self.noted.append((headers or {}).get("Idempotency-Key", ""))
        return await super().ask(method, path, body, headers)


@pytest.mark.alone
def test_a_rate_that_is_broken_off_tells_of_what_came_by_then_and_each_request_had_a_key_as_of_our_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Noting.noted.clear()
    monkeypatch.setattr(measurements, "Connections", Noting)

    async def broken_off() -> dict[str, Any]:
        measuring = asyncio.create_task(open_rate(tmp_path, free_port(), rate=40.0, seconds=400.0))
        monkeypatch.setattr(measurements, "_PART_S", 1.0)
        monkeypatch.setattr(measurements, "_say", lambda said: measuring.cancel())
        return await measuring

    found = asyncio.run(broken_off())

    assert not found["complete"]
    assert found["statuses"] == {"200": 40}
    assert len(found["rss_mb"]) == 5
    assert "" not in Noting.noted
    assert len(set(Noting.noted)) == len(Noting.noted) >= 40


def test_what_was_acknowledged_and_is_not_there_is_found(tmp_path: Path) -> None:
    known = Acknowledged({"a" * 32}, {"b" * 32: 0.5})
    Ledger.open(tmp_path).close()

    assert len(_missing(tmp_path, known)) == 2


def test_a_server_that_is_overloaded_refuses_politely_and_answers_the_rest(tmp_path: Path) -> None:
    found = asyncio.run(overload(tmp_path, free_port(), seconds=2, times=3))

    assert found["solve"]["statuses"].keys() == {"200", "503"}
    assert found["refused_without_retry_after"] == 0
    assert found["decide"]["statuses"] == {"200": 20}
    assert found["health"]["statuses"] == {"200": 20}
    assert 0.0 < found["recovered_after_s"] < 5.0


@dataclass
class Answering:
    """A server of HTTP: what it answers is up to whoever makes it."""

    answer: Callable[[str], Awaitable[int]]  # method and path: the status
    talks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking = asyncio.current_task()
        assert talking is not None
        self.talks.append(talking)
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(re.findall(r"Content-Length: (\d+)", head)[0]))
                status = await self.answer(head.partition(" HTTP")[0])
                writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await asyncio.wait_for(asyncio.gather(*self.talks), 10)  # all have hung up


@pytest.mark.alone
def test_recovery_counts_from_the_last_request_sent_and_not_from_its_answer_and_ends_when_all_are_answered() -> None:
    refuses_s = 0.3
    probes: list[int] = []

    async def measured() -> tuple[float, Taken]:
        go, all_sent = asyncio.Event(), asyncio.Event()

        async def answer(asked: str) -> int:
            if asked == "GET /health":  # the overload, here: answered when all is over
                await go.wait()
                return 200
            by_chance = len(probes) == 1
            probes.append(200 if by_chance or time.perf_counter() - began > refuses_s else 503)
            return probes[-1]

        async with Answering(answer).running() as url:
            with Connections(url, KEY) as connections:
                began = time.perf_counter()
                overload = open_loop(connections, health, rate=1000.0, seconds=0.003, all_sent=all_sent)
                sending = asyncio.create_task(overload)
                recovered_s = await asyncio.wait_for(recovered_after_s(url, all_sent), 10)
                go.set()
                return recovered_s, await sending

    recovered_s, taken = asyncio.run(measured())

    assert probes[:3] == [503, 200, 503]
    assert recovered_s == pytest.approx(refuses_s, abs=0.2)
    assert taken.statuses == {200: 3}
