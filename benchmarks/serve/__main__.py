"""Measure the service with scripted arms; each measurement prints a line of JSON, and may append it to a file.

python -m benchmarks.serve overhead --n 2000
python -m benchmarks.serve open --rate 100 --seconds 2000
python -m benchmarks.serve overload --seconds 30
python -m benchmarks.serve kills --n 200

How far it is goes to stderr. Ctrl-C or SIGTERM ends it early, with what there is by then: `"complete": false`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import linear_regression
from typing import Any

from benchmarks.serve.kills import kill_under_load
from benchmarks.serve.load import (
    Connections,
    Taken,
    closed_loop,
    deciding,
    health,
    open_loop,
    solving,
    solving_under_a_key,
)
from benchmarks.serve.scripted_server import KEY, ServerProcess

_WARM_UP = 100  # requests that are not counted
_PART_S = 10.0  # between two lines of progress, and two looks at the memory
_SIZES_SHOWN = 5
_OVERLOADED_ARM_S, _OVERLOADED_WORKERS = 0.05, 4  # such arms, one lane: 8 prompts at once, 20 times a second
_ANSWERED_IN_A_ROW = 5  # by a server that has recovered
_FREE = ("serve_rate=100000", "arms=icl")  # one arm: what it takes to answer is no part of what is measured


async def overhead(home: Path, port: int, n: int) -> dict[str, Any]:
    """One request after the other, arms that take no time: what is measured is all that is not the arm."""
    with _serving(home, port, _FREE) as server, Connections(server.url, KEY) as connections:
        await closed_loop(connections, solving, _WARM_UP)
        found: dict[str, Any] = {}
        for name, ask in (("solve", solving), ("decide", deciding), ("health", health)):
            _say(f"{n} requests: {name}")
            before_s = server.cpu_s()
            taken = await closed_loop(connections, ask, n)
            found[name] = {**taken.as_json(), "cpu_ms": round(1000 * (server.cpu_s() - before_s) / n, 2)}
        return found


async def open_rate(home: Path, port: int, rate: float, seconds: float) -> dict[str, Any]:
    """A steady rate, each request under a key of its own, and how memory goes."""
    with _serving(home, port, _FREE) as server, Connections(server.url, KEY) as connections:
        await open_loop(connections, solving_under_a_key, rate=rate, seconds=_WARM_UP / rate)
        taken, sizes_mb, before_s = Taken(), [_rss_mb(server)], server.cpu_s()
        n_parts = max(4, round(seconds / _PART_S))
        complete = False
        try:
            for part in range(n_parts):
                await open_loop(connections, solving_under_a_key, rate=rate, seconds=seconds / n_parts, taken=taken)
                sizes_mb.append(_rss_mb(server))
                _say(f"{part + 1} of {n_parts} parts: {taken.as_json()}, {sizes_mb[-1]} MB")
            complete = True
        except asyncio.CancelledError:
            pass
        cpu_ms = round(1000 * (server.cpu_s() - before_s) / max(1, taken.n), 2)
        memory = {"rss_mb": _thinned(sizes_mb), "rss_mb_an_hour": _slope_an_hour(sizes_mb, seconds / n_parts)}
        return {"rate": rate, "complete": complete, **taken.as_json(), "cpu_ms": cpu_ms, **memory}


async def overload(home: Path, port: int, seconds: float, times: float) -> dict[str, Any]:
    """So many times what it can do; health and decisions beside it; and how soon it answers again afterwards."""
    settings = (*_FREE, f"serve_workers={_OVERLOADED_WORKERS}", "serve_queue=8")
    with _serving(home, port, settings, arm_s=_OVERLOADED_ARM_S) as server:
        _say("what it can do")
        capacity = await _capacity(server.url)
        _say(f"{capacity:.1f} solves a second; {seconds:g} s of {times:g} times that")
        before_mb = _rss_mb(server)
        solves, decisions, healths = Taken(), Taken(), Taken()
        complete, recovered_s, all_sent = False, None, asyncio.Event()
        with Connections(server.url, KEY) as connections, Connections(server.url, KEY) as beside:
            try:
                *_, recovered_s = await asyncio.gather(
                    open_loop(
                        connections, solving, rate=times * capacity, seconds=seconds, taken=solves, all_sent=all_sent
                    ),
                    open_loop(beside, deciding, rate=10.0, seconds=seconds, taken=decisions),
                    open_loop(beside, health, rate=10.0, seconds=seconds, taken=healths),
                    recovered_after_s(server.url, all_sent),
                )
                complete = True
            except asyncio.CancelledError:
                pass
        return {
            "complete": complete,
            "capacity_per_s": round(capacity, 1),
            "offered_per_s": round(times * capacity, 1),
            "solve": solves.as_json(),
            "refused_without_retry_after": solves.without_retry_after,
            "decide": decisions.as_json(),
            "health": healths.as_json(),
            "arm_ms": 1000 * _OVERLOADED_ARM_S,
            "recovered_after_s": recovered_s,
            "rss_mb": [before_mb, _rss_mb(server)],
        }


async def recovered_after_s(url: str, all_sent: asyncio.Event) -> float:
    """Return how long after the last request of an overload was sent it answers whoever asks one after the other.

    Asked on a connection of its own, so that it waits behind none of those requests but in the server.
    """
    await all_sent.wait()
    began, answered_s = time.perf_counter(), list[float]()
    with Connections(url, KEY) as connections:
        while len(answered_s) < _ANSWERED_IN_A_ROW:
            status, _, _ = await connections.ask(*solving(0))
            if status == 200:
                answered_s.append(time.perf_counter() - began)
            else:
                answered_s.clear()
                await asyncio.sleep(0.02)
    return round(answered_s[0], 3)


@contextmanager
def _serving(home: Path, port: int, settings: tuple[str, ...], arm_s: float = 0.0) -> Iterator[ServerProcess]:
    server = ServerProcess(home, port, arm_s=arm_s, settings=settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _rss_mb(server: ServerProcess) -> float:
    return round(server.rss_bytes() / 2**20, 1)


def _thinned(sizes_mb: Sequence[float]) -> list[float]:
    """Return the first, the last and a few between."""
    last = len(sizes_mb) - 1
    return [sizes_mb[round(i * last / (_SIZES_SHOWN - 1))] for i in range(_SIZES_SHOWN)]


def _slope_an_hour(sizes_mb: Sequence[float], apart_s: float) -> float | None:
    """Return by how much it grows, in MB an hour, in the second half: what is there once loads before its limits."""
    late = sizes_mb[len(sizes_mb) // 2 :]
    if len(late) < 2:
        return None
    return round(linear_regression(range(len(late)), late).slope * 3600 / apart_s, 1)


def _say(said: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {said}", file=sys.stderr, flush=True)


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
        measurement = {
            "overhead": lambda: overhead(home, given.port, given.n),
            "open": lambda: open_rate(home, given.port, given.rate, given.seconds),
            "overload": lambda: overload(home, given.port, given.seconds, given.times),
            "kills": lambda: _kills(home, given.port, given.n),
        }[given.what]
        found = asyncio.run(_until_told_to_stop(measurement))
    line = json.dumps({"what": given.what, "at": datetime.now(UTC).isoformat(timespec="seconds"), **found})
    print(line)
    if given.results is not None:
        with given.results.open("a") as file:
            file.write(f"{line}\n")


async def _until_told_to_stop(measurement: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Have a measurement end early on SIGTERM as it does on Ctrl-C."""
    measuring = asyncio.current_task()
    assert measuring is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    return await measurement()


async def _kills(home: Path, port: int, n: int) -> dict[str, Any]:
    report = await kill_under_load(home, port, n, progress=_say)
    for each in report.lost:
        _say(f"lost: {each}")
    return {"complete": len(report.healthy_after_s) == n, **report.as_json()}


if __name__ == "__main__":
    main()
