"""Kills of the server under load: is anything lost that it has acknowledged, and how long until it is there again?

Acknowledged is what was answered: a solve with its trace id, feedback with 200, a job with 202. After the last kill all
of it has to be in the ledger, once, and every promised job has to be done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serve.load import Connections, solving
from benchmarks.serve.scripted_server import KEY, ServerProcess
from policies.errors import UnknownTrace
from policies.ledger import Ledger

_CLIENTS = 4


@dataclass
class Acknowledged:
    """What the server has said that it has."""

    decisions: set[str] = field(default_factory=set)
    outcomes: dict[str, float] = field(default_factory=dict)  # reward by trace id
    jobs: set[str] = field(default_factory=set)


@dataclass
class KillReport:
    """What came of it."""

    n_kills: int
    acknowledged: Acknowledged
    healthy_after_s: list[float]
    lost: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return what is written down."""
        ordered = sorted(self.healthy_after_s)
        return {
            "kills": self.n_kills,
            "decisions": len(self.acknowledged.decisions),
            "outcomes": len(self.acknowledged.outcomes),
            "jobs": len(self.acknowledged.jobs),
            "lost": len(self.lost),
            "healthy_again_p50_s": round(ordered[len(ordered) // 2], 2),
            "healthy_again_p95_s": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        }


async def kill_under_load(home: Path, port: int, n_kills: int, *, seed: int = 0, longest_s: float = 1.5) -> KillReport:
    """Start, load and kill a server again and again; then see what is there."""
    rng, server = random.Random(seed), ServerProcess(home, port, settings=("serve_rate=100000",))
    known, healthy_after_s = Acknowledged(), list[float]()
    await asyncio.to_thread(server.start)
    try:
        for _ in range(n_kills):
            clients = [asyncio.create_task(_client(server.url, known, rng.random())) for _ in range(_CLIENTS)]
            await asyncio.sleep(rng.uniform(0.05, longest_s))
            server.kill()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            healthy_after_s.append(await asyncio.to_thread(server.start))
        lost = await _undone_jobs(server.url, known.jobs)
    finally:
        await asyncio.to_thread(server.stop)
    return KillReport(n_kills, known, healthy_after_s, lost + _missing(home, known))


async def _client(url: str, known: Acknowledged, start: float) -> None:
    i = int(start * 10**9)
    with (
        Connections(url, KEY) as connections,
        contextlib.suppress(OSError, asyncio.IncompleteReadError),
    ):  # it is killed
        while True:
            await _ask(connections, known, i)
            i += 2


async def _ask(connections: Connections, known: Acknowledged, i: int) -> None:
    """Solve a task, say what came of it, now and then ask for a job; note what is acknowledged."""
    status, _, content = await connections.ask(*solving(i))
    if status == 200:
        trace_id = json.loads(content)["results"][0]["solution"]["trace_id"]
        known.decisions.add(trace_id)
        reward = (i % 11) / 10
        said = {"trace_id": trace_id, "reward": reward, "source": "bench"}
        if (await connections.ask("POST", "/v1/feedback", said))[0] == 200:
            known.outcomes[trace_id] = reward
    if i % 5 == 0:
        status, _, content = await connections.ask(*solving(i + 1), headers={"Prefer": "respond-async"})
        if status == 202:
            known.jobs.add(json.loads(content)["id"])


async def _undone_jobs(url: str, jobs: set[str], within_s: float = 60.0) -> list[str]:
    left = set(jobs)
    with Connections(url, KEY) as connections:
        for _ in range(int(within_s / 0.1)):
            for job in sorted(left):
                status, _, content = await connections.ask("GET", f"/v1/jobs/{job}")
                if status == 200 and json.loads(content)["state"] == "done":
                    left.discard(job)
            if not left:
                break
            await asyncio.sleep(0.1)
    return [f"job {job}" for job in sorted(left)]


def _missing(home: Path, known: Acknowledged) -> list[str]:
    """Return what was acknowledged and is not in the ledger, or is there otherwise."""
    missing = []
    with Ledger.open(home) as ledger:
        for trace_id in sorted(known.decisions):
            try:
                ledger.decision(trace_id)
            except UnknownTrace:
                missing.append(f"decision {trace_id}")
        for trace_id, reward in sorted(known.outcomes.items()):
            values = [
                each.value for each in ledger.outcomes(trace_id) if each.source == "bench" and each.kind == "exact"
            ]
            if values != [reward]:
                missing.append(f"outcome of {trace_id}: {values}, not {[reward]}")
    return missing
