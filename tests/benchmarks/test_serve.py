"""The measurements of the service run, and their kills find what a server forgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import benchmarks.serve.__main__ as measurements
from benchmarks.serve.__main__ import open_rate, overload
from benchmarks.serve.kills import Acknowledged, KillReport, _missing, kill_under_load
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


def test_a_rate_that_is_broken_off_tells_of_what_came_by_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken_off() -> dict[str, Any]:
        measuring = asyncio.create_task(open_rate(tmp_path, free_port(), rate=40.0, seconds=400.0))
        monkeypatch.setattr(measurements, "_PART_S", 1.0)
        monkeypatch.setattr(measurements, "_say", lambda said: measuring.cancel())
        return await measuring

    found = asyncio.run(broken_off())

    assert not found["complete"]
    assert found["statuses"] == {"200": 40}
    assert len(found["rss_mb"]) == 5


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
