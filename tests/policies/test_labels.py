"""Unknown is not wrong, late is not used, and who is trusted more is heard first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from policies import Label, LabelRule, LabelState, OutcomeRow, label_of
from policies.ledger import Ledger
from tests.policies.fakes import decision_row

RULE = LabelRule("correct", window_s=60.0)


@dataclass
class Clock:
    now: datetime = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(url: str, clock: Clock) -> Iterator[Ledger]:
    with Ledger.open(url, clock=clock) as ledger:
        ledger.record(decision_row(), "{}")
        yield ledger


def say(ledger: Ledger, value: float, source: str = "user", kind: str = "correct") -> None:
    ledger.add_outcome(OutcomeRow("trace-1", source=source, kind=kind, value=value))


def label(ledger: Ledger, clock: Clock, rule: LabelRule = RULE) -> Label:
    ((seq, row),) = ledger.decisions_after(0)
    said = [each for each in ledger.effective_outcomes(row.decision_id) if each.reported.kind == rule.kind]
    return label_of(said, rule, seq=seq, decision_id=row.decision_id, decided_at=row.created_at or "", now=clock())


def test_within_the_window_a_decision_waits_and_afterwards_it_is_unknown_not_wrong(
    opened: Ledger, clock: Clock
) -> None:
    clock.forward(60)
    assert (label(opened, clock).state, label(opened, clock).value) == (LabelState.WAITING, None)

    clock.forward(1)
    assert (label(opened, clock).state, label(opened, clock).value) == (LabelState.UNKNOWN, None)


def test_a_kind_may_have_a_default(opened: Ledger, clock: Clock) -> None:
    rule = LabelRule("accepted", window_s=60.0, default=1.0)
    assert label(opened, clock, rule).state == LabelState.WAITING

    clock.forward(61)

    assert (label(opened, clock, rule).state, label(opened, clock, rule).value) == (LabelState.DEFAULT, 1.0)


def test_what_is_reported_in_time_is_the_label(opened: Ledger, clock: Clock) -> None:
    clock.forward(60)
    say(opened, 0.25)
    say(opened, 1.0, kind="reward")

    assert (label(opened, clock).state, label(opened, clock).value, label(opened, clock).source) == (
        LabelState.REPORTED,
        0.25,
        "user",
    )


def test_what_is_reported_late_is_kept_counted_and_not_used(opened: Ledger, clock: Clock) -> None:
    clock.forward(61)
    say(opened, 0.0)

    late = label(opened, clock)

    assert (late.state, late.value, late.n_late) == (LabelState.UNKNOWN, None, 1)
    assert [row.value for row in opened.outcomes("trace-1")] == [0.0]


def test_a_correction_counts_when_it_comes_in_time(opened: Ledger, clock: Clock) -> None:
    say(opened, 1.0)
    clock.forward(30)
    opened.correct_outcome("trace-1", source="user", kind="correct", value=0.5, reason="partly")
    assert label(opened, clock).value == 0.5

    clock.forward(31)
    opened.correct_outcome("trace-1", source="user", kind="correct", value=0.0, reason="wrong after all")

    assert (label(opened, clock).value, label(opened, clock).n_late) == (0.5, 1)


def test_of_conflicting_sources_the_more_trusted_one_counts(opened: Ledger, clock: Clock) -> None:
    say(opened, 1.0, source="user")
    say(opened, 0.0, source="solution")

    trusting = LabelRule("correct", window_s=60.0, sources=("solution", "user"))

    assert (label(opened, clock, trusting).value, label(opened, clock, trusting).source) == (0.0, "solution")
    assert (label(opened, clock).value, label(opened, clock).source) == (1.0, "user")
    assert label(opened, clock).conflicting
    assert len(opened.outcomes("trace-1")) == 2


def test_a_clock_that_goes_back_makes_nothing_late(opened: Ledger, clock: Clock) -> None:
    clock.forward(-3600)
    say(opened, 1.0)

    assert label(opened, clock).value == 1.0
