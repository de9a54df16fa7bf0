"""The simulation of capacity agrees with what can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.capacity import (
    _DECISIONS_AT_ONCE,
    _TRACES_AT_ONCE,
    _TRACES_GATHER_S,
    BUSY,
    Queues,
    UnitCosts,
    simulate,
    table,
)
from policies import group_commit
from router.traces import writer

ALIKE = UnitCosts(trained_share=0.0, icl_s=1.0, commit_s=0.0, row_s=0.0)


def test_workers_are_as_many_as_the_work_takes() -> None:
    load = simulate(7000.0, ALIKE)

    assert load.n_workers == 3  # 1.94 tasks a second of a second each, at 70 %
    assert load.workers_busy == pytest.approx(7000 / 3600 / 3, rel=0.05)
    assert load.workers_busy <= BUSY + 0.05


def test_a_task_alone_waits_for_nothing_and_takes_what_it_takes() -> None:
    load = simulate(1.0, replace(ALIKE, commit_s=0.5))

    assert load.p50_s == pytest.approx(1.5)
    assert load.ledger_busy == pytest.approx(2 * 0.5 / 3600, rel=0.05)  # the decision and, behind the answer, the trace


def test_a_queue_before_one_worker_is_as_long_as_theory_says() -> None:
    load = simulate(0.7 * 3600, ALIKE, n_tasks=200_000)

    mean_wait = 0.7 / (2 * (1 - 0.7))  # M/D/1, in service times
    assert load.n_workers == 1
    assert load.p50_s == pytest.approx(1.0 + mean_wait, rel=0.35)
    assert load.p95_s > 2.5


def test_a_worker_is_taken_until_its_decision_is_committed_however_many_wait_for_the_ledger() -> None:
    queues = Queues(n_workers=2, workers_per_process=1, commit_s=10.0)
    queues.run([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])

    # two have decided by 1 s and commit in turn; the third begins at 11, and waits for the second's decision and the
    # first's trace, which asked before it
    assert queues.latencies_s == pytest.approx([11.0, 21.0, 41.0])
    assert queues.commit_waits_s == pytest.approx([10.0, 20.0, 29.0])


@pytest.mark.parametrize(
    ("workers_per_process", "waits_s"), [(1, [10.0, 20.0, 30.0, 40.0]), (4, [10.0, 22.0, 22.0, 22.0])]
)
def test_what_workers_of_one_process_decide_while_it_commits_is_committed_together(
    workers_per_process: int, waits_s: list[float]
) -> None:
    queues = Queues(4, workers_per_process, commit_s=10.0, row_s=1.0)
    queues.run([0.0] * 4, [0.0] * 4)

    assert queues.commit_waits_s == pytest.approx(waits_s)


def test_a_process_commits_as_much_together_as_ours_do() -> None:
    assert (_DECISIONS_AT_ONCE, _TRACES_AT_ONCE) == (group_commit._AT_ONCE, writer._AT_ONCE)
    assert _TRACES_GATHER_S == writer._GATHER_S


def test_the_ledger_gives_way_first_where_its_commits_are_slow_and_later_where_workers_share_a_process() -> None:
    slow = replace(UnitCosts(), commit_s=0.016)
    apart, together = (simulate(100_000.0, replace(slow, workers_per_process=n)) for n in (1, 16))

    assert simulate(1000.0, UnitCosts()).first == "workers"
    assert apart.first == "ledger (writers take turns)"
    assert together.ledger_busy < 0.9 * apart.ledger_busy
    assert together.commit_wait_p95_s < apart.commit_wait_p95_s


def test_a_ledger_that_is_too_slow_keeps_workers_from_their_work() -> None:
    load = simulate(300_000.0, UnitCosts())

    assert load.ledger_busy == pytest.approx(1.0, abs=0.03)
    assert load.workers_busy < BUSY - 0.1
    assert load.p95_s > 20.0


def test_a_redis_with_room_for_all_keeps_what_comes_again() -> None:
    again = replace(UnitCosts(), new_share=0.0, n_different=50, trained_share=1.0)
    roomy, tiny = simulate(1000.0, again), simulate(1000.0, replace(again, redis_bytes=2 * again.adapter_bytes))

    assert roomy.hit_share > 0.99
    assert tiny.hit_share < 0.5
    assert tiny.n_workers > roomy.n_workers


def test_a_row_of_the_table_is_a_load() -> None:
    loads = [simulate(load, UnitCosts(), n_tasks=2000) for load in (10, 1000)]

    lines = table(loads).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 10 | 1 |")
