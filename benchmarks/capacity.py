"""How many tasks an hour, and what gives way first: a small simulation on unit costs that were measured.

Tasks come at random. A worker (two cores, or one GPU whose seconds are given) solves one after another: in context, by
training, or with an adapter that is kept. Decision and trace are committed one at a time, since writers of a PostgreSQL
ledger take turns. Adapters go to a Redis of a certain size, which forgets the oldest when it is full.

    python -m benchmarks.capacity                    # the table of docs/scale.md
    python -m benchmarks.capacity --measure          # unit costs of ledger and hits, on a PostgreSQL of its own
    python -m benchmarks.capacity --trained-s 0.5 --redis-gb 16 --loads 100000
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

LOADS = (10, 1_000, 100_000)  # tasks an hour
BUSY = 0.7  # share of the time that workers may be at work, if queues are to stay short


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """What one task takes, and what there is of everything. Seconds and bytes."""

    icl_s: float = 0.18  # docs/model.md: embedded model, two cores, median of 36 tasks of 1D-ARC
    trained_s: float = 5.4  # likewise; training takes most of it
    hit_s: float = 0.38  # 0.07 of a trained answer: --measure, median of 6 tasks of 1D-ARC
    trained_share: float = 0.43  # README: 77 of 180 tasks of 1D-ARC are not solved in context
    adapter_bytes: float = 1.2e6  # docs/reliability.md
    fetch_s: float = 0.006  # docs/reliability.md: a cached adapter from Redis, 1.5 s / 249
    redis_bytes_per_s: float = 50e6 / 0.034  # docs/reliability.md: 50 MB over TCP
    redis_bytes: float = 2e9  # deploy/compose.yaml
    commit_s: float = 0.026  # of a decision and of its trace, one after the other: --measure, on a busy machine
    row_bytes: float = 4650.0  # of both in PostgreSQL, indexes included: --measure, ARC tasks answered in context
    n_different: int = 100_000  # tasks that come again and again, the common ones more often
    skew: float = 1.0  # of how often (Zipf); 0: all alike
    new_share: float = 0.5  # of tasks, which never come again


@dataclass(frozen=True, slots=True)
class Load:
    """What a load comes to."""

    tasks_per_hour: float
    n_workers: int
    workers_busy: float  # shares of the time, 0 to 1
    ledger_busy: float
    redis_busy: float
    redis_full: float  # share of its memory that a week of adapters would take; above 1 it forgets
    hit_share: float  # of the tasks that are trained on, of which the adapter was there
    p50_s: float
    p95_s: float  # from asking to answer
    ledger_gb_per_day: float

    @property
    def first(self) -> str:
        """What gives way first as the load grows."""
        shares = {
            "workers": self.workers_busy,
            "ledger (writers take turns)": self.ledger_busy,
            "Redis (bandwidth)": self.redis_busy,
        }
        return max(shares, key=lambda name: shares[name])


def simulate(tasks_per_hour: float, costs: UnitCosts, *, n_tasks: int = 20_000, seed: int = 0) -> Load:
    """Let tasks come for as long as `n_tasks` take, with as many workers as keep them `BUSY` at most."""
    rng = np.random.default_rng(seed)
    rate = tasks_per_hour / 3600
    arrivals = np.cumsum(rng.exponential(1 / rate, n_tasks))
    trained = rng.random(n_tasks) < costs.trained_share
    which = _tasks(costs, n_tasks, rng)
    kept = _Kept(int(costs.redis_bytes // costs.adapter_bytes))
    hits = np.array([needs and kept.asked(int(task)) for needs, task in zip(trained, which, strict=True)])
    service = np.where(hits, costs.hit_s + costs.fetch_s, np.where(trained, costs.trained_s, costs.icl_s))
    n_workers = max(1, int(np.ceil(rate * service.mean() / BUSY)))
    latencies, worked_s, committed_s = _queues(arrivals, service, n_workers, costs.commit_s)
    elapsed = float(arrivals[-1])
    moved = float(trained.sum()) * costs.adapter_bytes  # put where it was trained, fetched where it was there
    week = rate * float((trained & ~hits).mean()) * 7 * 24 * 3600 * costs.adapter_bytes
    return Load(
        tasks_per_hour=tasks_per_hour,
        n_workers=n_workers,
        workers_busy=worked_s / elapsed / n_workers,
        ledger_busy=committed_s / elapsed,
        redis_busy=moved / costs.redis_bytes_per_s / elapsed,
        redis_full=week / costs.redis_bytes,
        hit_share=float(hits.sum() / max(1, trained.sum())),
        p50_s=float(np.percentile(latencies, 50)),
        p95_s=float(np.percentile(latencies, 95)),
        ledger_gb_per_day=24 * tasks_per_hour * costs.row_bytes / 1e9,
    )


def _tasks(costs: UnitCosts, n_tasks: int, rng: np.random.Generator) -> Sequence[int]:
    """Return which task each is: a number of its own for those that are new."""
    weights = 1.0 / np.arange(1, costs.n_different + 1) ** costs.skew
    known = rng.choice(costs.n_different, n_tasks, p=weights / weights.sum())
    new = rng.random(n_tasks) < costs.new_share
    drawn: list[int] = np.where(new, costs.n_different + np.arange(n_tasks), known).tolist()
    return drawn


class _Kept:
    """The adapters that are kept: as many as there is room for, those used last."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._adapters: OrderedDict[int, None] = OrderedDict()

    def asked(self, task: int) -> bool:
        """Say whether a task's adapter is there, and keep it from now on."""
        there = task in self._adapters
        self._adapters[task] = None
        self._adapters.move_to_end(task)
        while len(self._adapters) > self._room:
            self._adapters.popitem(last=False)
        return there


def _queues(
    arrivals: Iterable[float], service: Iterable[float], n_workers: int, commit_s: float
) -> tuple[list[float], float, float]:
    """Return the latency of every task, and the seconds that workers and ledger were at work.

    First come, first served by whoever is free, who is free again after a commit; commits are made one at a time, in
    the order in which the answers are there.
    """
    free = [0.0] * n_workers
    answered = []
    for came, takes in zip(arrivals, service, strict=True):
        done = max(came, heapq.heappop(free)) + takes
        heapq.heappush(free, done + commit_s)
        answered.append((done, came))
    ledger_free, latencies = 0.0, []
    for done, came in sorted(answered):
        ledger_free = max(ledger_free, done) + commit_s
        latencies.append(ledger_free - came)
    return latencies, float(sum(service)), commit_s * len(latencies)


def measure(n_solves: int = 400) -> tuple[float, float]:
    """Return the seconds of a decision's and a trace's commits in PostgreSQL, and their bytes there."""
    import psycopg

    from icl_engine.loaders import load_tasks
    from icl_engine.scripted_model import ScriptedModel
    from policies.ledger import Ledger
    from router.demo import TASKS
    from router.router import Router
    from router.settings import Settings
    from tests.postgres_server import running_postgres

    def size(url: str) -> int:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            assert found is not None
            return int(found[0])

    tasks = [each.task for each in load_tasks(TASKS / "arc_agi_1.json")]
    with running_postgres(durable=True) as server, server.database() as url, tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), ledger_url=url, arms=("icl",), learning="off")
        spent: list[float] = []
        with Ledger.open(url, files=Path(home)) as ledger:
            record = ledger.record_decision

            def timed(row):  # type: ignore[no-untyped-def]
                began = time.perf_counter()
                try:
                    return record(row)
                finally:
                    spent.append(time.perf_counter() - began)

            ledger.record_decision = timed  # type: ignore[method-assign]
            with Router(settings, model=ScriptedModel(lambda task: task.query), ledger=ledger) as router:
                router.solve(tasks[0])
                before = size(url)
                for i in range(n_solves):
                    router.solve(tasks[i % len(tasks)])
                router.flush()
                after = size(url)
    return 2 * float(np.median(spent)), (after - before) / n_solves


def measure_hit(n_tasks: int = 6) -> float:
    """Return what a trained answer takes with its adapter at hand, as a share of what it takes without."""
    from icl_engine.loaders import load_tasks
    from router.demo import TASKS
    from router.router import Router
    from router.settings import Settings

    tasks = [each.task for each in load_tasks(TASKS / "1d_arc.json")][: n_tasks + 1]
    shares = []
    with tempfile.TemporaryDirectory() as home, Router(Settings(home=Path(home), learning="off")) as router:
        router.solve(tasks.pop(), arm="ttt")  # everything is loaded
        for task in tasks:
            first, again = (router.solve(task, arm="ttt").cost.seconds for _ in range(2))
            shares.append(again / first)
    return float(np.median(shares))


def table(loads: Sequence[Load]) -> str:
    """Return what loads come to, as a table of Markdown."""
    lines = [
        "| tasks an hour | workers | at work | ledger | Redis | a week of adapters, of its memory | adapter there | "
        "p50 | p95 | ledger a day | nearest its limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.tasks_per_hour:,.0f} | {each.n_workers} | {each.workers_busy:.0%} | {each.ledger_busy:.2%} | "
        f"{each.redis_busy:.2%} | {each.redis_full:.2f} times | {each.hit_share:.0%} | {each.p50_s:.1f} s | "
        f"{each.p95_s:.1f} s | {each.ledger_gb_per_day:.2f} GB | {each.first} |"
        for each in loads
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table, or the unit costs of the ledger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--redis-gb", type=float)
    for field in fields(UnitCosts):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    given = parser.parse_args()
    if given.measure:
        commit_s, row_bytes = measure()
        print(f"commits of a decision and its trace {1000 * commit_s:.2f} ms, {row_bytes:,.0f} bytes a task")
        print(f"a trained answer takes {measure_hit():.2f} of that time with its adapter at hand")
        return
    values = {field.name: getattr(given, field.name) for field in fields(UnitCosts)}
    if given.redis_gb is not None:
        values["redis_bytes"] = given.redis_gb * 1e9
    print(table([simulate(load, UnitCosts(**values)) for load in given.loads]))


if __name__ == "__main__":
    main()
