"""Measure the service with scripted arms; each measurement prints a line of JSON, and may append it to a file.

python -m benchmarks.serve overhead --n 2000
python -m benchmarks.serve open --rate 100 --seconds 2000
python -m benchmarks.serve overload --seconds 30
python -m benchmarks.serve kills --n 200
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.serve.kills import kill_under_load
from benchmarks.serve.load import Connections, closed_loop, deciding, health, open_loop, solving
from benchmarks.serve.scripted_server import KEY, ServerProcess

_WARM_UP = 100  # requests that are not counted
_OVERLOADED_ARM_S, _OVERLOADED_WORKERS = 0.05, 4  # such arms, one lane: 8 prompts at once, 20 times a second
_FREE = ("serve_rate=100000",)


async def overhead(home: Path, port: int, n: int) -> dict[str, Any]:
    """One request after the other, arms that take no time: what is measured is all that is not the arm."""
    server = ServerProcess(home, port, settings=_FREE)
    server.start()
    try:
        with Connections(server.url, KEY) as connections:
            await closed_loop(connections, solving, _WARM_UP)
            found: dict[str, Any] = {}
            for name, ask in (("solve", solving), ("decide", deciding), ("health", health)):
                before_s = server.cpu_s()
                taken = await closed_loop(connections, ask, n)
                found[name] = {**taken.as_json(), "cpu_ms": round(1000 * (server.cpu_s() - before_s) / n, 2)}
            return found
    finally:
        server.stop()


async def open_rate(home: Path, port: int, rate: float, seconds: float) -> dict[str, Any]:
    """A steady rate, and how memory goes."""
    server = ServerProcess(home, port, settings=_FREE)
    server.start()
    try:
        with Connections(server.url, KEY) as connections:
            await open_loop(connections, solving, rate=rate, seconds=_WARM_UP / rate)
            sizes, n_parts, before_s = [server.rss_bytes()], 4, server.cpu_s()
            parts = []
            for _ in range(n_parts):
                parts.append(await open_loop(connections, solving, rate=rate, seconds=seconds / n_parts))
                sizes.append(server.rss_bytes())
            whole = parts[0]
            for part in parts[1:]:
                whole.latencies_s += part.latencies_s
                whole.statuses += part.statuses
            cpu_ms = round(1000 * (server.cpu_s() - before_s) / sum(whole.statuses.values()), 2)
            rss_mb = [round(size / 2**20, 1) for size in sizes]
            return {"rate": rate, **whole.as_json(), "cpu_ms": cpu_ms, "rss_mb": rss_mb}
    finally:
        server.stop()


async def overload(home: Path, port: int, seconds: float, times: float) -> dict[str, Any]:
    """So many times what it can do; health and decisions beside it; and how soon it answers again afterwards."""
    settings = (*_FREE, f"serve_workers={_OVERLOADED_WORKERS}", "serve_queue=8")
    server = ServerProcess(home, port, arm_s=_OVERLOADED_ARM_S, settings=settings)
    server.start()
    try:
        capacity = await _capacity(server.url)
        with Connections(server.url, KEY) as connections, Connections(server.url, KEY) as beside:
            solves, decisions, healths = await asyncio.gather(
                open_loop(connections, solving, rate=times * capacity, seconds=seconds),
                open_loop(beside, deciding, rate=10.0, seconds=seconds),
                open_loop(beside, health, rate=10.0, seconds=seconds),
            )
            began = time.perf_counter()
            while (await connections.ask(*solving(0)))[0] != 200:
                await asyncio.sleep(0.02)
            return {
                "capacity_per_s": round(capacity, 1),
                "offered_per_s": round(times * capacity, 1),
                "solve": solves.as_json(),
                "refused_without_retry_after": solves.without_retry_after,
                "decide": decisions.as_json(),
                "health": healths.as_json(),
                "arm_ms": 1000 * _OVERLOADED_ARM_S,
                "recovered_after_s": round(time.perf_counter() - began, 3),
            }
    finally:
        server.stop()


async def _capacity(url: str, seconds: float = 3.0) -> float:
    """Return solves a second where there is always another that waits."""
    end, done = time.perf_counter() + seconds, 0

    async def client(connections: Connections) -> None:
        nonlocal done
        while time.perf_counter() < end:
            status, _, _ = await connections.ask(*solving(done))
            done += status == 200

    with Connections(url, KEY) as connections:
        await asyncio.gather(*(client(connections) for _ in range(8)))
    return done / seconds


def main() -> None:
    """Read the arguments, measure, write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "open", "overload", "kills"))
    parser.add_argument("--n", type=int, default=1000, help="requests, or kills")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=3.0, help="of what the server can do")
    parser.add_argument("--port", type=int, default=8771)
    parser.add_argument("--results", type=Path, help="file that the line is appended to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        found = asyncio.run(
            {
                "overhead": lambda: overhead(home, given.port, given.n),
                "open": lambda: open_rate(home, given.port, given.rate, given.seconds),
                "overload": lambda: overload(home, given.port, given.seconds, given.times),
                "kills": lambda: _kills(home, given.port, given.n),
            }[given.what]()
        )
    line = json.dumps({"what": given.what, "at": datetime.now(UTC).isoformat(timespec="seconds"), **found})
    print(line)
    if given.results is not None:
        with given.results.open("a") as file:
            file.write(f"{line}\n")


async def _kills(home: Path, port: int, n: int) -> dict[str, Any]:
    report = await kill_under_load(home, port, n)
    for each in report.lost:
        print(f"lost: {each}")
    return report.as_json()


if __name__ == "__main__":
    main()
