"""How many tasks an hour, and what gives way first: a small simulation on unit costs that were measured.

Tasks come at random. A worker (two cores, or one GPU whose seconds are given) solves one after another: in context, by
training, or with an adapter that is kept. It is taken until its decision is committed. Writers of a PostgreSQL ledger
take turns: each process commits together what its workers have decided meanwhile (`policies.group_commit`), and its
traces, some at a time, behind the answers (`router.traces.writer`). Adapters go to a Redis of a certain size, which
forgets the oldest when it is full.

    python -m benchmarks.capacity                    # the table of docs/scale.md
    python -m benchmarks.capacity --measure          # unit costs of ledger and hits, on a PostgreSQL of its own
    python -m benchmarks.capacity --trained-s 0.5 --redis-gb 16 --loads 100000 --workers-per-process 4
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

LOADS = (10, 1_000, 100_000)  # tasks an hour
BUSY = 0.7  # share of the time that workers may be taken, if queues are to stay short
_DECISIONS_AT_ONCE, _TRACES_AT_ONCE = 64, 16  # in one commit of a process: as in the two modules named above
_TRACES_GATHER_S = 0.2


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """What one task takes, and what there is of everything. Seconds and bytes."""

    icl_s: float = 0.18  # docs/model.md: embedded model, two cores, median of 36 tasks of 1D-ARC
    trained_s: float = 5.4  # likewise; training takes most of it
    hit_s: float = 0.38  # 0.07 of a trained answer: --measure, median of 6 tasks of 1D-ARC
    trained_share: float = 0.43  # docs/model.md: 77 of 180 tasks of 1D-ARC are not solved in context
    adapter_bytes: float = 1.2e6  # docs/reliability.md
    fetch_s: float = 0.006  # docs/reliability.md: a cached adapter from Redis, 1.5 s / 249
    redis_bytes_per_s: float = 50e6 / 0.034  # docs/reliability.md: 50 MB over TCP
    redis_bytes: float = 2e9  # deploy/compose.yaml
    commit_s: float = 0.0084  # of one decision: --measure, on a busy machine
    row_s: float = 0.0026  # that each further row of a commit adds to it: --measure
    row_bytes: float = 4560.0  # of both in PostgreSQL, indexes included: --measure, ARC tasks answered in context
    n_different: int = 100_000  # tasks that come again and again, the common ones more often
    skew: float = 1.0  # of how often (Zipf); 0: all alike
    new_share: float = 0.5  # of tasks, which never come again
    workers_per_process: int = 1  # as on Ray; what workers of one process write may share a commit


@dataclass(frozen=True, slots=True)
class Load:
    """What a load comes to."""

    tasks_per_hour: float
    n_workers: int
    workers_busy: float  # shares of the time, 0 to 1; this one without the time that they wait for a commit
    ledger_busy: float
    redis_busy: float
    redis_full: float  # share of its memory that a week of adapters would take; above 1 it forgets
    hit_share: float  # of the tasks that are trained on, of which the adapter was there
    commit_wait_p95_s: float  # that a worker waits for its decision to be committed
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
    n_workers = max(1, int(np.ceil(rate * (service.mean() + costs.commit_s) / BUSY)))
    queues = Queues(n_workers, costs.workers_per_process, costs.commit_s, costs.row_s)
    queues.run(arrivals.tolist(), service.tolist())
    elapsed = queues.ended_at  # late, where tasks come faster than they can be answered
    moved = float(trained.sum()) * costs.adapter_bytes  # put where it was trained, fetched where it was there
    week = rate * float((trained & ~hits).mean()) * 7 * 24 * 3600 * costs.adapter_bytes
    return Load(
        tasks_per_hour=tasks_per_hour,
        n_workers=n_workers,
        workers_busy=float(service.sum()) / elapsed / n_workers,
        ledger_busy=queues.committed_s / elapsed,
        redis_busy=moved / costs.redis_bytes_per_s / elapsed,
        redis_full=week / costs.redis_bytes,
        hit_share=float(hits.sum() / max(1, trained.sum())),
        commit_wait_p95_s=float(np.percentile(queues.commit_waits_s, 95)),
        p50_s=float(np.percentile(queues.latencies_s, 50)),
        p95_s=float(np.percentile(queues.latencies_s, 95)),
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


class Queues:
    """Workers that take tasks in the order in which they come, and the ledger, whose turn goes from process to process.

    Attributes:
        latencies_s: of every task, from asking to answer.
        commit_waits_s: of every task, part of that: from its decision until that is committed.
        committed_s: that the ledger was at work.
        ended_at: when all was written.
    """

    def __init__(self, n_workers: int, workers_per_process: int, commit_s: float, row_s: float = 0.0) -> None:
        self._commit_s, self._row_s = commit_s, row_s
        processes = [_Process() for _ in range(-(-n_workers // workers_per_process))]
        self._free = deque(processes[i % len(processes)] for i in range(n_workers))  # one entry a worker
        self._tasks = deque[tuple[float, float]]()  # that wait for a worker: when they came, what they take
        self._turns = deque[_Writer]()  # that wait for the ledger
        self._is_committing = False
        self.ended_at, self._numbers = 0.0, count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.latencies_s: list[float] = []
        self.commit_waits_s: list[float] = []
        self.committed_s = 0.0

    def run(self, arrivals: Iterable[float], service: Iterable[float]) -> None:
        """Let tasks come, and go on until all is written."""
        for came, takes in zip(arrivals, service, strict=True):
            self._at(came, partial(self._come, came, takes))
        while self._events:
            self.ended_at, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _come(self, came: float, takes: float) -> None:
        self._tasks.append((came, takes))
        self._begin()

    def _begin(self) -> None:
        while self._free and self._tasks:
            process, (came, takes) = self._free.popleft(), self._tasks.popleft()
            self._at(self.ended_at + takes, partial(self._decided, process, came))

    def _decided(self, process: _Process, came: float) -> None:
        process.decisions.waiting.append(partial(self._answered, process, came, self.ended_at))
        self._ask_for_a_turn(process.decisions)

    def _answered(self, process: _Process, came: float, decided: float) -> None:
        self.latencies_s.append(self.ended_at - came)
        self.commit_waits_s.append(self.ended_at - decided)
        traces = process.traces
        traces.waiting.append(lambda: None)
        if len(traces.waiting) == 1 and not traces.group:
            self._at(self.ended_at + _TRACES_GATHER_S, partial(self._ask_for_a_turn, traces))
        elif len(traces.waiting) >= traces.at_once:
            self._ask_for_a_turn(traces)
        self._free.append(process)
        self._begin()

    def _ask_for_a_turn(self, writer: _Writer) -> None:
        """Have a writer wait for the ledger with what it has by now; what comes later is for its next turn."""
        if writer.waiting and not writer.group:
            writer.group, writer.waiting = writer.waiting[: writer.at_once], writer.waiting[writer.at_once :]
            self._turns.append(writer)
            self._commit()

    def _commit(self) -> None:
        if self._turns and not self._is_committing:
            self._is_committing = True
            writer = self._turns.popleft()
            takes = self._commit_s + self._row_s * (len(writer.group) - 1)
            self.committed_s += takes
            self._at(self.ended_at + takes, partial(self._committed, writer))

    def _committed(self, writer: _Writer) -> None:
        self._is_committing = False
        group, writer.group = writer.group, []
        for each in group:
            each()
        self._ask_for_a_turn(writer)
        self._commit()


@dataclass(slots=True)
class _Writer:
    """One of the two threads of a process that write to the ledger: what it commits, and what waits for that."""

    at_once: int
    group: list[Callable[[], None]] = field(default_factory=list)  # what happens when each is committed
    waiting: list[Callable[[], None]] = field(default_factory=list)


@dataclass(slots=True)
class _Process:
    """A process, which has workers."""

    decisions: _Writer = field(default_factory=partial(_Writer, _DECISIONS_AT_ONCE))
    traces: _Writer = field(default_factory=partial(_Writer, _TRACES_AT_ONCE))


@dataclass(frozen=True, slots=True)
class LedgerCosts:
    """What it takes to write to PostgreSQL. Seconds and bytes."""

    commit_s: float  # of one decision
    row_s: float  # that each further trace of a commit of traces adds to it
    row_bytes: float  # of a decision and its trace


def measure(n_solves: int = 400) -> LedgerCosts:
    """Solve tasks, their traces written one at a time and then together, and see what the commits took."""
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
        with Ledger.open(url, files=Path(home)) as ledger:
            decisions = _timed(ledger, "record_decision")
            traces = _timed(ledger.traces, "add")
            with Router(settings, model=ScriptedModel(lambda task: task.query), ledger=ledger) as router:
                router.solve(tasks[0])
                router.flush()
                before = size(url)
                for i in range(n_solves):
                    router.solve(tasks[i % len(tasks)])
                    if i < n_solves // 4:
                        router.flush()
                router.flush()
                after = size(url)
    one = float(np.median([took_s for took_s, (given,) in traces if len(given) == 1]))
    further = [(took_s - one) / (len(given) - 1) for took_s, (given,) in traces if len(given) > _TRACES_AT_ONCE // 2]
    commit_s = float(np.median([took_s for took_s, _ in decisions]))
    return LedgerCosts(commit_s, float(np.median(further)), (after - before) / n_solves)


def _timed(of: object, name: str) -> list[tuple[float, tuple[Any, ...]]]:
    """Have a method of an object note what each call takes, and what it is given; return the notes."""
    method, notes = getattr(of, name), list[tuple[float, tuple[Any, ...]]]()

    def noting(*given: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*given)
        finally:
            notes.append((time.perf_counter() - began, given))

    setattr(of, name, noting)
    return notes


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
        "waits for its commit, p95 | p50 | p95 | ledger a day | nearest its limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.tasks_per_hour:,.0f} | {each.n_workers} | {each.workers_busy:.0%} | {each.ledger_busy:.2%} | "
        f"{each.redis_busy:.2%} | {each.redis_full:.2f} times | {each.hit_share:.0%} | "
        f"{1000 * each.commit_wait_p95_s:.0f} ms | {each.p50_s:.1f} s | "
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
    for cost in fields(UnitCosts):
        parser.add_argument(f"--{cost.name.replace('_', '-')}", type=type(cost.default), default=cost.default)
    given = parser.parse_args()
    if given.measure:
        ledger = measure()
        print(f"commit of a decision {1000 * ledger.commit_s:.2f} ms, {ledger.row_bytes:,.0f} bytes with its trace")
        print(f"each further trace of a commit {1000 * ledger.row_s:.2f} ms")
        print(f"a trained answer takes {measure_hit():.2f} of that time with its adapter at hand")
        return
    values = {cost.name: getattr(given, cost.name) for cost in fields(UnitCosts)}
    if given.redis_gb is not None:
        values["redis_bytes"] = given.redis_gb * 1e9
    print(table([simulate(load, UnitCosts(**values)) for load in given.loads]))


if __name__ == "__main__":
    main()
