"""Two promoters look at the same champion and both promote: one wins, the other is told, and the epoch goes on by one.

In some races one of them is stopped between looking and promoting (SIGSTOP) and wakes up when the other is done.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from policies import PromotionLost
from policies.ledger import Ledger
from tests.faults.harness import Figure, Harness
from tests.postgres_server import running_postgres

ROOT = Path(__file__).resolve().parents[2]
PLANTS = ("no compare",)


@dataclass(slots=True)
class Found:
    """What the races came to."""

    races: int = 0
    one_step: int = 0  # races with one winner, one epoch more, and the winner's version as champion
    loaded: int = 0  # races after which the champion's file was what its name says
    woken: int = 0  # races in which one was stopped between looking and promoting
    woken_and_won: int = 0
    broken_history: int = 0


def run(full: bool) -> list[Figure]:
    races = 500 if full else 20
    return [
        figure
        for database, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
        for figure in _figures(race(database, races=races), name)
    ]


HARNESS = Harness(
    name="ledger-races",
    what="two processes promote at once, each knowing the same champion; in some races one is stopped in between",
    target="exactly one epoch step each",
    run=run,
)


def race(database: str, *, races: int, plant: str | None = None) -> Found:
    """Run the races in processes of their own; return what they came to."""
    command = [sys.executable, "-m", "tests.faults.promoter_race", "--database", database, "--races", str(races)]
    command += ["--plant", plant] if plant else []
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Found(**json.loads(done.stdout))


def _figures(found: Found, where: str) -> list[Figure]:
    n = found.races
    return [
        Figure(
            f"{where}: races with exactly one epoch step", f"{found.one_step} of {n}", "all", found.one_step == n > 0
        ),
        Figure(f"{where}: champion loads afterwards", f"{found.loaded} of {n}", "all", found.loaded == n > 0),
        Figure(
            f"{where}: woken late, and won all the same",
            f"{found.woken_and_won} of {found.woken}",
            "0",
            found.woken_and_won == 0 < found.woken,
        ),
        Figure(f"{where}: gaps or repeats in the epochs", str(found.broken_history), "0", found.broken_history == 0),
    ]


@dataclass(slots=True)
class Promoter:
    """A process that promotes when it is told to."""

    pid: int
    orders: IO[str]
    answers: IO[str]

    @classmethod
    def start(cls, url: str, files: Path, name: str, plant: str | None) -> Promoter:
        orders_read, orders_write = os.pipe()
        answers_read, answers_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _promote_on_order(url, files, name, plant, os.fdopen(orders_read), os.fdopen(answers_write, "w"))
            finally:
                os._exit(0)
        os.close(orders_read)
        os.close(answers_write)
        return cls(pid, os.fdopen(orders_write, "w"), os.fdopen(answers_read))

    def say(self, order: str) -> None:
        print(order, file=self.orders, flush=True)

    def hear(self) -> str:
        return self.answers.readline().strip()


def _promote_on_order(url: str, files: Path, name: str, plant: str | None, orders: IO[str], answers: IO[str]) -> None:
    with Ledger.open(url, files=files, busy_timeout_s=30.0) as ledger:
        versions = ledger.policy_versions
        for i, order in enumerate(orders):
            if order.strip() == "end":  # closing the pipe would not do: the other promoter holds a copy of its end
                return
            pause_s = float(order)
            version_id = versions.publish(json.dumps({"of": name, "race": i}).encode()).version_id
            epoch = versions.alias("champion").epoch
            print(version_id, file=answers, flush=True)
            orders.readline()
            time.sleep(pause_s)
            if plant == "no compare":
                epoch = versions.alias("champion").epoch
            try:
                versions.promote(version_id, expected_epoch=epoch, reason=name)
                print("won", file=answers, flush=True)
            except PromotionLost:
                print("lost", file=answers, flush=True)


def _race(ledger: Ledger, promoters: list[Promoter], rng: random.Random, found: Found) -> None:
    before = ledger.policy_versions.alias("champion").epoch
    stopped = rng.randrange(2) if rng.random() < 0.2 else None
    for promoter in promoters:
        promoter.say(str(rng.choice([0.0, 0.0, rng.uniform(0.0, 0.003)])))
    versions = [promoter.hear() for promoter in promoters]
    if stopped is None:
        for promoter in promoters:
            promoter.say("go")
        answers = [promoter.hear() for promoter in promoters]
    else:
        answers = _with_one_stopped(promoters, stopped)
        found.woken += 1
        found.woken_and_won += answers[stopped] == "won"
    champion = ledger.policy_versions.alias("champion")
    winners = [version for version, answer in zip(versions, answers, strict=True) if answer == "won"]
    found.races += 1
    found.one_step += (
        sorted(answers) == ["lost", "won"] and champion.epoch == before + 1 and [champion.version_id] == winners
    )
    found.loaded += champion.version_id is not None and bool(ledger.policy_versions.load(champion.version_id))


def _with_one_stopped(promoters: list[Promoter], stopped: int) -> list[str]:
    sleeper, other = promoters[stopped], promoters[1 - stopped]
    os.kill(sleeper.pid, signal.SIGSTOP)
    sleeper.say("go")
    other.say("go")
    first = other.hear()
    os.kill(sleeper.pid, signal.SIGCONT)
    second = sleeper.hear()
    return [second, first] if stopped == 0 else [first, second]


def _broken_history(ledger: Ledger) -> int:
    epochs: dict[str, list[int]] = {}
    for table, row in ledger.rows():
        if table == "alias_moves":
            epochs.setdefault(str(row["alias"]), []).append(int(str(row["epoch"])))
    return sum(found != list(range(1, len(found) + 1)) for found in epochs.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--races", type=int, default=20)
    parser.add_argument("--plant", choices=PLANTS)
    given = parser.parse_args()
    folder, found, rng = Path(tempfile.mkdtemp(prefix="ttt-races-")), Found(), random.Random(0)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(running_postgres()) if given.database == "postgresql" else None
        url = f"sqlite:///{folder}/ledger.sqlite" if server is None else stack.enter_context(server.database())
        promoters = [Promoter.start(url, folder / "policies", name, given.plant) for name in ("a", "b")]
        with Ledger.open(url, files=folder / "policies", busy_timeout_s=30.0) as ledger:
            for _ in range(given.races):
                _race(ledger, promoters, rng, found)
            found.broken_history = _broken_history(ledger)
        for promoter in promoters:
            promoter.say("end")
            os.waitpid(promoter.pid, 0)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
