"""The demonstration solves its tasks live, and what it shows is what came out."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from icl_engine.embedded.corpus import is_held_out_arc_task
from router.demo import TASKS, WAYS, run_demo


def test_the_demonstration_counts_what_it_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_TTT_STEPS", "1")
    monkeypatch.setenv("TTT_ROUTER_N_VIEWS", "1")
    out = io.StringIO()

    code = run_demo(console=Console(file=out, width=200, color_system=None), seed=0)

    rows = [re.findall("[✓✗]", line) for line in out.getvalue().splitlines()]
    marks = [row for row in rows if len(row) == len(WAYS)]
    totals = {way: re.search(rf"^ *{way} +(\d+)/15 ", out.getvalue(), re.MULTILINE) for way in WAYS}
    assert code == 0
    assert len(marks) == 15
    for i, way in enumerate(WAYS):
        total = totals[way]
        assert total is not None
        assert int(total[1]) == sum(row[i] == "✓" for row in marks)


def test_no_task_of_the_demonstration_was_trained_on_and_each_source_keeps_its_licence() -> None:
    arc = json.loads((TASKS / "arc_agi_1.json").read_text())

    assert all(map(is_held_out_arc_task, arc))
    assert "Apache License" in (TASKS / "LICENSE-arc-agi-1").read_text()
    assert "MIT License" in (TASKS / "LICENSE-1d-arc").read_text()
