"""No byte that is kept is ever unpickled: an audit hook listens while every path of ledger and policies is walked.

One of the policies is a pickle that would make a folder if it were loaded. A process of its own, because a hook stays.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from policies import OutcomeRow
from policies.checking import check
from policies.ledger import Ledger
from policies.recovery import recover
from tests.faults.harness import Figure, Harness
from tests.faults.kill_child import decision_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_1 = ROOT / "tests" / "policies" / "data" / "ledger_schema_1.sqlite"


class _Trap:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (self._folder,)  # type: ignore[return-value]  # what it would call, and on what


def run(_full: bool) -> list[Figure]:
    events, sprung, heard = listened()
    return [
        Figure("pickle events on all paths of ledger and policies", str(events), "0", events == 0),
        Figure("the planted pickle was loaded", "yes" if sprung else "no", "no", not sprung),
        Figure("the hook hears a pickle that is loaded on purpose", "yes" if heard else "no", "yes", heard),
    ]


HARNESS = Harness(
    name="ledger-pickle",
    what="an audit hook listens while a ledger is written, read, migrated, checked and recovered, and policies are "
    "published and loaded, one of them a pickle",
    target="no pickle event",
    run=run,
)


def listened(*, plant: bool = False) -> tuple[int, bool, bool]:
    """Return the events heard, whether the trap sprang, whether the hook works; `plant`: a loader that unpickles."""
    command = [sys.executable, "-m", "tests.faults.ledger_pickle", *(["plant"] if plant else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    events, sprung, heard = json.loads(done.stdout)
    return int(events), bool(sprung), bool(heard)


def _walk(home: Path, trap: bytes, plant: bool) -> None:
    shutil.copy(SCHEMA_1, home / "ledger.sqlite")
    with Ledger.open(home) as ledger:  # migrates
        ledger.record(decision_of("trace-9", 0), "{}")
        ledger.add_outcomes([OutcomeRow("trace-9", "user", "correct", 1.0)] * 2)
        ledger.correct_outcome("trace-9", source="user", kind="correct", value=0.0, reason="misread")
        ledger.outcomes_of(["trace-9"])
        versions = ledger.policy_versions
        ids = [versions.publish(content).version_id for content in (b"{}", trap)]
        for epoch, version_id in enumerate(ids):
            versions.promote(version_id, expected_epoch=epoch, reason="harness")
        loaded = [versions.load(version_id) for version_id in ids]
        if plant:
            pickle.loads(loaded[1])
        versions.roll_back(expected_epoch=2, reason="harness")
        versions.sweep()
        ledger.latest(9), ledger.decisions_after(0), ledger.trace("trace-9"), list(ledger.rows())
    path = home / "ledger.sqlite"
    path.write_bytes(path.read_bytes().replace(b"for the harness", b"for the harnesS", 1))
    check(path)
    recover(path)


def main() -> None:
    events: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ttt-pickle-") as folder:
        sprung = Path(folder) / "sprung"
        trap = pickle.dumps(_Trap(sprung))
        control = pickle.dumps(Path("control"))
        sys.addaudithook(lambda event, _: events.append(event) if event == "pickle.find_class" else None)
        _walk(Path(folder), trap, plant="plant" in sys.argv)
        n_events, has_sprung = len(events), sprung.exists()
        pickle.loads(control)
    print(json.dumps([n_events, has_sprung, len(events) > n_events]))


if __name__ == "__main__":
    main()
