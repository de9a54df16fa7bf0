"""The ledger against a model of it: whatever is done in whatever order, each says the same of what was done.

The model is a few dictionaries. After every step all of the ledger is compared with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from policies import (
    DecisionConflict,
    LabelRule,
    LabelState,
    OutcomeConflict,
    OutcomeRow,
    PolicyFileDamaged,
    PromotionLost,
    UnknownTrace,
    label_of,
)
from policies.ledger import Ledger
from policies.policy_files import path_of, version_id_of
from tests.faults.harness import Figure, Harness
from tests.faults.kill_child import decision_of
from tests.postgres_server import running_postgres

NAMES = st.sampled_from([f"trace-{i}" for i in range(2)])
SOURCES = st.sampled_from(["user", "solution"])
VALUES = st.sampled_from([0.0, 0.5, 1.0])
CONTENTS = st.sampled_from([b"first", b"second", b"third"])
RULE = LabelRule("correct", window_s=100.0)
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@dataclass(slots=True)
class Said:
    """What the model knows of one outcome."""

    value: float
    at: datetime
    corrections: list[tuple[float, datetime]] = field(default_factory=list)
    repeats: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """Does what users, trainers and accidents do."""

    open: Callable[[str, Path, Callable[[], datetime]], Ledger]
    new_url: Callable[[Path], str]
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="ttt-machine-", dir=quick_disk())
        self.now = NOON
        self.url = type(self).new_url(Path(self.folder.name))
        self.files = Path(self.folder.name) / "policies"
        self.ledger = self._opened()
        self.decided: dict[str, tuple[int, datetime]] = {}  # name -> seed, when
        self.said: dict[tuple[str, str], Said] = {}  # name, source
        self.published: list[bytes] = []
        self.damaged: set[bytes] = set()
        self.champion: tuple[bytes | None, int] = (None, 0)
        self.previous: bytes | None = None

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def _opened(self) -> Ledger:
        return type(self).open(self.url, self.files, lambda: self.now)

    @rule(name=NAMES, seed=st.integers(0, 1))
    def record(self, name: str, seed: int) -> None:
        """New, the same again, or the same name with something else."""
        if name in self.decided and self.decided[name][0] != seed:
            _raises(DecisionConflict, lambda: self.ledger.record(decision_of(name, seed), "{}"))
        else:
            self.ledger.record(decision_of(name, seed), "{}")
            self.decided.setdefault(name, (seed, self.now))

    @rule(name=NAMES, source=SOURCES, value=VALUES)
    def report(self, name: str, source: str, value: float) -> None:
        """In time or late, once or again, the same or otherwise, of what is there or not."""
        outcome = OutcomeRow(name, source=source, kind="correct", value=value)
        if name not in self.decided:
            _raises(UnknownTrace, lambda: self.ledger.add_outcome(outcome))
        elif (name, source) not in self.said:
            self.ledger.add_outcome(outcome)
            self.said[name, source] = Said(value, self.now)
        else:
            self.said[name, source].repeats += 1
            if self.said[name, source].value == value:
                self.ledger.add_outcome(outcome)
            else:
                _raises(OutcomeConflict, lambda: self.ledger.add_outcome(outcome))

    @precondition(lambda self: self.said)
    @rule(data=st.data(), value=VALUES)
    def correct(self, data: st.DataObject, value: float) -> None:
        name, source = data.draw(st.sampled_from(sorted(self.said)))
        self.ledger.correct_outcome(name, source=source, kind="correct", value=value, reason="checked")
        corrections = self.said[name, source].corrections
        if not corrections or corrections[-1][0] != value:
            corrections.append((value, self.now))

    @rule(content=CONTENTS)
    def publish(self, content: bytes) -> None:
        self.ledger.policy_versions.publish(content)
        self.damaged.discard(content)
        if content not in self.published:
            self.published.append(content)

    @precondition(lambda self: self.published)
    @rule(data=st.data(), behind=st.integers(0, 1))
    def promote(self, data: st.DataObject, behind: int) -> None:
        """With the epoch as it is, or as it was before; with a whole file or a damaged one."""
        content = data.draw(st.sampled_from(self.published))
        champion, epoch = self.champion
        promote: Callable[[], object] = lambda: self.ledger.policy_versions.promote(  # noqa: E731
            version_id_of(content), expected_epoch=epoch - behind, reason="better"
        )
        if content in self.damaged:
            _raises(PolicyFileDamaged, promote)
        elif behind:
            _raises(PromotionLost, promote)
        else:
            promote()
            self.champion = (content, epoch + 1)
            if champion not in (None, content):
                self.previous = champion

    @precondition(lambda self: (self.previous or self.champion[0]) is not None and self.previous not in self.damaged)
    @rule()
    def roll_back(self) -> None:
        champion, epoch = self.champion
        self.ledger.policy_versions.roll_back(expected_epoch=epoch, reason="worse")
        self.champion = (self.previous, epoch + 1)
        if self.previous not in (None, champion):
            self.previous = champion

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        content = data.draw(st.sampled_from(self.published))
        path_of(self.files, version_id_of(content)).write_bytes(b"damaged")
        self.damaged.add(content)

    @rule()
    def crash_while_publishing(self) -> None:
        self.files.mkdir(exist_ok=True)
        (self.files / "0a1b.tmp").write_bytes(b"half of")
        path_of(self.files, "0" * 64).write_bytes(b"never recorded")
        strays = self.ledger.policy_versions.sweep()
        assert [path.name for path in strays] == [f"{'0' * 64}.policy", "0a1b.tmp"]

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = self._opened()

    @rule(seconds=st.sampled_from([-500, 10, 60, 200]))
    def move_the_clock(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def it_says_what_the_model_says(self) -> None:
        type(self).steps += 1
        rows = self.ledger.decisions_after(0)
        assert [(row.decision_id, row.seed) for _, row in rows] == [(n, seed) for n, (seed, _) in self.decided.items()]
        assert [seq for seq, _ in rows] == sorted({seq for seq, _ in rows})
        for name in self.decided:
            found = {
                (name, outcome.reported.source): (
                    outcome.reported.value,
                    [correction.value for correction in outcome.corrections],
                    outcome.n_repeats,
                )
                for outcome in self.ledger.effective_outcomes(name)
            }
            assert found == {
                key: (said.value, [value for value, _ in said.corrections], said.repeats)
                for key, said in self.said.items()
                if key[0] == name
            }

    @invariant()
    def labels_are_what_was_said_in_time(self) -> None:
        said_of = self.ledger.outcomes_of(list(self.decided))
        for seq, row in self.ledger.decisions_after(0):
            label = label_of(
                said_of[row.decision_id],
                RULE,
                seq=seq,
                decision_id=row.decision_id,
                decided_at=row.created_at or "",
                now=self.now,
            )
            end = self.decided[label.decision_id][1] + timedelta(seconds=RULE.window_s)
            reports = [said for (name, _), said in self.said.items() if name == label.decision_id and said.at <= end]
            if reports:
                in_time = [value for value, at in reports[0].corrections if at <= end]
                assert label.state == LabelState.REPORTED
                assert label.value == (in_time[-1] if in_time else reports[0].value)
            else:
                assert label.state == (LabelState.WAITING if self.now <= end else LabelState.UNKNOWN)
                assert label.value is None

    @invariant()
    def policies_are_where_they_should_be(self) -> None:
        versions = self.ledger.policy_versions
        content, epoch = self.champion
        assert (versions.alias("champion").version_id, versions.alias("champion").epoch) == (_named(content), epoch)
        assert versions.alias("previous").version_id == _named(self.previous)
        assert [version.version_id for version in versions.all()] == [_named(one) for one in self.published]
        for one in self.published:
            if one in self.damaged:
                _raises(PolicyFileDamaged, partial(versions.load, version_id_of(one)))
            else:
                assert versions.load(version_id_of(one)) == one


def run(full: bool) -> list[Figure]:
    examples, on_server, steps = (500, 50, 50) if full else (8, 3, 20)
    figures = [_figure("SQLite", steps_without_difference(examples, steps), examples, steps)]
    with running_postgres() as server, ExitStack() as databases:

        def database(_folder: Path) -> str:
            return databases.enter_context(server.database())

        on_postgres = steps_without_difference(on_server, steps, new_url=database)
    return [*figures, _figure("PostgreSQL", on_postgres, on_server, steps)]


HARNESS = Harness(
    name="ledger-machine",
    what="decisions, reports, corrections, promotions, damage, crashes and clock moves in any order, against a model",
    target="the ledger always says what the model says",
    run=run,
)


def opened(url: str, files: Path, clock: Callable[[], datetime]) -> Ledger:
    return Ledger.open(url, files=files, clock=clock)


def file_in(folder: Path) -> str:
    return f"sqlite:///{folder}/ledger.sqlite"


def steps_without_difference(
    examples: int,
    steps: int,
    *,
    open: Callable[[str, Path, Callable[[], datetime]], Ledger] = opened,
    new_url: Callable[[Path], str] = file_in,
) -> int:
    """Run the machine; return the steps after which ledger and model said the same.

    Raises:
        AssertionError: they did not.
    """

    class Machine(LedgerMachine):
        """This run's."""

        steps = 0

    Machine.open, Machine.new_url = staticmethod(open), staticmethod(new_url)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Machine.steps


def _figure(where: str, done: int, examples: int, steps: int) -> Figure:
    value = f"{done:,} steps in {examples} sequences, 0 differences"
    return Figure(
        f"{where}: steps after which ledger and model agree", value, f"{examples} x up to {steps}, all", done > 0
    )


def _named(content: bytes | None) -> str | None:
    return None if content is None else version_id_of(content)


def _raises(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def quick_disk() -> str | None:
    """Many short ledgers: what is kept through a crash is tried elsewhere, so memory will do."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
