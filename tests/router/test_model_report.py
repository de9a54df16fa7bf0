"""The report counts what either way solves, gains and spoils, and touches nothing but its own tables."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from icl_engine.errors import UnreadableTaskFile
from icl_engine.task import LabelledTask, Task
from icl_engine.transformers_model import EMBEDDED_WEIGHTS
from router.model_eval import Result, TaskSet
from router.model_report import BEGIN, END, card, interval, pairs_of, report, wilson, write_between_marks

ROOT = Path(__file__).resolve().parents[2]


def result(task_id: str, arm: str, right: bool, *, set: str = "1d-arc", query: int = 0, seconds: float = 1.0) -> Result:
    shots = 2 if set == "bbh" else None
    return Result("model", "settings", set, task_id, query, arm, right, right, seconds, 1, (), shots=shots)


def both(task_id: str, icl: bool, ttt: bool, *, set: str = "1d-arc", query: int = 0) -> list[Result]:
    return [result(task_id, "icl", icl, set=set, query=query), result(task_id, "ttt", ttt, set=set, query=query)]


def rows_of(text: str, first: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_gained_and_spoilt_tasks_are_counted_and_their_shares() -> None:
    results = [
        *both("a_1", True, True),
        *both("a_2", False, True),
        *both("b_1", False, True),
        *both("b_2", True, False),
        *both("b_3", False, False),
    ]

    text = report(results, [TaskSet("1d-arc", (), 5, 8)])

    cells = rows_of(text, "1d-arc")
    assert cells[1:3] == ["5 of 8", "5"]
    assert cells[3].startswith("2, 40.0%")
    assert cells[4].startswith("3, 60.0%")
    assert cells[5:8] == ["1.50", "2 (0.40)", "1 (0.20)"]
    assert rows_of(text, "b") == ["b", "3", "1", "1"]


def test_a_task_is_whole_where_all_its_queries_are_right() -> None:
    results = [
        *both("x1", True, True, set="concept-arc"),
        *both("x1", False, True, set="concept-arc", query=1),
        *both("x2", True, False, set="concept-arc"),
    ]

    cells = rows_of(report(results, []), "concept-arc")

    assert cells[-2:] == ["1 of 2", "1 of 2"]


def test_a_text_file_is_compared_with_its_commonest_answer() -> None:
    task = Task.from_pairs([("a", "A"), ("b", "B")], ["p", "q", "r"], id="letters")
    labelled = LabelledTask(task, ("P", "P", "Q"))
    trained = [True, True, True]
    results = [r for i, right in enumerate(trained) for r in both("letters", False, right, set="bbh", query=i)]

    cells = rows_of(report(results, [TaskSet("bbh", (labelled,), 1, 1)]), "letters")

    assert cells == ["letters", "2", "3", "2", "0", "**3**", "3"]


def test_the_commonest_answer_is_that_of_the_queries_that_were_answered() -> None:
    task = Task.from_pairs([("a", "A"), ("b", "B")], ["p", "q", "r", "s"], id="letters")
    labelled = LabelledTask(task, ("P", "Q", "Q", "Q"))
    few = [r for i in range(2) for r in both("letters", False, True, set="bbh", query=i)]
    more = [r for i in range(6) for r in both("letters", False, True, set="bbh", query=i)]
    sets = [TaskSet("bbh", (labelled,), 1, 1)]

    assert rows_of(report(few, sets), "letters")[2:4] == ["2", "1"]
    assert rows_of(report(more, sets), "letters")[2:4] == ["4", "3"]


def test_seconds_are_of_tasks_and_not_of_their_queries() -> None:
    long = [result("x", "ttt", True, query=i, seconds=9.0) for i in range(5)]
    short = [result(task_id, "ttt", True, seconds=1.0) for task_id in "yz"]

    assert "| 1d-arc | ttt | 3 | 1.00 | 9.00 |" in report([*long, *short], []).splitlines()


def test_an_interval_is_wilsons_of_single_queries_and_of_tasks_drawn_anew_otherwise() -> None:
    single = pairs_of([each for i in range(20) for each in both(f"a{i}", i % 2 == 0, True)])
    alike = pairs_of([each for i in range(20) for q in range(9) for each in both(f"a{i}", i % 2 == 0, True, query=q)])

    assert interval(single, "icl") == wilson(10, 20)
    assert interval(alike, "icl") == pytest.approx(wilson(10, 20), abs=0.04)  # not that of 180 queries
    assert interval(alike, "ttt") == wilson(20, 20)


def test_the_report_names_the_commits_that_are_known() -> None:
    old, new = both("a", True, True), [replace(each, commit="abc1234") for each in both("b", True, True)]

    assert "commit abc1234." in report([*old, *new], [])
    assert "commit" not in report(old, [])


def test_of_several_runs_of_one_query_the_last_counts() -> None:
    (pair,) = pairs_of([*both("a", False, False), result("a", "ttt", True)])

    assert pair.ttt.right
    assert not pair.icl.right


def test_a_query_that_one_arm_has_not_answered_is_left_out() -> None:
    assert pairs_of([result("a", "icl", True), result("b", "ttt", True)]) == []


def test_an_arm_of_another_name_and_one_that_stands_alone_are_counted_by_themselves() -> None:
    paired = [*both("a", False, True), replace(result("a", "ttt_short", True), right_first=False)]
    alone = [result("x", "ttt", True, set="concept-arc"), result("y", "ttt", False, set="concept-arc")]

    text = report([*paired, *alone], [])

    assert "| 1d-arc | ttt_short | 1 | 1 | 0 |" in text
    assert "| concept-arc | ttt | 2 | 1 | 1 |" in text
    assert "| 1d-arc | ttt | 1 | 1 | 1 |" not in text  # which stands among the pairs


def test_of_a_text_file_only_those_count_that_saw_as_many_demonstrations() -> None:
    task = Task.from_pairs([("a", "A"), ("b", "B")], ["p", "q"], id="letters")
    sets = [TaskSet("bbh", (LabelledTask(task, ("P", "P")),), 1, 1)]
    two = [replace(each, shots=2) for each in both("letters", False, True, set="bbh")]
    ten = [replace(each, shots=10) for each in both("letters", True, True, set="bbh", query=1)]

    assert rows_of(report([*two, *ten], sets), "letters") == ["letters", "2", "1", "1", "0", "1", "1"]


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(40, 100)  # textbook value

    assert (low, high) == pytest.approx((0.3094, 0.4980), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-12)


def test_only_what_stands_between_the_marks_is_written(tmp_path: Path) -> None:
    document = tmp_path / "model.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write_between_marks(document, "new")
    write_between_marks(document, "newer")

    assert document.read_text() == f"before\n{BEGIN}\nnewer\n{END}\nafter\n"


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "model.md"
    document.write_text("words")

    with pytest.raises(UnreadableTaskFile, match="results: begin"):
        write_between_marks(document, "new")
    assert document.read_text() == "words"


def test_the_shipped_weights_are_those_that_the_card_names() -> None:
    digest = hashlib.sha256((EMBEDDED_WEIGHTS / "model.safetensors").read_bytes()).hexdigest()

    assert digest in (EMBEDDED_WEIGHTS / "README.md").read_text()
    assert digest in card(EMBEDDED_WEIGHTS)


def test_the_packages_fit_in_twelve_megabytes() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for package in ("icl_engine", "policies", "router", "ttt_engine"):
            for path in (ROOT / package).rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    wheel.write(path)

    assert len(packed.getvalue()) <= 12e6
