"""Nothing is unpickled; a loader that does is found out."""

from __future__ import annotations

from tests.faults.ledger_pickle import HARNESS, listened


def test_every_target_is_met() -> None:
    assert [found for found in HARNESS.run(False) if not found.met] == []


def test_a_loader_that_unpickles_is_found_out() -> None:
    events, sprung, _ = listened(plant=True)

    assert events > 0
    assert sprung
