"""Changed bytes are never handed out as what was written; a reader who trusts the file is found out."""

from __future__ import annotations

from tests.faults.ledger_flips import HARNESS, flip, without_looking


def test_in_its_short_form_every_target_is_met() -> None:
    assert [found for found in HARNESS.run(False) if not found.met] == []


def test_trusting_the_file_is_found_out() -> None:
    assert flip(flips=60, read=without_looking).wrong > 0
