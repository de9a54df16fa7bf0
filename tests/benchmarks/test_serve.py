"""The measurements of the service run, and their kills find what a server forgets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.serve.__main__ import overload
from benchmarks.serve.kills import Acknowledged, _missing, kill_under_load
from policies.ledger import Ledger
from tests.redis_server import free_port


def test_nothing_that_a_server_acknowledged_is_lost_when_it_is_killed_under_load(tmp_path: Path) -> None:
    report = asyncio.run(kill_under_load(tmp_path, free_port(), 1, longest_s=1.5))

    assert report.lost == []
    assert report.acknowledged.decisions
    assert report.acknowledged.outcomes
    assert report.acknowledged.jobs
    assert len(report.healthy_after_s) == 1


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
