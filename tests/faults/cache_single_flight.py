"""Many who want one adapter at once: one of them trains, wherever they are; a dead one is waited for only so long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from tests.adapters import SECRET, adapter_of, spec_of
from tests.faults.harness import Figure, Harness
from tests.redis_server import redis_server
from ttt_engine.adapter import Adapter
from ttt_engine.stores import SingleFlight, TieredAdapterStore, open_store
from ttt_engine.stores.single_flight import Renew
from ttt_engine.stores.store import Leases

TRAINING_S = 0.05
LEASE_S = 1.0


class Trainer:
    """Obtains adapters as the engine does, with a training that only takes time, and counts the trainings."""

    def __init__(
        self, store: TieredAdapterStore, leases: Sequence[Leases] | None = None, training_s: float = TRAINING_S
    ):
        self.store = store
        self.flight = SingleFlight(store.leases if leases is None else leases, lease_s=LEASE_S, poll_s=0.01)
        self.training_s = training_s
        self.n_trained = 0
        self._lock = threading.Lock()

    def obtain(self, task: str) -> Adapter:
        key = spec_of(task).key

        def make(renew: Renew) -> Adapter:
            with self._lock:
                self.n_trained += 1
            for _ in range(5):
                time.sleep(self.training_s / 5)
                renew()
            adapter = adapter_of(task)
            self.store.keep(adapter)
            return adapter

        return self.store.fetch(key).adapter or self.flight.run(
            key, find=lambda: self.store.fetch(key).adapter, make=make
        )


def threads(trainer: Trainer, n: int, rounds: int) -> tuple[int, int]:
    """Let `n` threads want the same adapter, round after round; return trainings and wrong answers."""
    wrong = 0
    with ThreadPoolExecutor(n) as pool:
        for i in range(rounds):
            start = threading.Barrier(n)
            task = f"round {i}"

            def want(start: threading.Barrier = start, task: str = task) -> Adapter:
                start.wait()
                return trainer.obtain(task)

            wrong += sum(each.result() != adapter_of(task) for each in [pool.submit(want) for _ in range(n)])
    return trainer.n_trained, wrong


def solves(n: int, rounds: int) -> tuple[int, int]:
    """Let `n` threads solve the same task with training, round after round; return trainings and unlike answers."""
    import torch  # here, because the child processes import this module and do without a model

    from icl_engine.task import Task
    from router.router import Router
    from router.settings import Settings
    from tests.models import tiny_model

    n_trained = unlike = 0
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the model is tiny; threads that wait for each other on a busy machine cost seconds
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(n) as pool:
        settings = Settings(home=Path(home), arms=("icl", "ttt"), n_views=1, ttt_steps=2, ttt_batch_size=1, ttt_rank=2)
        with Router(settings, model=tiny_model()) as router:
            for i in range(rounds):
                task = Task.from_pairs([(f"a{i}", "x"), (f"b{i}", "y")], "c")
                told: list[int] = []

                def seen(name: str, done: int, of: int, told: list[int] = told) -> None:
                    if name == "adapt" and done == 1:
                        told.append(of)

                asked = [pool.submit(router.solve, task, arm="ttt", progress=seen) for _ in range(n)]
                answers = {each.result().answers[0].values for each in asked}
                n_trained += len(told)
                unlike += len(answers) - 1
    torch.set_num_threads(torch_threads)
    return n_trained, unlike


def _child(url: str, home: str, tasks: Sequence[str], training_s: float, use_leases: bool, pipe: Connection) -> None:
    store = open_store(url, Path(home), secrets=SECRET)
    trainer = Trainer(store, None if use_leases else (), training_s)
    pipe.send("ready")
    pipe.recv()
    for task in tasks:
        if trainer.obtain(task) != adapter_of(task):
            pipe.send("wrong")
    pipe.send(trainer.n_trained)


def _spawned(
    url: str, homes: Sequence[str], tasks: Sequence[str], training_s: float, use_leases: bool
) -> list[tuple[SpawnProcess, Connection]]:
    context = multiprocessing.get_context("spawn")
    children = []
    for home in homes:
        ours, theirs = context.Pipe()
        process = context.Process(target=_child, args=(url, home, tasks, training_s, use_leases, theirs), daemon=True)
        process.start()
        children.append((process, ours))
    for _, pipe in children:
        pipe.recv()
    return children


def processes(url: str, homes: Sequence[str], rounds: int, *, use_leases: bool = True) -> tuple[int, int]:
    """Let a process for each of `homes` want the same adapters; return trainings and wrong answers."""
    children = _spawned(url, homes, [f"{use_leases} {i}" for i in range(rounds)], TRAINING_S, use_leases)
    for _, pipe in children:
        pipe.send("go")
    n_trained = wrong = 0
    for process, pipe in children:
        while (told := pipe.recv()) == "wrong":
            wrong += 1
        n_trained += told
        process.join(30)
    return n_trained, wrong


def dead_holder(url: str, homes: Sequence[str], how: signal.Signals) -> float:
    """Stop or kill the one that trains; return the seconds until another has the adapter."""
    (holder, to_holder), (_, to_waiter) = _spawned(url, homes, [f"dead {how}"], 30.0, True)
    to_holder.send("go")
    time.sleep(0.5)
    assert holder.pid is not None
    os.kill(holder.pid, how)
    started = time.monotonic()
    waiter = Trainer(open_store(url, Path(homes[1]), secrets=SECRET))
    found = waiter.obtain(f"dead {how}")
    took = time.monotonic() - started
    holder.kill()
    to_waiter.close()
    waiter.store.close()
    return took if found == adapter_of(f"dead {how}") else float("inf")


def run(full: bool) -> list[Figure]:
    n_threads, rounds, process_rounds = (100, 20, 20) if full else (20, 3, 2)
    figures = []
    with redis_server() as server, tempfile.TemporaryDirectory() as folder:
        n_solves, solve_rounds = (100, 20) if full else (8, 1)
        trained, wrong = solves(n_solves, solve_rounds)
        figures.append(
            Figure(
                f"trainings of {solve_rounds} rounds of {n_solves} solves at once",
                f"{trained}, {wrong} unlike answers", f"{solve_rounds}", (trained, wrong) == (solve_rounds, 0),
            )
        )  # fmt: skip
        home = f"{folder}/one"
        store = open_store("local:", Path(home), secrets=SECRET)
        trained, wrong = threads(Trainer(store), n_threads, rounds)
        met = (trained, wrong) == (rounds, 0)
        figures.append(
            Figure(
                f"trainings of {rounds} rounds of {n_threads} at once", f"{trained}, {wrong} wrong", f"{rounds}", met
            )
        )
        for where, url, homes in (
            ("4 processes of one machine", "local:", [f"{folder}/two"] * 4),
            ("4 processes that share only Redis", server.url, [f"{folder}/{i}" for i in range(4)]),
        ):
            trained, wrong = processes(url, homes, process_rounds)
            met = (trained, wrong) == (process_rounds, 0)
            figures.append(
                Figure(
                    f"trainings of {process_rounds} rounds, {where}",
                    f"{trained}, {wrong} wrong",
                    f"{process_rounds}",
                    met,
                )
            )
        ways = [(signal.SIGKILL, "local:"), (signal.SIGSTOP, "local:"), (signal.SIGSTOP, server.url)]
        for i, (how, url) in enumerate(ways if full else ways[1:2]):
            homes = [f"{folder}/dead-{i}"] * 2 if url == "local:" else [f"{folder}/dead-{i}-{k}" for k in range(2)]
            took = dead_holder(url, homes, how)
            figures.append(
                Figure(
                    f"wait for a holder under {how.name}, lease {LEASE_S:g} s, {url.partition(':')[0]}",
                    f"{took:.1f} s", f"at most {LEASE_S + 2:g} s", took <= LEASE_S + 2,
                )
            )  # fmt: skip
    return figures


HARNESS = Harness(
    name="cache-single-flight",
    what="100 threads, then 4 processes want one adapter at once; holders are killed and stopped",
    target="one training a round; a dead holder's lease runs out",
    run=run,
)
