"""The races find nothing wrong with the ledger's promotion, and do find one that compares nothing."""

from __future__ import annotations

import pytest

from tests.faults.promoter_race import HARNESS, race


def test_in_its_short_form_every_target_is_met() -> None:
    assert [found for found in HARNESS.run(False) if not found.met] == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_promoting_without_comparing_is_found_out(database: str) -> None:
    found = race(database, races=10, plant="no compare")

    assert found.one_step < found.races
    assert found.woken_and_won > 0
