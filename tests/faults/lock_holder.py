"""A writer that holds the lock: others give up in time and say so, and go on once it is gone, stopped dead or not."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from policies import LedgerLocked
from policies.ledger import Ledger
from tests.faults.harness import Figure, Harness
from tests.faults.kill_child import decision_of
from tests.postgres_server import running_postgres

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 0.2  # what the ledger is told to wait
GRACE_S = 1.0  # and what it may take beyond: SQLite looks every tenth of a second, and the machine may be busy


@dataclass(slots=True)
class Found:
    """What came of the rounds."""

    rounds: int = 0
    refused: int = 0  # rounds in which the write ended in `LedgerLocked`
    in_time: int = 0
    slowest_s: float = 0.0
    went_on: int = 0  # rounds in which the next write succeeded once the holder was gone


def run(full: bool) -> list[Figure]:
    rounds = 50 if full else 3
    return [
        figure
        for database, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
        for figure in _figures(hold(database, rounds=rounds), name)
    ]


HARNESS = Harness(
    name="ledger-locked",
    what="another process holds the lock while a write is tried, and is then let go, killed, or stopped and killed",
    target="typed error in time, then on",
    run=run,
)


def _figures(found: Found, where: str) -> list[Figure]:
    n = found.rounds
    in_time = f"{found.in_time} of {n}, slowest {found.slowest_s:.2f} s"
    bound = f"all within {WAIT_S + GRACE_S:.1f} s"
    return [
        Figure(f"{where}: refused as locked", f"{found.refused} of {n}", "all", found.refused == n > 0),
        Figure(f"{where}: in time, with {WAIT_S} s to wait", in_time, bound, found.in_time == n),
        Figure(f"{where}: went on when the holder was gone", f"{found.went_on} of {n}", "all", found.went_on == n),
    ]  # fmt: skip


def hold(database: str, *, rounds: int, wait_s: float = WAIT_S) -> Found:
    """Let another process hold the lock, so many times; a larger `wait_s` is the planted bug."""
    found = Found()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ttt-lock-"))
        server = stack.enter_context(running_postgres()) if database == "postgresql" else None
        url = f"sqlite:///{folder}/ledger.sqlite" if server is None else stack.enter_context(server.database())
        ledger = stack.enter_context(Ledger.open(url, busy_timeout_s=wait_s))
        for i in range(rounds):
            _round(ledger, url, i, found)
    return found


def _round(ledger: Ledger, url: str, i: int, found: Found) -> None:
    command = [sys.executable, "-m", "tests.faults.lock_holder", url]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    end_by = ("letting go", "SIGKILL", "SIGSTOP, then SIGKILL")[i % 3]
    if end_by.startswith("SIGSTOP"):
        holder.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        ledger.record(decision_of(f"round-{i}", 0), "{}")
    except LedgerLocked:
        found.refused += 1
    took_s = time.monotonic() - started
    found.rounds += 1
    found.in_time += took_s <= WAIT_S + GRACE_S
    found.slowest_s = max(found.slowest_s, took_s)
    if end_by == "letting go":
        holder.stdin.close()
    else:
        holder.kill()
    holder.wait(timeout=30)
    holder.stdin.close()
    holder.stdout.close()
    found.went_on += _written_in_the_end(ledger, f"round-{i}")


def _written_in_the_end(ledger: Ledger, name: str) -> bool:
    end = time.monotonic() + 10.0
    while time.monotonic() < end:  # a server takes a moment to see that its client is dead
        try:
            ledger.record(decision_of(name, 0), "{}")
        except LedgerLocked:
            continue
        return len(ledger.latest(1)) == 1
    return False


def _hold(url: str) -> None:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        sqlite3.connect(str(parsed.database), isolation_level=None).execute("BEGIN EXCLUSIVE")
        _wait()
    else:
        host, name = str(parsed.query["host"]), str(parsed.database)
        with psycopg.connect(host=host, user="tests", dbname=name) as connection:
            connection.execute("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE")
            _wait()


def _wait() -> None:
    print("held", flush=True)
    os.read(0, 1)  # until it is closed


if __name__ == "__main__":
    _hold(sys.argv[1])
