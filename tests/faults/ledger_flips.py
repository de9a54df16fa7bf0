"""Bytes that change on the disk: the ledger gives what was written or a typed error, and recovery saves nothing else.

SQLite sees damage to its own structure and none to what is in a row; the rows' digests see that.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from icl_engine.errors import FewShotError
from policies import LedgerUnavailable, OutcomeRow
from policies.ledger import Ledger
from policies.recovery import recover
from tests.faults.harness import Figure, Harness
from tests.faults.kill_child import decision_of
from tests.faults.ledger_machine import quick_disk

N = 40
TRACE = '{"steps": "' + "probe " * 200 + '"}'

Everything = dict[str, object]


@dataclass(slots=True)
class Found:
    """What came of the flips."""

    flips: int = 0
    unharmed: int = 0  # everything was read, and was as written: the bytes did not matter
    refused: int = 0  # by a typed error
    wrong: int = 0  # read, and not as written
    untyped: int = 0
    recovered: int = 0  # recoveries that gave a ledger
    not_recovered: int = 0  # by a typed error: nothing could be saved
    saved: int = 0  # decisions saved, of those in the files that were recovered
    saved_wrong: int = 0
    uncounted: int = 0  # recoveries whose numbers do not add up to what there was


def run(full: bool) -> list[Figure]:
    found = flip(flips=1000 if full else 12)
    n = found.flips
    whole = f"{found.refused:,} refused, {found.unharmed:,} read as written"
    handed_out = f"{found.wrong} of {n:,} ({whole})"
    saved = f"{found.saved_wrong} of {found.saved:,}"
    recoveries = f"{found.recovered:,}, {found.not_recovered}"
    return [
        Figure("changed files that give what was not written", handed_out, "0", found.wrong == 0),
        Figure("errors without a type", str(found.untyped), "0", found.untyped == 0),
        Figure("recovered rows that are not as written", saved, "0", found.saved_wrong == 0),
        Figure("recoveries: ledger saved, nothing to save", recoveries, "counted", True),
        Figure("recoveries that do not account for every decision", str(found.uncounted), "0", found.uncounted == 0),
    ]


HARNESS = Harness(
    name="ledger-flips",
    what="1 to 64 bytes of a SQLite ledger are changed at random, it is read whole, and recovered where it is refused",
    target="what was written, or a typed error",
    run=run,
)


def flip(*, flips: int, read: Callable[[Path], Everything] | None = None) -> Found:
    """Change bytes of copies of one ledger, so many times; another `read` is the planted bug."""
    read = read or through_the_ledger
    found, rng = Found(), random.Random(0)
    with tempfile.TemporaryDirectory(prefix="ttt-flips-", dir=quick_disk()) as folder:
        original = _made(Path(folder) / "original")
        as_written = through_the_ledger(original)
        content = original.read_bytes()
        for i in range(flips):
            home = Path(folder) / f"copy-{i}"
            home.mkdir()
            path = home / "ledger.sqlite"
            path.write_bytes(_changed(content, rng))
            _judge(path, as_written, read, found)
            shutil.rmtree(home)
    return found


def through_the_ledger(path: Path) -> Everything:
    """Read everything the way its users do."""
    everything: Everything = {}
    with Ledger.open(path) as ledger:
        for seq, row in ledger.decisions_after(0):
            everything[row.decision_id] = (
                seq,
                row,
                ledger.trace(row.decision_id),
                ledger.effective_outcomes(row.decision_id),
            )
        everything["champion"] = ledger.policy_versions.alias("champion")
        everything["versions"] = ledger.policy_versions.all()
        everything["said"] = ledger.outcomes_of([row.decision_id for _, row in ledger.decisions_after(0)])
        everything["rows"] = list(ledger.rows())
    return everything


def without_looking(path: Path) -> Everything:
    """Read as one does who trusts the file: a planted bug."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute("SELECT trace_id, document FROM traces").fetchall()
        except sqlite3.DatabaseError as error:
            raise LedgerUnavailable(str(path), str(error), remedy="") from error
    return {str(name): document == TRACE for name, document in rows}


def _made(home: Path) -> Path:
    with Ledger.open(home) as ledger:
        for i in range(N):
            ledger.record(decision_of(f"trace-{i}", 0), TRACE)
            ledger.add_outcome(OutcomeRow(f"trace-{i}", "user", "correct", 1.0))
        ledger.correct_outcome("trace-0", source="user", kind="correct", value=0.0, reason="misread")
        version = ledger.policy_versions.publish(b"{}")
        ledger.policy_versions.promote(version.version_id, expected_epoch=0, reason="first")
    return home / "ledger.sqlite"


def _changed(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    at = rng.randrange(len(changed))
    for i in range(at, min(at + rng.choice([1, 1, 2, 8, 64]), len(changed))):
        changed[i] ^= rng.randrange(1, 256)
    return bytes(changed)


def _judge(path: Path, as_written: Everything, read: Callable[[Path], Everything], found: Found) -> None:
    found.flips += 1
    try:
        everything = read(path)
    except FewShotError:
        found.refused += 1
        _judge_recovery(path, as_written, found)
        return
    except Exception:
        found.untyped += 1
        return
    if read is through_the_ledger:
        wrong = everything != as_written
    else:
        wrong = len(everything) != N or not all(everything.values())
    found.wrong += wrong
    found.unharmed += not wrong


def _judge_recovery(path: Path, as_written: Everything, found: Found) -> None:
    try:
        recovery = recover(path)
        everything = through_the_ledger_in_part(path)
    except FewShotError:
        found.not_recovered += 1
        return
    except Exception:
        found.untyped += 1
        return
    found.recovered += 1
    found.saved += len(everything)
    found.saved_wrong += sum(as_written.get(name) != row for name, row in everything.items())
    for table in recovery.tables:
        if table.table == "decisions" and table.missing is not None:
            found.uncounted += table.saved + table.damaged + table.refused + table.missing != N


def through_the_ledger_in_part(path: Path) -> Everything:
    """Read the decisions of a recovered ledger of which everything was saved."""
    everything: Everything = {}
    with Ledger.open(path) as ledger:
        for seq, row in ledger.decisions_after(0):
            try:
                trace = ledger.trace(row.decision_id)
            except FewShotError:
                continue
            outcomes = ledger.effective_outcomes(row.decision_id)
            complete = outcomes and len(outcomes[0].corrections) == (row.decision_id == "trace-0")
            if complete:
                everything[row.decision_id] = (seq, row, trace, outcomes)
    return everything
