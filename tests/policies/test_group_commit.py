"""Group commit: what waits together is committed together, nobody is told before, and nobody pays for another."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, event

from policies.database import Database, Place
from policies.errors import DecisionConflict, LedgerLocked, LedgerUnavailable, UnknownTrace
from policies.group_commit import GroupCommit, _Waiting
from policies.ledger import Ledger
from policies.records import DecisionRow, OutcomeRow
from tests.policies.fakes import decision_row
from tests.redis_server import free_port

N = 8  # threads


class Commits:
    """Counts the commits of a ledger, and holds the first after `hold` until `go`."""

    def __init__(self) -> None:
        self.n = 0
        self.held, self.go = threading.Event(), threading.Event()
        self._holds = False

    def hold(self) -> None:
        self._holds = True

    def __call__(self, step: str) -> None:
        if step == "before commit" and self._holds:
            self._holds = False
            self.held.set()
            assert self.go.wait(10)
        self.n += step == "after commit"


def recorded(ledger: Ledger, row: DecisionRow | OutcomeRow) -> object:
    return ledger.add_outcome(row) if isinstance(row, OutcomeRow) else ledger.record_decision(row)


def written_together(
    ledger: Ledger, commits: Commits, pool: ThreadPoolExecutor, works: list[DecisionRow | OutcomeRow]
) -> list[Future[object]]:
    """Have all of them wait for the commit of another decision, and return what becomes of them."""
    commits.hold()
    first: Future[object] = pool.submit(ledger.record_decision, decision_row("first"))
    assert commits.held.wait(10)
    futures = [pool.submit(recorded, ledger, each) for each in works]
    end = time.monotonic() + 10
    while len(ledger.database._group._waiting) < len(works) and time.monotonic() < end:
        time.sleep(0.001)
    assert not any(each.done() for each in (first, *futures))  # nobody is told before the commit
    commits.n = 0
    commits.go.set()
    first.result(10)
    return futures


def test_decisions_and_outcomes_that_wait_together_are_one_commit(url: str) -> None:
    commits = Commits()
    with Ledger.open(url, reached=commits) as ledger, ThreadPoolExecutor(N + 1) as pool:
        ledger.record_decision(decision_row("before"))
        outcome = OutcomeRow("before", "user", "exact", 1.0)
        decisions = [decision_row(f"trace-{i}") for i in range(N - 1)]
        futures = written_together(ledger, commits, pool, [outcome, *decisions])
        for future in futures:
            future.result(10)

        assert commits.n == 2  # of the first, and of all the others
        there = {row.decision_id for row in ledger.latest(20)}
        assert there == {"before", "first", *(row.decision_id for row in decisions)}
        assert [each.value for each in ledger.outcomes("before")] == [1.0]


def test_one_that_cannot_be_written_costs_no_other_its_record(url: str) -> None:
    commits = Commits()
    with Ledger.open(url, reached=commits) as ledger, ThreadPoolExecutor(N + 1) as pool:
        ledger.record_decision(decision_row("before"))
        conflict = replace(decision_row("before"), arm="icl")
        unknown = OutcomeRow("nobody", "user", "exact", 1.0)
        good = [decision_row(f"trace-{i}") for i in range(3)]
        conflicting, unheard, *others = written_together(ledger, commits, pool, [conflict, unknown, *good])

        assert isinstance(conflicting.exception(10), DecisionConflict)
        assert isinstance(unheard.exception(10), UnknownTrace)
        assert [cast("DecisionRow", each.result(10)).decision_id for each in others] == [
            row.decision_id for row in good
        ]
        assert len(ledger.latest(20)) == 5


def test_when_another_program_holds_the_file_all_who_wait_hear_it_at_once(tmp_path: Path) -> None:
    commits = Commits()
    with Ledger.open(tmp_path, reached=commits, busy_timeout_s=0.3) as ledger, ThreadPoolExecutor(N + 1) as pool:
        ledger.record_decision(decision_row("before"))
        other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        futures = [pool.submit(ledger.record_decision, decision_row(f"trace-{i}")) for i in range(N)]
        errors = [future.exception(30) for future in futures]
        taken_s = time.monotonic() - began
        other.execute("ROLLBACK")
        other.close()

        assert {type(error) for error in errors} == {LedgerLocked}
        assert taken_s < N * 0.3  # not one after the other
        ledger.record_decision(decision_row("after"))


def test_whoever_is_interrupted_leaves_the_work_of_others_to_them() -> None:
    began, go, written = threading.Event(), threading.Event(), list[str]()

    @contextmanager
    def writing() -> Iterator[Connection]:
        if not began.is_set():
            began.set()
            assert go.wait(10)
            raise KeyboardInterrupt
        yield cast("Connection", None)

    group = GroupCommit(writing)
    with ThreadPoolExecutor(2) as pool:
        interrupted = pool.submit(group.write, lambda connection: written.append("one"))
        assert began.wait(10)
        other = pool.submit(group.write, lambda connection: written.append("two"))
        go.set()

        assert isinstance(interrupted.exception(10), KeyboardInterrupt)
        other.result(10)
        assert written == ["two"]


def test_an_interrupt_before_or_while_somebody_writes_keeps_nobody_waiting_and_leaves_nothing_behind() -> None:
    written: list[str] = []
    interrupts = iter((True, False, False))

    @contextmanager
    def writing() -> Iterator[Connection]:
        if next(interrupts):
            raise KeyboardInterrupt
        yield cast(Connection, None)

    group = GroupCommit(writing)
    with suppress(KeyboardInterrupt):
        group.write(lambda _: written.append("given up"))

    assert group.write(lambda _: "answered") == "answered"
    assert written == []


def test_what_may_be_one_row_s_own_fault_is_tried_one_by_one() -> None:
    """A database that refuses a row says `LedgerUnavailable` of it, too: those beside it are written."""

    def refused(_: object) -> str:
        raise LedgerUnavailable("ledger", "a number out of range", remedy="Give a smaller one.")

    @contextmanager
    def writing() -> Iterator[Connection]:
        yield cast(Connection, None)

    group = GroupCommit(writing)
    works = [_Waiting(refused), _Waiting(lambda _: "kept")]
    group._write_all(works)

    assert works[1].result() == "kept"
    with pytest.raises(LedgerUnavailable, match="out of range"):
        works[0].result()


def test_a_database_that_cannot_be_reached_is_tried_once_for_all_who_wait() -> None:
    tried, all_wait = list[object](), threading.Event()
    database = Database(Place.of(f"postgresql://nobody@127.0.0.1:{free_port()}/none"), busy_timeout_s=1.0)

    @event.listens_for(database._engine, "do_connect")
    def _count(*told: object) -> None:
        tried.append(told)
        assert all_wait.wait(10)

    with ThreadPoolExecutor(N) as pool:
        futures = [pool.submit(database.write, lambda connection: None) for _ in range(N)]
        end = time.monotonic() + 10
        while len(database._group._waiting) < N - 1 and time.monotonic() < end:
            time.sleep(0.001)
        all_wait.set()
        errors = [future.exception(30) for future in futures]
    database.close()

    assert {type(error) for error in errors} == {LedgerUnavailable}
    assert len(tried) == 2  # by the first, and for all who came meanwhile


def test_a_database_that_goes_away_while_it_is_written_to_is_looked_for_once_more_for_all() -> None:
    gone = LedgerUnavailable("ledger", "the server closed the connection", remedy="Start it.")
    begun: list[bool] = []

    def broken_off(_: object) -> None:
        raise gone

    @contextmanager
    def writing() -> Iterator[Connection]:
        begun.append(True)
        if len(begun) > 1:
            raise gone
        yield cast(Connection, None)

    works = [_Waiting(broken_off) for _ in range(N)]
    GroupCommit(writing)._write_all(works)

    assert len(begun) == 2
    for each in works:
        with pytest.raises(LedgerUnavailable, match="closed the connection"):
            each.result()
