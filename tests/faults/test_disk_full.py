"""The fills find nothing wrong with the ledger, and do find a ledger that hides that it is full."""

from __future__ import annotations

from tests.faults.disk_full import HARNESS, fill


def test_in_its_short_form_every_target_is_met() -> None:
    assert [found for found in HARNESS.run(False) if not found.met] == []


def test_an_acknowledgement_of_what_did_not_fit_is_found_out() -> None:
    assert fill(fills=2, plant=True).lost > 0
