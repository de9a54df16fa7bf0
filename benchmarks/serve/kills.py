"""Kills of the server under load: is anything lost that it has acknowledged, and how long until it is there again?

Acknowledged is what was answered: a solve with its trace id, feedback with 200, a job with 202. After the last kill all
of it has to be in the ledger, once, and every promised job has to be done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Sequence
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
    rss_mb: list[float]  # of the first server and the last, before they were killed

    def as_json(self) -> dict[str, Any]:
        """Return what is written down."""
        ordered = sorted(self.healthy_after_s)
        return {
            "kills": len(ordered),
            "of": self.n_kills,
            "decisions": len(self.acknowledged.decisions),
            "outcomes": len(self.acknowledged.outcomes),
            "jobs": len(self.acknowledged.jobs),
            "lost": len(self.lost),
            "healthy_again_p50_s": _at(ordered, 0.5),
            "healthy_again_p95_s": _at(ordered, 0.95),
            "rss_mb": self.rss_mb,
        }


async def kill_under_load(
    home: Path,
    port: int,
    n_kills: int,
    *,
    seed: int = 0,
    longest_s: float = 1.5,
    progress: Callable[[str], None] = lambda said: None,
) -> KillReport:
    """Start, load and kill a server again and again; then see what is there.

    Cancelled, it looks at what it has by then.
    """
    rng, server = random.Random(seed), ServerProcess(home, port, settings=("serve_rate=100000",))
    known, healthy_after_s, rss_mb = Acknowledged(), list[float](), list[float]()
    starting = asyncio.ensure_future(asyncio.to_thread(server.start))
    await starting
    try:
        with contextlib.suppress(asyncio.CancelledError):
            while len(healthy_after_s) < n_kills:
                rss_mb = [*rss_mb[:1], await _load_and_kill(server, known, rng, longest_s)]
                starting = asyncio.ensure_future(asyncio.to_thread(server.start))
                healthy_after_s.append(await asyncio.shield(starting))
                progress(
                    f"{len(healthy_after_s)} of {n_kills} kills, {len(known.outcomes)} outcomes acknowledged, "
                    f"there again after {healthy_after_s[-1]:.2f} s"
                )
        await starting
        if not await asyncio.to_thread(server.is_healthy):  # broken off between a kill and a start
            await asyncio.to_thread(server.start)
        lost = await _undone_jobs(server.url, known.jobs)
    finally:
        await asyncio.to_thread(server.stop)
    return KillReport(n_kills, known, healthy_after_s, lost + _missing(home, known), rss_mb)


async def _load_and_kill(server: ServerProcess, known: Acknowledged, rng: random.Random, longest_s: float) -> float:
    """Return how large it was, in MB."""
    clients = [asyncio.create_task(_client(server.url, known, rng.random())) for _ in range(_CLIENTS)]
    try:
        await asyncio.sleep(rng.uniform(0.05, longest_s))
        rss_mb = round(server.rss_bytes() / 2**20, 1)
        server.kill()
        return rss_mb
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


def _at(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else float("nan")


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
        status, _, content = await connections.ask(*solving(i + 1)._replace(headers={"Prefer": "respond-async"}))
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
