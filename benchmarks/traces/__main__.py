"""Measure traces, and print what was found: python -m benchmarks.traces [--listed 100000] [--replayed 1000]."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy import insert

import router.steps
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task, Value
from policies.ledger import Ledger
from policies.records import TraceRow
from policies.rows import decision_columns
from policies.tables import DECISIONS, sealed
from policies.trace_log import TraceEntry, TraceFacts, TraceFilter, insertions
from router.router import Router
from router.settings import Settings
from router.traces import TraceWriter, read_trace, replay
from router.traces.why import why

AT_ONCE = 1000  # rows of one transaction

P = ParamSpec("P")
T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listed", type=int, default=100_000)
    parser.add_argument("--replayed", type=int, default=1000)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        _cost_of_tracing(Path(folder) / "cost")
        _replays(Path(folder) / "replays", given.replayed)
        _lists(Path(folder) / "lists", given.listed)


def _largest_task() -> Task:
    """Ten demonstrations of 30 x 30 cells, as large as ARC's are."""

    def grid(seed: int) -> Value:
        return tuple(tuple((seed * row + cell) % 10 for cell in range(30)) for row in range(30))

    return Task.from_pairs([(grid(i), grid(i + 1)) for i in range(10)], [grid(11)], id="largest")


def _cost_of_tracing(home: Path) -> None:
    """Time what a solve waits for, handing the record on, and what is done behind it, making the record."""
    waited: list[float] = []
    made: list[float] = []
    make, put = router.steps.trace_of, TraceWriter.put
    task = _largest_task()
    router.steps.trace_of, TraceWriter.put = _timed(make, made), _timed(put, waited)  # type: ignore[method-assign]
    try:
        with Router(Settings(home=home, arms=("icl",)), model=ScriptedModel(lambda task: task.query)) as bound:
            for _ in range(100):
                bound.solve(task)
    finally:
        router.steps.trace_of, TraceWriter.put = make, put  # type: ignore[method-assign]
    with Ledger.open(home) as ledger:
        stored = read_trace(ledger, "last")
    print(f"trace of 10 demonstrations of 30 x 30: {len(stored.trace.model_dump_json()):,} bytes")
    for what, seconds in (("tracing, of a solve", waited), ("and behind it", made)):
        print(f"{what}: p50 {_ms(statistics.median(seconds))}, worst of {len(seconds)} {_ms(max(seconds))}")
    print(f"in words: p50 {_ms(_seconds(lambda: why(stored), 50))}")


def _timed(call: Callable[P, T], seconds: list[float]) -> Callable[P, T]:
    """Return the same call, whose seconds are kept."""

    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    return timed


def _replays(home: Path, n: int) -> None:
    settings = Settings(home=home, epsilon=0.5, n_views=2)
    tasks = [Task.from_pairs([("a", "A"), ("b", "B" if i % 3 else "x"), (f"c{i}", f"C{i}")], f"q{i}") for i in range(n)]
    with Router(settings, model=ScriptedModel(lambda task: str(task.query).upper())) as bound:
        for i, task in enumerate(tasks):
            bound.solve(task, seed=i)
    with Ledger.open(home) as ledger:
        rows = ledger.latest(n)
        started = time.perf_counter()
        replays = [replay(row) for row in rows]
        seconds = time.perf_counter() - started
    n_equal = sum(each.equal for each in replays)
    arms = {row.arm for row in rows}
    print(f"replayed: {n_equal} of {len(replays)} equal ({', '.join(sorted(arms))}), {seconds:.2f} s")


def _lists(home: Path, n: int) -> None:
    with Router(Settings(home=home, arms=("icl",)), model=ScriptedModel(lambda task: task.query)) as bound:
        solution = bound.solve(_largest_task())
    with Ledger.open(home) as ledger:
        row, document = ledger.decision(solution.trace_id), ledger.trace(solution.trace_id).document[:8000]
        for start in range(0, n, AT_ONCE):
            with ledger._database.writing() as connection:
                for i in range(start, min(start + AT_ONCE, n)):
                    name = f"{i:032x}"
                    each = dataclasses.replace(row, decision_id=name, arm=("icl", "ttt")[i % 2])
                    connection.execute(insert(DECISIONS).values(sealed(DECISIONS, decision_columns(each))))
                    entry = TraceEntry(each, TraceRow(name, 2, document), TraceFacts(regret=(i % 97) / 97))
                    for statement, values in insertions(entry):
                        connection.execute(statement, values)
        print(f"{ledger.traces.count():,} traces, {ledger.traces.size_bytes():,} bytes of documents")
        for name, wanted, order in (
            ("newest", TraceFilter(), "newest"),
            ("by regret", TraceFilter(), "regret"),
            ("of one arm", TraceFilter(arm="icl"), "newest"),
            ("of an arm that never was", TraceFilter(arm="none"), "newest"),
            ("wrong ones, of which there are none", TraceFilter(outcome="wrong"), "newest"),
        ):
            shown = _seconds(lambda w=wanted, o=order: ledger.traces.summaries(w, n=50, order=o), 5)  # type: ignore[misc]
            counted = _seconds(lambda w=wanted: ledger.traces.count(w), 5)  # type: ignore[misc]
            print(f"list of 50, {name}: {_ms(shown)}; with their count {_ms(shown + counted)}")


def _seconds(done: Callable[[], object], n: int) -> float:
    """Return the median of `n` times."""
    times = []
    for _ in range(n):
        started = time.perf_counter()
        done()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


if __name__ == "__main__":
    main()
