"""A disk that fills up: every write is kept whole or refused by name, and writing goes on once there is room.

Room is taken in two ways that need no rights: SQLite is told that its file may not grow, and the operating system that
no file of this process may. Neither fills a server's disk: PostgreSQL is not tried.
"""

from __future__ import annotations

import json
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import event

from policies import LedgerFull, LedgerUnavailable, OutcomeRow
from policies.ledger import Ledger
from tests.faults.harness import Figure, Harness
from tests.faults.kill_child import decision_of

ROOT = Path(__file__).resolve().parents[2]
ROOM_PAGES = (0, 40)  # left before the disk is full
OUTCOMES = 10  # in one write
_NO_LIMIT = 2**30  # pages, of SQLite's own


@dataclass(slots=True)
class Found:
    """What came of the fills."""

    fills: int = 0
    refused: int = 0  # fills that ended in a typed error
    acknowledged: int = 0
    lost: int = 0
    unannounced: int = 0  # refused, and there all the same
    sound: int = 0  # fills after which the file passed its check
    resumed: int = 0  # fills after which writing went on by itself


def run(full: bool) -> list[Figure]:
    found = fill(fills=50 if full else 6)
    n = found.fills
    return [
        Figure("fills that end in a typed error", f"{found.refused} of {n}", "all", found.refused == n > 0),
        Figure("acknowledged; of these lost", f"{found.acknowledged:,}; {found.lost}", "0 lost", found.lost == 0),
        Figure("refused, and there in part or whole", str(found.unannounced), "0", found.unannounced == 0),
        Figure("integrity checks passed", f"{found.sound} of {n}", "all", found.sound == n),
        Figure("went on by itself with room again", f"{found.resumed} of {n}", "all", found.resumed == n),
    ]


HARNESS = Harness(
    name="ledger-full",
    what="the disk fills up while decisions, outcomes and policies are written to SQLite, then has room again",
    target="nothing acknowledged lost, no file damaged",
    run=run,
)


def fill(*, fills: int, plant: bool = False) -> Found:
    """Fill the disk so many times, in a process of its own; `plant`: a ledger that hides that it is full."""
    command = [sys.executable, "-m", "tests.faults.disk_full", str(fills), *(["plant"] if plant else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Found(**json.loads(done.stdout))


class _Room:
    """How many pages the ledger's file may have; 0: as many as it likes."""

    def __init__(self, ledger: Ledger) -> None:
        self.pages = 0
        event.listen(ledger._database._engine, "checkout", self._limit)  # not "connect": connections are kept

    def _limit(self, connection: sqlite3.Connection, _record: object, _checked_out: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {self.pages or _NO_LIMIT}")


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _fill_once(ledger: Ledger, room: _Room, i: int, rng: random.Random, found: Found, hide: bool) -> None:
    path = Path(ledger.location)
    pages = path.stat().st_size // 4096 + rng.randint(*ROOM_PAGES)
    acknowledged: list[str] = []
    refused: list[str] = []
    if i % 2:
        with _no_file_larger_than(4096 * pages):
            error = _write_until_full(ledger, f"fill{i}", rng, acknowledged, refused, hide)
    else:
        room.pages = pages
        error = _write_until_full(ledger, f"fill{i}", rng, acknowledged, refused, hide)
        room.pages = 0
    found.fills += 1
    found.refused += isinstance(error, LedgerFull) or (i % 2 == 1 and isinstance(error, LedgerUnavailable))
    found.acknowledged += len(acknowledged)
    with closing(sqlite3.connect(path)) as connection:
        found.sound += connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found.lost += sum(_outcomes(connection, name) != OUTCOMES for name in acknowledged)
        found.unannounced += sum(_outcomes(connection, name) != 0 for name in refused)
    try:
        _write(ledger, f"after{i}")
        found.resumed += 1
    except LedgerUnavailable:
        pass


def _write_until_full(
    ledger: Ledger, prefix: str, rng: random.Random, acknowledged: list[str], refused: list[str], hide: bool
) -> LedgerUnavailable | None:
    for n in range(10_000):
        name = f"{prefix}-{n}"
        try:
            _write(ledger, name)
            acknowledged.append(name)
            if rng.random() < 0.2:
                ledger.policy_versions.publish(rng.randbytes(20_000))
        except LedgerUnavailable as error:
            there = acknowledged if name in acknowledged or hide else refused
            if name not in acknowledged:
                there.append(name)
            return error
    return None


def _write(ledger: Ledger, name: str) -> None:
    """One decision, large, and its outcomes; a name stands for all of it only where both were acknowledged."""
    ledger.record(decision_of(name, 0), json.dumps(["x" * 2000] * 3))
    ledger.add_outcomes([OutcomeRow(name, "harness", f"kind-{i}", 1.0) for i in range(OUTCOMES)])


def _outcomes(connection: sqlite3.Connection, name: str) -> int:
    (n,) = connection.execute("SELECT count(*) FROM outcomes WHERE decision_id = ?", (name,)).fetchone()
    return int(n)


def main() -> None:
    fills, hide, found, rng = int(sys.argv[1]), "plant" in sys.argv, Found(), random.Random(0)
    with tempfile.TemporaryDirectory(prefix="ttt-full-") as folder, Ledger.open(folder) as ledger:
        room = _Room(ledger)
        for i in range(fills):
            _fill_once(ledger, room, i, rng, found, hide)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
