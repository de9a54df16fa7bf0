"""Tasks, solutions and a script for the tests of the outer edge."""

from __future__ import annotations

from icl_engine.answer import Answer
from icl_engine.task import Task, Value
from icl_engine.voting import Candidate
from router.solution import Cost, Solution


def grid_task(id: str = "flip_1") -> Task:
    return Task.from_pairs([([[1, 2, 0]], [[0, 2, 1]]), ([[3, 0, 0]], [[0, 0, 3]])], [[[4, 5, 0]]], id=id)


def text_task() -> Task:
    return Task.from_pairs([("not True", "False"), ("not False", "True")], "not not True", id="logic_1")


def solution_of(
    task: Task,
    *candidates: Value,
    arm: str = "icl",
    answered_by: str = "",
    reason: str = "2 of 2 demonstrations answered when held out",
    degraded: tuple[str, ...] = (),
) -> Solution:
    """A solution that gives `candidates` to every query."""
    answer = Answer(tuple(Candidate(value, 1, 0.5, -1.0) for value in candidates), confidence=0.75, tokens=40)
    cost = Cost(seconds=0.5, gpu_seconds=0.0, tokens=40)
    answers = (answer,) * len(task.queries)
    return Solution(task, answers, arm, answered_by or arm, 0.95, reason, cost, degraded, f"trace-{task.id}")


def mirrored(task: Task) -> Value | None:
    """The script of a model that has understood one thing: rows are turned round."""
    query = task.query
    return query[::-1] if isinstance(query, str) else tuple(row[::-1] for row in query)
