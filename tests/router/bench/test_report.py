"""One command makes the page, its plots and an HTML file that needs nothing else; what is not beaten is said."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.outcome_files import write_outcomes
from router.bench.bootstrap import Interval
from router.bench.contenders import always, by_feature, family_oracle, task_oracle
from router.bench.evaluation import Compared
from router.bench.report import Report, _not_beaten, make_report
from router.cli import main
from tests.router.bench.matrices import known_matrix

pytest.importorskip("matplotlib")

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def report() -> Report:
    contenders = (
        by_feature("leave-one-out likelihood", "loo_nll_mean", 1.0),
        by_feature("size of the task", "prompt_tokens", 1.0),
        always("icl"),
        always("ttt"),
        family_oracle(),
        task_oracle(),
    )
    return make_report(
        known_matrix(60, 1),
        contenders,
        subject="leave-one-out likelihood",
        n_draws=200,
        n_streams=1,
        in_streams=contenders[:2],
    )


def test_what_there_is_to_route_comes_before_any_router(report: Report) -> None:
    headings = re.findall(r"^## (.*)$", report.text, re.MULTILINE)

    assert headings[0] == "What there is to route"
    assert headings[1].startswith("AUROC")
    assert headings[2] == "What leave-one-out likelihood beats"
    assert "n01, only ttt" in report.text


def test_every_plot_is_drawn_and_has_its_place(report: Report) -> None:
    assert [plot.name for plot in report.plots] == ["frontier", "regret", "gain"]
    for plot in report.plots:
        assert plot.png.startswith(PNG)
        assert f"PLOT {plot.name}" in report.text
    assert "PLOT" not in report.markdown("plots")


def test_the_page_of_one_file_fetches_nothing(report: Report) -> None:
    page = report.html()

    assert page.count("data:image/png;base64,") == 3
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}
    assert "<table>" in page
    assert "<script" not in page


def test_without_matplotlib_a_report_is_refused_before_any_outcome_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    assert main(["bench", "report", str(tmp_path / "none.csv")]) == 1
    assert "matplotlib, which draws the plots, is not installed" in capsys.readouterr().err


def test_what_is_not_beaten_is_said_with_what_is_worth_most_of_it() -> None:
    strong, weak = by_feature("strong", "loo_nll_mean", 1.0), by_feature("weak", "prompt_tokens", 1.0)
    matrix = known_matrix(60, 1)

    losing = make_report(matrix, (weak, strong), subject="weak", n_draws=1000, n_streams=0).text
    winning = make_report(matrix, (weak, strong), subject="strong", n_draws=1000, n_streams=0).text

    assert "Not beaten: `strong`" in losing
    assert "Worth most of them at λ = 0.1: `strong`, -" in losing
    assert "Not beaten" not in winning


def test_a_single_arm_that_is_worth_most_is_named_and_then_who_looks_at_the_task() -> None:
    worth = {"always a": 0.3, "policy": 0.2, "other policy": 0.1}
    apgr = Interval(0.0, -1.0, 1.0)
    left = [
        Compared(name, None if name == "always a" else apgr, Interval(-u, -u, -u), 1.0, 1.0)
        for name, u in worth.items()
    ]

    said = _not_beaten("mine", left)

    assert "Worth most of them at λ = 0.1: `always a`" in said
    assert "Of those that look at the task: `policy`" in said


def test_where_the_subject_does_not_learn_splits_are_tried_with_one_that_does() -> None:
    matrix = known_matrix(60, 1)
    fixed = replace(by_feature("as it is", "loo_nll_mean", 1.0), learns=False)
    learner = by_feature("learner", "loo_nll_mean", 1.0)

    contenders = (fixed, learner, always("icl"), always("ttt"), family_oracle(), task_oracle())
    page = make_report(matrix, contenders, subject="as it is", n_draws=100, n_streams=0).text

    assert "## What as it is beats" in page
    assert "The same for `learner`" in page


def test_where_draws_are_too_few_for_any_verdict_that_is_said() -> None:
    strong, weak = by_feature("strong", "loo_nll_mean", 1.0), by_feature("weak", "prompt_tokens", 1.0)

    few, enough = (
        make_report(known_matrix(60, 1), (weak, strong), subject="strong", n_draws=n, n_streams=0).text
        for n in (100, 200)
    )

    assert "100 draws are too few" in few
    assert "Take 160 or more" in few
    assert "too few" not in enough


def test_the_safety_of_a_bound_is_reported_where_a_rule_is_given() -> None:
    subject = by_feature("strong", "loo_nll_mean", 1.0)
    text = make_report(
        known_matrix(60, 1),
        (subject,),
        subject="strong",
        n_draws=200,
        n_streams=0,
        threshold_rule=lambda rate, scores, regretted: -np.inf,
    ).text

    assert "| 0.05 | 100.0% | 0.000 | 0.000 |" in text


def test_one_command_reads_anybodys_outcomes_and_writes_the_same_page_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, page = tmp_path / "log.csv", tmp_path / "docs" / "routing.md"
    write_outcomes(known_matrix(24, 1).of_arms(["icl", "ttt"]), log)
    command = ["bench", "report", str(log), "--out", str(page), "--draws", "100", "--streams", "0"]

    assert main(command) == 0
    first = page.read_bytes(), (page.parent / "routing" / "frontier.png").read_bytes()
    assert main(command) == 0

    assert (page.read_bytes(), (page.parent / "routing" / "frontier.png").read_bytes()) == first
    assert b"](routing/frontier.png)" in first[0]
    assert (page.parent / "routing" / "report.html").exists()
    assert str(page) in capsys.readouterr().out


def test_outcomes_that_nothing_can_be_ranked_by_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text("task,family,seed,arm,quality,cost_s\na,x,0,icl,1,1\na,x,0,ttt,1,1\n")

    assert main(["bench", "report", str(log), "--out", str(tmp_path / "page.md")]) == 3
    assert "Give feature columns" in capsys.readouterr().err
