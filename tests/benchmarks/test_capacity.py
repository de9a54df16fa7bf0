"""The simulation of capacity agrees with what can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.capacity import BUSY, UnitCosts, simulate, table

ALIKE = UnitCosts(trained_share=0.0, icl_s=1.0, commit_s=0.0)


def test_workers_are_as_many_as_the_work_takes() -> None:
    load = simulate(7000.0, ALIKE)

    assert load.n_workers == 3  # 1.94 tasks a second of a second each, at 70 %
    assert load.workers_busy == pytest.approx(7000 / 3600 / 3, rel=0.05)
    assert load.workers_busy <= BUSY + 0.05


def test_a_task_alone_waits_for_nothing_and_takes_what_it_takes() -> None:
    load = simulate(1.0, replace(ALIKE, commit_s=0.5))

    assert load.p50_s == pytest.approx(1.5)
    assert load.ledger_busy == pytest.approx(0.5 / 3600, rel=0.05)


def test_a_queue_before_one_worker_is_as_long_as_theory_says() -> None:
    load = simulate(0.7 * 3600, ALIKE, n_tasks=200_000)

    mean_wait = 0.7 / (2 * (1 - 0.7))  # M/D/1, in service times
    assert load.n_workers == 1
    assert load.p50_s == pytest.approx(1.0 + mean_wait, rel=0.35)
    assert load.p95_s > 2.5


def test_the_ledger_gives_way_first_where_its_commits_are_slow() -> None:
    assert simulate(1000.0, UnitCosts()).first == "workers"
    assert simulate(100_000.0, replace(UnitCosts(), commit_s=0.035)).first == "ledger (writers take turns)"


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
