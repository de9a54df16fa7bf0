"""The measurements of traces run as they are written, and every decision that they replay is the same."""

from __future__ import annotations

import re

import pytest

from benchmarks.traces.__main__ import main


def test_what_tracing_costs_is_told_and_the_prior_s_decisions_replay_equal(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--listed", "20", "--replayed", "12"])

    told = capsys.readouterr().out
    assert re.search(r"tracing, of a solve: p50 \d+\.\d+ ms, worst of 100 ", told)
    assert re.search(r"and behind it: p50 \d+\.\d+ ms, worst of 100 ", told)
    assert "replayed: 12 of 12 equal (icl, icl_vote)" in told
    assert "21 traces" in told
    assert "list of 50, by regret" in told
