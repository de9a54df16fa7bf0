"""What the kill loop kills: a process that writes to a ledger until it is struck, and says when each write is done.

It says so through a pipe, one line of JSON each: what it is about to write, and, once the call has returned, that it is
acknowledged. A planted bug makes it work as a bad ledger would; the harness has to notice.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert

from policies import DecisionRow, LedgerUnavailable, MeasuredCost, OutcomeRow, PolicyState, PromotionLost, policy_files
from policies.ledger import Ledger
from policies.tables import POLICY_STATES, POLICY_VERSIONS, sealed

OUTCOMES_PER_WRITE = 10
STEPS = (  # where a life may end by itself: what `Ledger.open(reached=)` is told of
    "before commit",
    "after commit",
    "policy file: written",
    "policy file: synced",
    "policy file: renamed",
    "version: row written",
    "promotion: champion moved",
)
PLANTS = ("early acknowledgement", "row before file", "blind retry", "several commits")

Write = dict[str, object]  # "do": what, and its arguments: all that is needed to do it again


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the child."""

    url: str
    files: Path
    number: int
    retry: Write | None  # the write that the life before had begun and never heard of again
    step: str | None  # die by itself at this step of a write ...
    passage: int  # ... the nth time it is reached
    plant: str | None = None


def live(life: Life, pipe: int) -> None:
    """Write until killed. Never returns by itself."""
    say: Callable[[str, Write], object] = lambda what, write: os.write(  # noqa: E731
        pipe, json.dumps([what, write]).encode() + b"\n"
    )
    rng = random.Random(life.number)
    with Ledger.open(life.url, files=life.files, busy_timeout_s=30.0, reached=_fail_point(life)) as ledger:
        say("ready", {})
        ledger.policy_versions.sweep()
        child = _Child(ledger, say, life)
        if life.retry is not None:
            child.do(life.retry, again=True)
        for i in range(1_000_000):
            child.one_task(f"life{life.number}-task{i}", rng)


class _Child:
    def __init__(self, ledger: Ledger, say: Callable[[str, Write], object], life: Life) -> None:
        self._ledger = ledger
        self._say = say
        self._plant = life.plant

    def one_task(self, name: str, rng: random.Random) -> None:
        """A decision, what came of it, now and then a correction, and now and then a new policy."""
        self.do({"do": "decision", "name": name, "seed": rng.randrange(2**31)})
        for part in range(3):
            values = [rng.random() for _ in range(OUTCOMES_PER_WRITE)]
            self.do({"do": "outcomes", "name": name, "part": part, "values": values})
        if rng.random() < 0.3:
            self.do({"do": "correction", "name": name, "value": rng.random()})
        if rng.random() < 0.4:
            content = json.dumps({"weights": [rng.random() for _ in range(2000)]})
            self.do({"do": "publish", "content": content})
            self.do({"do": "promote", "content": content, "epoch": self._epoch()})

    def _epoch(self) -> int:
        while True:
            try:
                return self._ledger.policy_versions.alias("champion").epoch
            except LedgerUnavailable:  # the server was struck
                time.sleep(0.05)

    def do(self, write: Write, *, again: bool = False) -> None:
        """Announce a write, do it until the ledger acknowledges it, and pass that on."""
        self._say("begin", write)
        if self._plant == "early acknowledgement":
            self._say("acknowledged", write)
        while True:
            try:
                getattr(self, f"_{write['do']}")(write, again)
                break
            except LedgerUnavailable:  # the server was struck; whether it has the write is not known
                again = True
                time.sleep(0.05)
        self._say("acknowledged", write)

    def _decision(self, write: Write, again: bool) -> None:
        name = str(write["name"])
        row = decision_of(name, int(str(write["seed"])))
        if again and self._plant == "blind retry":
            row = dataclasses.replace(row, decision_id=f"{name}-again")
        self._ledger.record(row, trace_of(name))

    def _outcomes(self, write: Write, again: bool) -> None:
        rows = outcomes_of(write)
        if again and self._plant == "blind retry":
            rows = [dataclasses.replace(row, source="harness-again") for row in rows]
        if self._plant == "several commits":
            for row in rows:
                self._ledger.add_outcomes([row])
        else:
            self._ledger.add_outcomes(rows)

    def _correction(self, write: Write, _again: bool) -> None:
        value = float(str(write["value"]))
        self._ledger.correct_outcome(
            str(write["name"]), source="harness", kind="kind-0-0", value=value, reason="harness"
        )

    def _publish(self, write: Write, _again: bool) -> None:
        content = str(write["content"]).encode()
        if self._plant == "row before file":
            _publish_row_first(self._ledger, content)
        else:
            self._ledger.policy_versions.publish(content)

    def _promote(self, write: Write, _again: bool) -> None:
        version_id, epoch = policy_files.version_id_of(str(write["content"]).encode()), int(str(write["epoch"]))
        try:
            if self._plant == "several commits":
                _promote_in_several_commits(self._ledger, version_id, epoch)
            else:
                self._ledger.policy_versions.promote(version_id, expected_epoch=epoch, reason="harness")
        except PromotionLost:  # its own, whose answer it never got
            if self._ledger.policy_versions.alias("champion").version_id != version_id:
                raise


def decision_of(name: str, seed: int) -> DecisionRow:
    return DecisionRow(
        decision_id=name,
        task_fingerprint="f" * 64,
        task_id=name,
        tenant="default",
        features_json='{"kind":"grid"}',
        features_schema="0123456789abcdef",
        arm="ttt",
        propensity=0.75,
        propensities=(("icl", 0.25), ("ttt", 0.75)),
        policy="harness@1",
        reason="for the harness",
        difficulty=0.5,
        predicted_cost_s=9.0,
        measured=MeasuredCost(9.5, 0.0, 1234),
        degraded=(),
        seed=seed,
        predicted_costs_s=(("icl", 0.5), ("ttt", 9.0)),
    )


def trace_of(name: str) -> str:
    return json.dumps({"name": name, "steps": ["probe", "decide", "answer"] * 200})


def outcomes_of(write: Write) -> list[OutcomeRow]:
    values = write["values"]
    assert isinstance(values, list)
    return [
        OutcomeRow(str(write["name"]), source="harness", kind=f"kind-{write['part']}-{i}", value=value)
        for i, value in enumerate(values)
    ]


def _publish_row_first(ledger: Ledger, content: bytes) -> None:
    """What `publish` must not do."""
    versions, at = ledger.policy_versions, "2026-01-02T12:00:00+00:00"
    version_id = policy_files.version_id_of(content)
    with ledger._database.writing() as connection:
        if versions._found(connection, version_id) is None:
            made: dict[str, object] = {"version_id": version_id, "parent": None, "trained_to_seq": None}
            made |= {"metrics": "{}", "size_bytes": len(content), "created_at": at}
            connection.execute(insert(POLICY_VERSIONS).values(sealed(POLICY_VERSIONS, made)))
            state = {"version_id": version_id, "state": "candidate", "reason": "", "created_at": at}
            connection.execute(insert(POLICY_STATES).values(sealed(POLICY_STATES, state)))
    policy_files.write(versions.folder, content, versions._reached)


def _promote_in_several_commits(ledger: Ledger, version_id: str, epoch: int) -> None:
    """What `promote` must not do."""
    versions = ledger.policy_versions
    replaced, previous = versions.alias("champion").version_id, versions.alias("previous").epoch
    versions.point("champion", version_id, expected_epoch=epoch, reason="harness")
    versions._reached("promotion: champion moved")
    if replaced is not None:
        versions.point("previous", replaced, expected_epoch=previous, reason="harness")
    versions.set_state(version_id, PolicyState.CHAMPION, "harness")


def _fail_point(life: Life) -> Callable[[str], None]:
    passages = 0

    def reached(step: str) -> None:
        nonlocal passages
        if step == life.step:
            passages += 1
            if passages == life.passage:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached
