"""What a source says first stands; repeats are counted, and corrections are rows of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from policies import OutcomeConflict, OutcomeRow, RecordRefused, UnknownTrace
from policies.ledger import Ledger
from tests.policies.fakes import decision_row

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def ticking(url: str, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with one decision, whose clock goes on a second at every look."""
    seconds = iter(range(10_000))
    with Ledger.open(url, clock=lambda: NOON + timedelta(seconds=next(seconds))) as ledger:
        ledger.record(decision_row(), "{}")
        yield ledger


def said(value: float, *, source: str = "user", decision_id: str = "trace-1") -> OutcomeRow:
    return OutcomeRow(decision_id, source=source, kind="correct", value=value)


def correct_to(ledger: Ledger, value: float, reason: str = "misread") -> int:
    return ledger.correct_outcome("trace-1", source="user", kind="correct", value=value, reason=reason).revision


def test_repeats_are_counted_whatever_they_say(ticking: Ledger) -> None:
    ticking.add_outcome(said(1.0))
    ticking.add_outcome(said(1.0))
    with pytest.raises(OutcomeConflict):
        ticking.add_outcome(said(0.0))

    (outcome,) = ticking.effective_outcomes("trace-1")

    assert (outcome.value, outcome.n_repeats) == (1.0, 2)


def test_a_correction_counts_and_leaves_what_was_said(ticking: Ledger) -> None:
    first = ticking.add_outcome(said(1.0))

    correction = ticking.correct_outcome("trace-1", source="user", kind="correct", value=0.0, reason="misread")

    (outcome,) = ticking.effective_outcomes("trace-1")
    assert (outcome.value, outcome.reported) == (0.0, first)
    assert outcome.corrections == (correction,)
    assert (correction.revision, correction.reason) == (1, "misread")
    assert ticking.outcomes("trace-1") == (first,)


def test_the_last_correction_counts_and_the_same_again_changes_nothing(ticking: Ledger) -> None:
    ticking.add_outcome(said(1.0))

    revisions = [correct_to(ticking, value) for value in (0.0, 0.0, 0.5, 0.0)]

    assert revisions == [1, 1, 2, 3]
    assert ticking.effective_outcomes("trace-1")[0].value == 0.0


def test_a_correction_of_nothing_is_refused(ticking: Ledger) -> None:
    ticking.add_outcome(said(1.0, source="solution"))

    with pytest.raises(RecordRefused, match="'user' has reported no 'correct'"):
        correct_to(ticking, 0.0)
    with pytest.raises(RecordRefused, match="between 0 and 1"):
        correct_to(ticking, 1.5)


def test_several_outcomes_are_written_together_or_not_at_all(ticking: Ledger) -> None:
    with pytest.raises(UnknownTrace, match="no-such"):
        ticking.add_outcomes([said(1.0), said(1.0, decision_id="no-such")])
    assert ticking.outcomes("trace-1") == ()

    written = ticking.add_outcomes([said(1.0), said(0.0, source="solution"), said(0.0)])

    assert [row.value for row in written] == [1.0, 0.0, 1.0]
    assert [row.source for row in ticking.outcomes("trace-1")] == ["user", "solution"]
