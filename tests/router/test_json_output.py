"""What the command prints for machines."""

from __future__ import annotations

import json

import pytest

from icl_engine.task import Task
from router.json_output import json_lines
from tests.router.fakes import grid_task, solution_of, text_task

ROW = ((0, 5, 4),)
OTHER = ((9, 9, 9),)


def test_a_line_has_every_word_of_the_interface() -> None:
    (line,) = json_lines(solution_of(text_task(), "True", "False", degraded=("no store",)), ["True"])

    assert line == {
        "task_id": "logic_1",
        "answer": "True",
        "candidates": ["True", "False"],
        "confidence": 0.75,
        "arm": "icl",
        "propensity": 0.95,
        "reason": "2 of 2 demonstrations answered when held out",
        "cost": {"seconds": 0.5, "gpu_seconds": 0.0, "tokens": 40},
        "degraded": ["no store"],
        "trace_id": "trace-logic_1",
        "correct": True,
        "correct_first": True,
    }


def test_grids_come_back_from_json_as_lists_of_rows() -> None:
    (line,) = json_lines(solution_of(grid_task(), ROW), [None])

    assert json.loads(json.dumps(line))["answer"] == [[0, 5, 4]]


def test_correct_counts_either_candidate_and_correct_first_the_best() -> None:
    (second,) = json_lines(solution_of(grid_task(), OTHER, ROW), [ROW])
    (neither,) = json_lines(solution_of(grid_task(), OTHER), [ROW])

    assert (second["correct"], second["correct_first"]) == (True, False)
    assert (neither["correct"], neither["correct_first"]) == (False, False)


def test_without_a_solution_nothing_is_called_correct() -> None:
    (line,) = json_lines(solution_of(grid_task(), ROW), [None])

    assert "correct" not in line
    assert "correct_first" not in line


def test_no_candidate_is_no_answer() -> None:
    (line,) = json_lines(solution_of(grid_task()), [ROW])

    assert line["answer"] is None
    assert line["candidates"] == []
    assert line["correct"] is False


def test_the_query_is_numbered_only_where_there_are_several() -> None:
    several = Task.from_pairs([("a", "b")], ["c", "d"], id="two")

    assert [line["query"] for line in json_lines(solution_of(several, "x"), [None, "x"])] == [0, 1]
    assert "query" not in json_lines(solution_of(text_task(), "x"), [None])[0]


def test_solutions_that_are_not_one_per_query_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="shorter"):
        json_lines(solution_of(text_task(), "x"), [])
