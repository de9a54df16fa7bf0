"""Harnesses are found by themselves, and the table keeps what was not made anew."""

from __future__ import annotations

import pytest

from tests.faults.harness import Figure, Harness
from tests.faults.registry import BEGIN, DOCUMENT, END, chosen, discovered, rows, with_rows


def harness(name: str) -> Harness:
    return Harness(name=name, what="breaks | things", target="none lost", run=lambda full: [])


def lines(name: str, value: str) -> list[str]:
    found = [Figure("lost", value, "0", met=value == "0")]
    return rows(harness(name), found, date="2026-01-02", commit="abc1234")


def test_names_and_beginnings_of_names_choose() -> None:
    both = (harness("cache-flips"), harness("ledger-kills"), harness("ledger-races"))

    assert chosen(both, None) == both
    assert [one.name for one in chosen(both, "ledger")] == ["ledger-kills", "ledger-races"]
    assert [one.name for one in chosen(both, "ledger-races,cache")] == ["cache-flips", "ledger-races"]
    with pytest.raises(ValueError, match="no harness 'led'"):
        chosen(both, "led")


def test_a_row_names_the_command_that_makes_it() -> None:
    (line,) = lines("ledger-kills", "0")

    assert line.startswith("| ledger-kills | breaks / things | lost | 0 | 0 | yes | 2026-01-02 | abc1234 |")
    assert "`python -m tests.faults --only ledger-kills`" in line


def test_a_missed_target_stands_out() -> None:
    assert "| **NO** |" in lines("ledger-kills", "1")[0]


def test_rows_of_harnesses_that_did_not_run_stay() -> None:
    document = f"Before\n{BEGIN}\n{END}\nAfter\n"
    document = with_rows(document, {"a": lines("a", "1"), "b": lines("b", "0")})

    again = with_rows(document, {"a": lines("a", "0")})

    assert again.startswith("Before\n")
    assert again.endswith("\nAfter\n")
    assert [line for line in again.splitlines() if line.startswith(("| a ", "| b "))] == [
        *lines("a", "0"),
        *lines("b", "0"),
    ]


def test_a_document_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        with_rows("no table here", {})


def test_every_harness_has_a_name_of_its_own_and_the_document_has_its_table() -> None:
    names = [one.name for one in discovered()]

    assert len(set(names)) == len(names)
    assert with_rows(DOCUMENT.read_text(), {}) == DOCUMENT.read_text()
