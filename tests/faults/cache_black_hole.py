"""Redis accepts and says nothing: what the first solve pays, what all others pay, and how soon it is found again."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.adapters import SECRET, adapter_of
from tests.faults.harness import Figure, Harness
from tests.faults.proxy import FaultProxy, Toxics
from tests.redis_server import redis_server
from ttt_engine.stores import TieredAdapterStore, open_store

N_SHORT = 60
_MEMORY = Path("/dev/shm")
FIRST_MS, LATER_MS, RECOVERY_S = 600.0, 2.0, 6.0


def solve(store: TieredAdapterStore, task: str) -> bool:
    """Do all that a solve does with the store: look, fetch, keep; return whether it was degraded."""
    adapter = adapter_of(task)
    degraded = False
    try:
        held = adapter.key in store
    except Exception:
        held, degraded = False, True
    fetched = store.fetch(adapter.key)
    degraded |= bool(fetched.degraded)
    if fetched.adapter is None and not held:
        degraded |= bool(store.keep(adapter))
    return degraded


def timed(store: TieredAdapterStore, name: str, n: int) -> list[float]:
    """Milliseconds of each of `n` solves of tasks that are new."""
    took = []
    for i in range(n):
        started = time.perf_counter()
        solve(store, f"{name} {i}")
        took.append(1000 * (time.perf_counter() - started))
    return took


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) >= 100 else max(values)


def run(full: bool) -> list[Figure]:
    n = 2000 if full else N_SHORT
    with (
        redis_server() as server,
        FaultProxy(("127.0.0.1", server.port)) as proxy,
        tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder,  # no disk's pauses in the p99
    ):
        alone = open_store("local:", Path(folder) / "alone", secrets=SECRET)
        store = open_store(proxy.url, Path(folder) / "both", secrets=SECRET)
        timed(alone, "warm", 20)
        timed(store, "warm", 20)
        proxy.set(Toxics(black_hole=True))
        (first,) = timed(store, "first", 1)
        with_it: list[float] = []
        without: list[float] = []
        for i in range(n):  # in turn, so that whatever else the machine does falls on both
            with_it += timed(store, f"later {i}", 1)
            without += timed(alone, f"later {i}", 1)
        proxy.set(Toxics())
        back = time.monotonic()
        while solve(store, f"back {time.monotonic()}") and time.monotonic() - back < 30:
            time.sleep(0.01)
        recovery = time.monotonic() - back
        alone.close()
        store.close()
    added_first = first - statistics.median(without)
    of = p99 if full else statistics.median  # of a few solves the slowest says more of the machine than of us
    added = of(with_it) - of(without)
    return [
        Figure("added to the first solve", f"{added_first:.0f} ms", "at most 600 ms", added_first <= FIRST_MS),
        Figure(
            f"added at {'p99' if full else 'the median'} of the next {n}",
            f"{added:.2f} ms ({of(with_it):.2f} with, {of(without):.2f} without)",
            "at most 2 ms",
            added <= LATER_MS,
        ),
        Figure("recovery after its return", f"{recovery:.1f} s", "within 6 s", recovery <= RECOVERY_S),
    ]


HARNESS = Harness(
    name="cache-black-hole",
    what="lets Redis accept connections and say nothing, then answer again",
    target="first solve +600 ms, then +2 ms at p99, back within 6 s",
    run=run,
)
