"""Redis is killed again and again while tasks are solved: every solve answers, and no adapter is ever a wrong one."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from random import Random

import torch

from icl_engine.task import Task
from router.router import Router
from router.settings import Settings
from tests.adapters import signer
from tests.faults.harness import Figure, Harness
from tests.models import tiny_model
from tests.redis_server import RedisServer
from ttt_engine.adapter import Adapter
from ttt_engine.stores import AdapterStore, TieredAdapterStore
from ttt_engine.stores.redis import RedisAdapterStore

N_TASKS = 12


def tasks() -> list[Task]:
    return [Task.from_pairs([(f"a{i}", "x"), (f"b{i}", "y"), ("c", "z")], f"d{i}") for i in range(N_TASKS)]


class Watched:
    """A store that compares whatever is found with what was put under that key first."""

    def __init__(self, store: AdapterStore) -> None:
        self.store = store
        self.first: dict[str, str] = {}
        self.n_found = self.n_wrong = 0

    def get(self, key: str) -> Adapter | None:
        found = self.store.get(key)
        if found is not None:
            self.n_found += 1
            self.n_wrong += found.key != key or found.sha256 != self.first.get(key)
        return found

    def put(self, adapter: Adapter) -> None:
        self.first.setdefault(adapter.key, adapter.sha256)  # the same seed trains the same bytes
        self.store.put(adapter)

    def __contains__(self, key: str) -> bool:
        return key in self.store


def under_load(n_kills: int, seed: int = 0) -> dict[str, int]:
    """Solve, with training forced, while the server dies at random moments and comes back."""
    rng, found = Random(seed), {"solves": 0, "unanswered": 0, "degraded": 0}
    server = RedisServer(appendonly="yes").start()  # what it had it has again, so that there is something to find
    stop = threading.Event()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the model is tiny; threads that wait for each other on a busy machine cost seconds
    with tempfile.TemporaryDirectory() as home:
        remote = RedisAdapterStore(server.url, signer(), breaker_pause_s=0.05)
        watched = Watched(remote)
        settings = Settings(home=Path(home), arms=("icl", "ttt"), n_views=1, ttt_steps=1, ttt_batch_size=1, ttt_rank=2)
        with Router(settings, model=tiny_model(), store=TieredAdapterStore([watched])) as router:

            def solve() -> None:
                for turn in range(10**9):
                    if stop.is_set():
                        return
                    try:
                        solution = router.solve(all_tasks[turn % N_TASKS], arm="ttt")
                        found["unanswered"] += not solution.answers
                        found["degraded"] += any("Redis" in told for told in solution.degraded)
                    except Exception:  # it would end this thread unseen
                        found["unanswered"] += 1
                    found["solves"] += 1

            all_tasks = tasks()
            for task in all_tasks:
                router.solve(task, arm="ttt")
            solver = threading.Thread(target=solve)
            solver.start()
            try:
                for _ in range(n_kills):
                    _until_solved(found, 1 + rng.randrange(4))
                    time.sleep(rng.uniform(0.0, 0.1))  # somewhere in the next solve
                    server.kill()
                    _until_solved(found, rng.randrange(2))
                    server.start()
            finally:
                stop.set()
                solver.join(60)
                torch.set_num_threads(threads)
                server.stop()
                remote.close()
    return {**found, "found": watched.n_found, "wrong": watched.n_wrong}


def _until_solved(found: dict[str, int], n: int, within_s: float = 30.0) -> None:
    """Wait until `n` more solves are done."""
    wanted, deadline = found["solves"] + n, time.monotonic() + within_s
    while found["solves"] < wanted and time.monotonic() < deadline:
        time.sleep(0.002)


def run(full: bool) -> list[Figure]:
    n_kills = 200 if full else 4
    found = under_load(n_kills)
    return [
        Figure(
            f"solves without an answer, {n_kills} kills",
            f"{found['unanswered']} of {found['solves']}, {found['degraded']} said degraded",
            "0",
            found["unanswered"] == 0 and found["solves"] >= n_kills,
        ),
        Figure(
            "wrong adapters", f"{found['wrong']} of {found['found']} found", "0",
            found["wrong"] == 0 and found["found"] >= n_kills // 2,
        ),
    ]  # fmt: skip


HARNESS = Harness(
    name="cache-redis-kills",
    what="kills redis-server 200 times with SIGKILL while tasks are solved with training",
    target="every solve answers, no wrong adapter",
    run=run,
)
