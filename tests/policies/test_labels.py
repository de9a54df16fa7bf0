"""Unknown is not wrong, late is not used, and who is trusted more is heard first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from policies import Label, LabelRule, LabelState, OutcomeRow, shares_of
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


def label(ledger: Ledger, rule: LabelRule = RULE, *, late_too: bool = False) -> Label:
    (found,) = ledger.labels(rule, late_too=late_too)
    return found


def test_within_the_window_a_decision_waits_and_afterwards_it_is_unknown_not_wrong(
    opened: Ledger, clock: Clock
) -> None:
    clock.forward(60)
    assert (label(opened).state, label(opened).value) == (LabelState.WAITING, None)

    clock.forward(1)
    assert (label(opened).state, label(opened).value) == (LabelState.UNKNOWN, None)


def test_a_kind_may_have_a_default(opened: Ledger, clock: Clock) -> None:
    rule = LabelRule("accepted", window_s=60.0, default=1.0)
    assert label(opened, rule).state == LabelState.WAITING

    clock.forward(61)

    assert (label(opened, rule).state, label(opened, rule).value) == (LabelState.DEFAULT, 1.0)


def test_what_is_reported_in_time_is_the_label(opened: Ledger, clock: Clock) -> None:
    clock.forward(60)
    say(opened, 0.25)
    say(opened, 1.0, kind="reward")

    assert (label(opened).state, label(opened).value, label(opened).source) == (LabelState.REPORTED, 0.25, "user")


def test_what_is_reported_late_is_kept_counted_and_not_used(opened: Ledger, clock: Clock) -> None:
    clock.forward(61)
    say(opened, 0.0)

    late = label(opened)

    assert (late.state, late.value, late.n_late) == (LabelState.UNKNOWN, None, 1)
    assert [row.value for row in opened.outcomes("trace-1")] == [0.0]
    assert label(opened, late_too=True).value == 0.0


def test_a_correction_counts_when_it_comes_in_time(opened: Ledger, clock: Clock) -> None:
    say(opened, 1.0)
    clock.forward(30)
    opened.correct_outcome("trace-1", source="user", kind="correct", value=0.5, reason="partly")
    assert label(opened).value == 0.5

    clock.forward(31)
    opened.correct_outcome("trace-1", source="user", kind="correct", value=0.0, reason="wrong after all")

    assert (label(opened).value, label(opened).n_late) == (0.5, 1)
    assert label(opened, late_too=True).value == 0.0


def test_of_conflicting_sources_the_more_trusted_one_counts(opened: Ledger) -> None:
    say(opened, 1.0, source="user")
    say(opened, 0.0, source="solution")

    trusting = LabelRule("correct", window_s=60.0, sources=("solution", "user"))

    assert (label(opened, trusting).value, label(opened, trusting).source) == (0.0, "solution")
    assert (label(opened).value, label(opened).source) == (1.0, "user")
    assert label(opened).conflicting
    assert len(opened.outcomes("trace-1")) == 2


def test_a_clock_that_goes_back_makes_nothing_late(opened: Ledger, clock: Clock) -> None:
    clock.forward(-3600)
    say(opened, 1.0)

    assert label(opened).value == 1.0


def test_the_shares_say_how_much_is_known(url: str, clock: Clock) -> None:
    with Ledger.open(url, clock=clock) as ledger:
        for i in range(4):
            ledger.record(decision_row(f"trace-{i}"), "{}")
        say(ledger, 1.0)
        clock.forward(61)
        ledger.record(decision_row("trace-4"), "{}")

        shares = shares_of(ledger.labels(RULE))

    assert (shares.n, shares.reported, shares.unknown, shares.waiting, shares.default) == (5, 0.2, 0.6, 0.2, 0.0)
    assert shares_of([]).unknown == 0.0


def test_labels_go_on_from_a_number(url: str, clock: Clock) -> None:
    with Ledger.open(url, clock=clock) as ledger:
        for i in range(5):
            ledger.record(decision_row(f"trace-{i}"), "{}")
        first = ledger.labels(RULE, limit=2)
        rest = ledger.labels(RULE, after_seq=first[-1].seq)

    assert [one.decision_id for one in (*first, *rest)] == [f"trace-{i}" for i in range(5)]
