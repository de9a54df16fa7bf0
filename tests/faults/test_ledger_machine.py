"""The machine finds no difference between the ledger and the model, and does find ledgers that forget or forgive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from policies import EffectiveOutcome, OutcomeRow
from policies.ledger import Ledger
from tests.faults.ledger_machine import HARNESS, steps_without_difference


class ForgetsRepeats(Ledger):
    def add_outcomes(self, given: Iterable[OutcomeRow]) -> tuple[OutcomeRow, ...]:
        rows = tuple(given)
        known = [self.outcomes(row.decision_id) for row in rows]
        if all(any(one.source == row.source for one in said) for row, said in zip(rows, known, strict=True)):
            return tuple(
                next(one for one in said if one.source == row.source) for row, said in zip(rows, known, strict=True)
            )
        return super().add_outcomes(rows)


class ForgetsCorrections(Ledger):
    def outcomes_of(self, decision_ids: Sequence[str]) -> dict[str, tuple[EffectiveOutcome, ...]]:
        found = super().outcomes_of(decision_ids)
        return {name: tuple(replace(each, corrections=()) for each in said) for name, said in found.items()}


def test_in_its_short_form_every_target_is_met() -> None:
    assert [found for found in HARNESS.run(False) if not found.met] == []


@pytest.mark.parametrize("bad", [ForgetsRepeats, ForgetsCorrections])
def test_a_ledger_that_differs_is_found_out(bad: type[Ledger]) -> None:
    def opened(url: str, files: Path, clock: Callable[[], datetime]) -> Ledger:
        return bad.open(url, files=files, clock=clock)

    with pytest.raises(AssertionError):
        steps_without_difference(30, 30, open=opened)
