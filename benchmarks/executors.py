"""Workers of one core each, in processes or on raylets, beside this process on all cores: how many tasks an hour, round
after round.

    python -m benchmarks.executors                       # embedded model, generated rows, some minutes
    python -m benchmarks.executors --ray                 # two raylets in place of processes; needs the extra [ray]
    python -m benchmarks.executors --rounds 1 --tasks 8  # a first look

All on this machine, with the same batches. Nothing else should run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from icl_engine.loaders import load_tasks
from icl_engine.task import Task
from router.demo import TASKS
from router.router import Router
from router.settings import Settings
from ttt_engine.executors import Executor, InProcessExecutor
from ttt_engine.executors.processes import ProcessesExecutor


def main() -> None:
    """Print the rounds, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="each with one core")
    parser.add_argument("--together", type=int, default=4, help="adapters trained in one batch, by either")
    parser.add_argument("--ray", action="store_true", help="workers on raylets of one core")
    given = parser.parse_args()
    tasks = variants([each.task for each in load_tasks(TASKS / "1d_arc.json")], given.tasks)
    name = "on Ray" if given.ray else "in processes"
    ratios = []
    with tempfile.TemporaryDirectory() as folder, raylets(given.workers) if given.ray else contextlib.nullcontext():
        for i in range(given.rounds):
            here_s = seconds(tasks, Path(folder) / f"here-{i}", InProcessExecutor(given.together), 0)
            there = _on_ray if given.ray else _in_processes
            there_s = seconds(tasks, Path(folder) / f"there-{i}", there(given.workers, given.together), given.workers)
            ratios.append(here_s / there_s)
            print(f"round {i + 1}: here {here_s:.1f} s, {name} {there_s:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median of {len(ratios)}: {name} {statistics.median(ratios):.2f} times the tasks an hour of this process")


def _in_processes(workers: int, together: int) -> Executor[Any, Any]:
    return ProcessesExecutor(workers=workers, adapters=together)


def _on_ray(workers: int, together: int) -> Executor[Any, Any]:
    from ttt_engine.executors.ray import RayExecutor

    executor = RayExecutor[Any, Any]("auto", workers=workers, adapters=together)
    executor.reach = "machine"  # the raylets are all on this one and share its files
    return executor


@contextlib.contextmanager
def raylets(n: int) -> Iterator[None]:
    """Start a cluster for a with block, of a head that computes nothing and n nodes of one CPU, and connect to it."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # at the same priority as this process
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(n):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def variants(tasks: Sequence[Task], n: int) -> list[Task]:
    """Return n different tasks: the given ones, and these with their demonstrations in another order."""
    return [
        tasks[i % len(tasks)].replace(
            demonstrations=tasks[i % len(tasks)].demonstrations[i // len(tasks) :]
            + tasks[i % len(tasks)].demonstrations[: i // len(tasks)]
        )
        for i in range(n)
    ]


def seconds(tasks: Sequence[Task], home: Path, executor: Executor[Any, Any], n_workers: int) -> float:
    """Return what solving the tasks by training takes, once so many workers are there and have solved something."""
    rows = [[i // 10, i % 10, 0] for i in range(64)]
    warm_up = [Task.from_pairs([(row, row[::-1]), ([1, 2, 3], [3, 2, 1])], [5, 6, 7]) for row in rows]
    with Router(Settings(home=home), executor=executor) as router:
        router.solve_many(warm_up, arm="icl")
        while len(getattr(executor, "workers", ())) < n_workers:
            router.solve_many(warm_up, arm="icl")
        router.solve_many(warm_up, arm="icl")
        began = time.perf_counter()
        router.solve_many(tasks, arm="ttt")
        took = time.perf_counter() - began
    executor.close()
    return took


if __name__ == "__main__":
    main()
