"""SIGKILL at any moment: nothing acknowledged is lost or doubled, and what was not is there whole or not at all.

A process of its own, which loads neither torch nor anything that starts threads, forks one child after another
(`kill_child`), kills each, and reads the database with the bare driver to see what is there. It does not cut the power:
what the operating system had, it still has.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol, Self

import psycopg
from sqlalchemy import make_url

from policies import policy_files
from policies.ledger import Ledger
from tests.faults.harness import Figure, Harness
from tests.faults.kill_child import PLANTS, STEPS, Life, Write, live, outcomes_of, trace_of
from tests.postgres_server import PostgresServer, running_postgres

ROOT = Path(__file__).resolve().parents[2]
ACKNOWLEDGED_PER_KILL = 70  # outcomes, on average, before a kill at a random moment
ENOUGH = 500  # outcomes after which a life that was to end at a step is ended all the same
STUCK_S = 120.0


@dataclass(slots=True)
class Found:
    """What the loop counted."""

    kills: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)  # writes and, under "outcome", single outcomes
    lost: int = 0  # acknowledged, and not there or not as it was
    doubled: int = 0
    torn: int = 0  # not acknowledged, and there in part
    unloadable: int = 0  # a version or champion whose file is not what its name says
    strays: int = 0  # files that a sweep leaves
    broken_epochs: int = 0
    sound: int = 0  # checks of the whole database that found nothing
    checks: int = 0
    child_faults: int = 0  # children that ended by anything but the kill
    struck_at: Counter[str] = field(default_factory=Counter)
    server_crashes: int = 0
    torch_loaded: bool = False

    def as_json(self) -> str:
        return json.dumps({one.name: getattr(self, one.name) for one in fields(self)})

    @classmethod
    def read(cls, text: str) -> Self:
        found = cls(**json.loads(text))
        found.acknowledged, found.struck_at = Counter(found.acknowledged), Counter(found.struck_at)
        return found

    @property
    def wrong(self) -> int:
        """How many things there are that must not be."""
        unsound = self.checks - self.sound
        return (
            self.lost + self.doubled + self.torn + self.unloadable + self.strays + self.broken_epochs
            + unsound + self.child_faults
        )  # fmt: skip


class Rows(Protocol):
    """A bare connection."""

    def execute(self, query: str, /) -> Iterator[tuple[object, ...]]: ...


def run(full: bool) -> list[Figure]:
    kills, on_server = (1000, 120) if full else (10, 3)
    sqlite = loop("sqlite", kills=kills)
    server = loop("postgresql", kills=on_server)
    return [*_figures(sqlite, "SQLite", kills, 50_000 if full else 100), *_figures(server, "PostgreSQL", on_server, 0)]


HARNESS = Harness(
    name="ledger-kills",
    what="a writer is killed (SIGKILL) at random moments and at named steps, over and over, on one ledger; on "
    "PostgreSQL, the server is crashed now and then as well",
    target="nothing acknowledged lost or doubled",
    run=run,
)


def loop(database: str, *, kills: int, plant: str | None = None, step: str | None = None, passage: int = 1) -> Found:
    """Run the loop in a process of its own; return what it counted.

    Args:
        plant: a bug that the writers shall have.
        step: every life ends at the `passage`-th time of this step.
    """
    command = [sys.executable, "-m", "tests.faults.kill_loop", "--database", database, "--kills", str(kills)]
    command += ["--passage", str(passage)]
    command += [*(["--plant", plant] if plant else []), *(["--step", step] if step else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Found.read(done.stdout)


def _figures(found: Found, where: str, kills: int, outcomes: int) -> list[Figure]:
    n, target = found.acknowledged["outcome"], f"≥ {outcomes:,} outcomes" if outcomes else "counted"
    steps = sum(found.struck_at[step] for step in STEPS)
    others = found.acknowledged.total() - n - found.acknowledged["outcomes"]
    return [
        Figure(f"{where}: kills (at a named step)", f"{found.kills:,} ({steps})", f"{kills:,}", found.kills >= kills),
        Figure(f"{where}: acknowledged", f"{n:,} outcomes, {others:,} other writes", target, n >= outcomes),
        Figure(f"{where}: lost, doubled, there in part", f"{found.lost}, {found.doubled}, {found.torn}", "0, 0, 0",
               found.lost + found.doubled + found.torn == 0),
        Figure(f"{where}: integrity checks passed", f"{found.sound:,} of {found.checks:,}", "all",
               found.sound == found.checks > 0),
        Figure(f"{where}: versions that do not load, stray files, epochs not in a row",
               f"{found.unloadable}, {found.strays}, {found.broken_epochs}", "0, 0, 0",
               found.unloadable + found.strays + found.broken_epochs == 0),
        Figure(f"{where}: writers that ended otherwise; torch loaded",
               f"{found.child_faults}; {'yes' if found.torch_loaded else 'no'}", "0; no",
               found.child_faults == 0 and not found.torch_loaded),
    ] + ([Figure(f"{where}: crashes of the server", str(found.server_crashes), "counted", True)]
         if found.server_crashes else [])  # fmt: skip


class Loop:
    """One ledger, and one child after another that writes to it."""

    def __init__(
        self, url: str, folder: Path, server: PostgresServer | None, plant: str | None, step: str | None, passage: int
    ) -> None:
        self.found = Found()
        self._url = url
        self._folder = folder
        self._server = server
        self._plant = plant
        self._step = step
        self._passage = passage if step else None
        self._rng = random.Random(0)
        self._retry: Write | None = None
        self._all: list[Write] = []

    def one_life(self) -> None:
        """Let a child write, kill it, and look at what is there."""
        rng = self._rng
        step = self._step or (rng.choice(STEPS) if rng.random() < 0.3 else None)
        passage = self._passage or rng.randint(1, 6 if step in ("before commit", "after commit") else 2)
        number = self.found.kills
        life = Life(self._url, self._folder / "policies", number, self._retry, step, passage, self._plant)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be(life, reading, writing)
        os.close(writing)
        lines = _Lines(reading)
        crash = self._server is not None and rng.random() < 0.15
        try:
            self._strike(
                pid, lines, rng.randint(0, 2 * ACKNOWLEDGED_PER_KILL), in_open=rng.random() < 0.15, crash=crash
            )
        finally:
            _, status = os.waitpid(pid, 0)
        lines.read_to_end()
        os.close(reading)
        self.found.kills += 1
        self.found.child_faults += not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
        if step is not None and not lines.struck:
            self.found.struck_at[step] += 1
        self._judge(lines)

    def _strike(self, pid: int, lines: _Lines, outcomes: int, *, in_open: bool, crash: bool) -> None:
        """Kill the child while it opens the ledger, or at a random moment after so many outcomes."""
        if in_open:
            time.sleep(self._rng.uniform(0.0, 0.03))
        else:
            end = time.monotonic() + STUCK_S
            while lines.n_outcomes < outcomes and not lines.ended and time.monotonic() < end:
                lines.read(0.5)
                if crash and self._server is not None and lines.n_outcomes > outcomes / 2:
                    self._server.stop(signal.SIGQUIT)
                    self._server.start()
                    self.found.server_crashes += 1
                    crash = False
            time.sleep(self._rng.uniform(0.0, 0.02))
        if not lines.ended:
            lines.struck = True
            os.kill(pid, signal.SIGKILL)  # it is not waited for yet, so the number is still its own

    def _judge(self, lines: _Lines) -> None:
        found = self.found
        for write in lines.acknowledged:
            found.acknowledged[str(write["do"])] += 1
            found.acknowledged["outcome"] += len(outcomes_of(write)) if write["do"] == "outcomes" else 0
        self._all += lines.acknowledged
        self._retry = lines.begun
        with self._connected() as rows:
            found.lost += sum(not self._there(rows, write) for write in lines.acknowledged)
            if lines.begun is not None:
                found.torn += self._in_part(rows, lines.begun)
            found.checks += 1
            found.sound += self._is_sound(rows)
            found.unloadable += self._unloadable(rows, "ORDER BY seq DESC LIMIT 5")
            found.unloadable += self._unloadable(rows, f"WHERE version_id = ({_CHAMPION})")

    def look_at_all(self) -> None:
        """Once more, at the end: everything that was ever acknowledged, and nothing twice."""
        found = self.found
        with Ledger.open(self._url, files=self._folder / "policies") as ledger:
            ledger.policy_versions.sweep()
        with self._connected() as rows:
            found.lost += sum(not self._there(rows, write) for write in self._all)
            found.doubled += _count(
                rows, "SELECT decision_id FROM outcomes GROUP BY decision_id, kind HAVING count(*) > 1"
            )
            found.doubled += _count(rows, "SELECT task_id FROM decisions GROUP BY task_id HAVING count(*) > 1")
            found.broken_epochs += _count(
                rows,
                "SELECT alias FROM alias_moves GROUP BY alias "
                "HAVING min(epoch) <> 1 OR max(epoch) <> count(*) OR count(DISTINCT epoch) <> count(*)",
            )
            found.unloadable += self._unloadable(rows, "")
            known = {str(row[0]) for row in rows.execute("SELECT version_id FROM policy_versions")}
            found.strays += len(policy_files.strays(self._folder / "policies", known))
        found.torch_loaded = "torch" in sys.modules

    def _there(self, rows: Rows, write: Write) -> bool:
        """Tell whether an acknowledged write is there, and as it was."""
        match write["do"]:
            case "decision":
                return list(rows.execute(_decision_of(write))) == [(write["seed"], trace_of(str(write["name"])))]
            case "outcomes":
                return _outcomes_there(rows, write) == {row.kind: row.value for row in outcomes_of(write)}
            case "correction":
                return [(write["value"],)] == list(rows.execute(_correction_of(write)))
            case "publish":
                return self._unloadable(rows, f"WHERE version_id = '{_version_of(write)}'", none_is=1) == 0
            case _:
                return all(_parts_of_promotion(rows, write))

    def _in_part(self, rows: Rows, write: Write) -> bool:
        """Tell whether of a write that was not acknowledged some is there and some is not."""
        match write["do"]:
            case "decision":
                decision = _count(rows, f"SELECT 1 FROM decisions WHERE decision_id = '{write['name']}'")
                trace = _count(rows, f"SELECT 1 FROM traces WHERE trace_id = '{write['name']}'")
                return decision != trace
            case "outcomes":
                return len(_outcomes_there(rows, write)) not in (0, len(outcomes_of(write)))
            case "publish":
                return self._unloadable(rows, f"WHERE version_id = '{_version_of(write)}'") > 0
            case "promote":
                return len(set(_parts_of_promotion(rows, write))) > 1
            case _:
                return False

    def _unloadable(self, rows: Rows, which: str, none_is: int = 0) -> int:
        """Count the versions among these whose file is not what its name says."""
        names = [str(row[0]) for row in rows.execute(f"SELECT version_id FROM policy_versions {which}")]
        whole = [name for name in names if self._file_is_whole(name)]
        return len(names) - len(whole) if names else none_is

    def _file_is_whole(self, version_id: str) -> bool:
        path = policy_files.path_of(self._folder / "policies", version_id)
        return path.is_file() and policy_files.version_id_of(path.read_bytes()) == version_id

    def _is_sound(self, rows: Rows) -> bool:
        if self._server is None:
            return list(rows.execute("PRAGMA integrity_check")) == [("ok",)] and not list(
                rows.execute("PRAGMA foreign_key_check")
            )
        indexes = "SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid"
        list(rows.execute(f"{indexes} WHERE relnamespace = 'public'::regnamespace"))  # raises where it finds anything
        return True

    @contextmanager
    def _connected(self) -> Iterator[Rows]:
        if self._server is None:
            with closing(sqlite3.connect(self._folder / "ledger.sqlite", timeout=30)) as connection:
                yield connection
        else:
            name = make_url(self._url).database
            with psycopg.connect(host=str(self._server.folder), user="tests", dbname=name) as server_connection:
                server_connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
                yield server_connection


class _Lines:
    """What a child has said so far."""

    def __init__(self, pipe: int) -> None:
        self.begun: Write | None = None  # announced, not acknowledged
        self.acknowledged: list[Write] = []
        self.n_outcomes = 0
        self.ended = False
        self.struck = False  # by us, and not by itself
        self._pipe = pipe
        self._rest = b""

    def read(self, wait_s: float) -> None:
        if select.select([self._pipe], [], [], wait_s)[0]:
            got = os.read(self._pipe, 1 << 16)
            self.ended = not got
            *lines, self._rest = (self._rest + got).split(b"\n")
            for line in lines:
                self._take(*json.loads(line))

    def read_to_end(self) -> None:
        while not self.ended:
            self.read(STUCK_S)

    def _take(self, what: str, write: Write) -> None:
        if what == "begin":
            self.begun = write
        elif what == "acknowledged":
            self.begun = None
            self.acknowledged.append(write)
            self.n_outcomes += len(outcomes_of(write)) if write["do"] == "outcomes" else 0


_CHAMPION = "SELECT version_id FROM alias_moves WHERE alias = 'champion' ORDER BY epoch DESC LIMIT 1"


def _be(life: Life, reading: int, writing: int) -> None:
    """Be the child: nothing of the parent's is cleaned up here, whatever happens."""
    try:
        os.close(reading)
        live(life, writing)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _version_of(write: Write) -> str:
    return policy_files.version_id_of(str(write["content"]).encode())


def _decision_of(write: Write) -> str:
    return (
        "SELECT decisions.seed, traces.document FROM decisions JOIN traces ON traces.trace_id = decisions.decision_id "
        f"WHERE decisions.decision_id = '{write['name']}'"
    )


def _correction_of(write: Write) -> str:
    return (
        "SELECT corrections.value FROM corrections JOIN outcomes ON outcomes.seq = corrections.outcome_seq "
        f"WHERE outcomes.decision_id = '{write['name']}'"
    )


def _parts_of_promotion(rows: Rows, write: Write) -> list[bool]:
    """Tell of each row that a promotion writes whether it is there; no version is promoted twice here."""
    version, epoch = _version_of(write), int(str(write["epoch"]))
    replaced = f"SELECT version_id FROM alias_moves WHERE alias = 'champion' AND epoch = {epoch}"
    parts = [
        f"SELECT 1 FROM alias_moves WHERE alias = 'champion' AND epoch = {epoch + 1} AND version_id = '{version}'",
        f"SELECT 1 FROM policy_states WHERE state = 'champion' AND version_id = '{version}'",
    ]
    if epoch:
        parts += [
            f"SELECT 1 FROM alias_moves WHERE alias = 'previous' AND version_id = ({replaced})",
            f"SELECT 1 FROM policy_states WHERE state = 'retired' AND version_id = ({replaced})",
        ]
    return [_count(rows, query) == 1 for query in parts]


def _outcomes_there(rows: Rows, write: Write) -> dict[object, object]:
    query = (
        f"SELECT kind, value FROM outcomes WHERE decision_id = '{write['name']}' AND kind LIKE 'kind-{write['part']}-%'"
    )
    return {row[0]: row[1] for row in rows.execute(query)}


def _count(rows: Rows, query: str) -> int:
    return len(list(rows.execute(query)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--plant", choices=PLANTS)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--passage", type=int, default=1)
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="ttt-kills-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(running_postgres(durable=True)) if given.database == "postgresql" else None
        url = f"sqlite:///{folder}/ledger.sqlite" if server is None else stack.enter_context(server.database())
        Ledger.open(url, files=folder / "policies").close()
        loop = Loop(url, folder, server, given.plant, given.step, given.passage)
        started = time.monotonic()
        for i in range(given.kills):
            loop.one_life()
            if i % 100 == 99:
                acknowledged = loop.found.acknowledged["outcome"]
                said = f"  {i + 1} kills, {acknowledged:,} outcomes, {loop.found.wrong} wrong"
                print(f"{said}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        loop.look_at_all()
    print(loop.found.as_json())


if __name__ == "__main__":
    main()
