"""Two `ttt-router serve` on one Redis and one PostgreSQL act as one: one training a task, one policy for both."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from icl_engine.task import Task
from policies.ledger import Ledger
from router.client import AsyncClient
from router.settings import PREFIX
from router.solution import Solution
from router.trace import Trace
from tests.models import save_tiny_llama
from tests.postgres_server import running_postgres
from tests.redis_server import RedisServer, free_port
from tests.router.made_up_policy import publish_made_up_policy
from tests.router.serve.serving import LAB, until

AUTHORIZED = {"Authorization": f"Bearer {LAB}"}
ROOT = Path(__file__).resolve().parents[3]
SERVE = "import sys; from router.cli import main; sys.exit(main(['serve', *sys.argv[1:]]))"
TASK = Task.from_pairs([("a", "yes"), ("b", "yes"), ("c", "yes")], "d")
TASKS = [TASK, *(Task.from_pairs([("up", "down"), ("left", "right")], query) for query in ("right", "down", "up"))]
SETTINGS = {
    "device": "cpu",
    "arms": "icl,ttt",
    "cold_start": "rule",
    "epsilon": "0",
    "price": "0",  # what an arm takes is measured by each server, and no two find the same
    "ttt_steps": "20",
    "ttt_data": "shuffles",
    "n_views": "1",
    "serve_rate": "10000",
    "serve_keys": f"lab={LAB}",
    "store_secrets": "a secret of all servers",
}


@dataclass(frozen=True)
class Servers:
    """Where they are, and the ledger that they share."""

    urls: tuple[str, ...]
    ledger: Ledger

    def ask(self, path: str, body: dict[str, Any] | None = None) -> list[Any]:
        """Return what each says."""
        said, method = [], "GET" if body is None else "POST"
        for url in self.urls:
            answer = httpx.request(method, f"{url}{path}", headers=AUTHORIZED, json=body, timeout=30)
            said.append(answer.raise_for_status().json())
        return said

    def trace(self, trace_id: str) -> Trace:
        """Return a trace as it is in the ledger."""
        return Trace.read(self.ledger.trace(trace_id).document)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, one_redis: RedisServer) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as held:
        url = held.enter_context(held.enter_context(running_postgres()).database())
        shared = {
            **SETTINGS,
            "ledger_url": url,
            "store_url": one_redis.url,
            "model": str(save_tiny_llama(folder / "model")),
        }
        policies = folder / "policies"  # in a folder that all share, as docs/scale.md has it
        policies.mkdir()
        urls = [held.enter_context(served(folder / name, policies, shared)) for name in ("one", "two")]
        for each in urls:
            until(partial(is_healthy, each), f"there is no server at {each}", within_s=120)
        yield Servers(tuple(urls), held.enter_context(Ledger.open(url, files=policies)))


@contextmanager
def served(home: Path, policies: Path, settings: dict[str, str]) -> Iterator[str]:
    """Start a server with a home of its own; give its URL, and stop it afterwards."""
    home.mkdir()
    (home / "policies").symlink_to(policies)
    port = str(free_port())
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    environment = {**others, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-c", SERVE, "--port", port, "--home", str(home), "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=home, env=environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        assert server.wait(60) == 0  # in good order


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def test_fifty_equal_tasks_asked_of_two_servers_at_once_are_trained_on_once(servers: Servers) -> None:
    async def half(url: str) -> list[Solution]:
        async with AsyncClient(url, LAB) as client:
            return list(await asyncio.gather(*(client.solve(TASK, arm="ttt") for _ in range(25))))

    async def both() -> list[list[Solution]]:
        return list(await asyncio.gather(*(half(url) for url in servers.urls)))

    halves = asyncio.run(both())
    servers.ask("/v1/traces")  # what is written behind the answer is there

    solutions = [each for half in halves for each in half]
    traces = [servers.trace(each.trace_id) for each in solutions]
    adapters = [trace.adapter for trace in traces if trace.adapter is not None]
    assert len({each.trace_id for each in solutions}) == 50
    assert {each.degraded for each in solutions} == {()}
    assert len({each.answer for each in solutions}) == 1
    assert (len(adapters), len({adapter.key for adapter in adapters})) == (50, 1)
    assert [adapter.cached for adapter in adapters].count(False) == 1


@pytest.mark.alone
def test_a_promotion_is_what_both_servers_decide_by_within_two_seconds_and_both_decide_alike(servers: Servers) -> None:
    def decided(task: Task) -> list[Any]:
        return servers.ask("/v1/decide", {"task": sent(task), "seed": 7})

    solved = servers.ask("/v1/solve", {"tasks": [sent(TASK)], "arm": "icl"})
    servers.ask("/v1/traces")
    (fingerprint,) = {servers.trace(each["results"][0]["solution"]["trace_id"]).model_fingerprint for each in solved}
    before, at_first = [each["deciding"] for each in servers.ask("/v1/policy")], [decided(task) for task in TASKS]
    version = publish_made_up_policy(servers.ledger, fingerprint)
    servers.ledger.policy_versions.promote(version, expected_epoch=0, reason="by hand")
    promoted = time.monotonic()
    until(lambda: all(each["deciding"] not in before for each in servers.ask("/v1/policy")), "not seen by both")
    took_s = time.monotonic() - promoted
    after, then = [each["deciding"] for each in servers.ask("/v1/policy")], [decided(task) for task in TASKS]

    assert len(set(before)) == len(set(after)) == 1
    assert after[0].startswith("learned@")
    assert took_s < 2.0
    for one, two in (*at_first, *then):
        assert (one["arm"], one["policy"]) == (two["arm"], two["policy"])
        assert one["propensities"] == pytest.approx(two["propensities"])
    assert {decision["policy"] for pair in then for decision in pair} == set(after)


def sent(task: Task) -> dict[str, Any]:
    return task.model_dump(mode="json", exclude_none=True)
