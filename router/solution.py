"""What `solve` gives back: an answer per query, the arm that gave it and why, what it cost, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icl_engine.answer import Answer
from icl_engine.task import Task, Value


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent on one task, all its queries together."""

    seconds: float  # wall clock
    gpu_seconds: float  # 0 on a CPU
    tokens: int  # read, written and trained on


@dataclass(frozen=True, slots=True)
class Solution:
    """The outcome of one `solve`. `print(solution)` is readable; a notebook shows the grids."""

    task: Task
    answers: tuple[Answer, ...]  # one per query
    arm: str  # the arm that was decided for
    answered_by: str  # the arm whose answer this is: another one where `degraded` says so
    propensity: float  # probability with which the arm was drawn
    reason: str  # one sentence
    cost: Cost
    degraded: tuple[str, ...]  # what did not go as it should; empty when all did
    trace_id: str

    @property
    def answer(self) -> Value | None:
        """The best answer to the first query."""
        return self.answers[0].value

    def is_correct(self, solutions: Sequence[Value | None]) -> tuple[bool | None, ...]:
        """Say for each query whether any of its candidates is right; None where the solution is not known."""
        return tuple(
            None if known is None else known in answer.values
            for answer, known in zip(self.answers, solutions, strict=True)
        )

    def __str__(self) -> str:
        """Return the solution as plain text, grids as digits."""
        from router.render import as_text  # rich loads with the first solution that is shown

        return as_text(self)

    def _repr_html_(self) -> str:
        from router.render import as_html

        return as_html(self)
