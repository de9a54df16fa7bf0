"""The kill loop finds nothing wrong with the ledger, and does find what is wrong with a bad one."""

from __future__ import annotations

import pytest

from tests.faults.kill_child import STEPS
from tests.faults.kill_loop import HARNESS, loop

THIRD = 3  # commit of a life: to open and to sweep are the first two, then it writes a decision


def test_in_its_short_form_every_target_is_met() -> None:
    figures = HARNESS.run(False)

    assert [found for found in figures if not found.met] == []
    assert any("PostgreSQL" in found.figure for found in figures)


@pytest.mark.parametrize("step", STEPS)
def test_a_life_can_end_at_every_named_step(step: str) -> None:
    found = loop("sqlite", kills=3, step=step)

    assert found.struck_at[step] == 3
    assert found.wrong == 0


def test_an_acknowledgement_before_the_commit_is_found_out() -> None:
    assert loop("sqlite", kills=3, plant="early acknowledgement", step="before commit", passage=THIRD).lost > 0


def test_a_row_before_its_file_is_found_out() -> None:
    found = loop("sqlite", kills=3, plant="row before file", step="policy file: synced")

    assert found.torn > 0
    assert found.unloadable > 0


def test_a_retry_that_does_not_know_its_first_try_is_found_out() -> None:
    assert loop("sqlite", kills=3, plant="blind retry", step="after commit", passage=THIRD).doubled > 0


def test_a_write_in_several_commits_is_found_out() -> None:
    assert loop("sqlite", kills=3, plant="several commits", step="before commit", passage=8).torn > 0


def test_a_promotion_in_several_commits_is_found_out() -> None:
    assert loop("sqlite", kills=3, plant="several commits", step="promotion: champion moved").torn > 0


def test_on_postgresql_an_acknowledgement_before_the_commit_is_found_out() -> None:
    assert loop("postgresql", kills=2, plant="early acknowledgement", step="before commit", passage=THIRD).lost > 0
