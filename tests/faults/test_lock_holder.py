"""The holder of the lock finds nothing wrong with the ledger, and does find one that waits for ever."""

from __future__ import annotations

from tests.faults.lock_holder import HARNESS, hold


def test_in_its_short_form_every_target_is_met() -> None:
    assert [found for found in HARNESS.run(False) if not found.met] == []


def test_waiting_for_too_long_is_found_out() -> None:
    found = hold("sqlite", rounds=1, wait_s=2.0)

    assert found.in_time == 0
