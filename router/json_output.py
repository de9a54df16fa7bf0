"""What the command prints for machines: one JSON object per query."""

from __future__ import annotations

from collections.abc import Sequence

from icl_engine.answer import Answer
from icl_engine.task import Value
from router.solution import Solution


def json_lines(solution: Solution, solutions: Sequence[Value | None]) -> list[dict[str, object]]:
    """Return one object per query, ready for `json.dumps`.

    Args:
        solutions: What is right, per query; None where it is not known. It adds `correct` (any candidate is right) and
            `correct_first` (the best one is).

    `query`, the index, is there only where the task has several. `cost` is that of the whole task, so it is the same in
    every line of it.
    """
    pairs = zip(solution.answers, solutions, strict=True)
    return [_line(solution, i, answer, known) for i, (answer, known) in enumerate(pairs)]


def _line(solution: Solution, i: int, answer: Answer, known: Value | None) -> dict[str, object]:
    line: dict[str, object] = {"task_id": solution.task.id}
    if len(solution.answers) > 1:
        line["query"] = i
    line |= {
        "answer": answer.value,
        "candidates": list(answer.values),
        "confidence": answer.confidence,
        "arm": solution.arm,
        "propensity": solution.propensity,
        "reason": solution.reason,
        "cost": {
            "seconds": solution.cost.seconds,
            "gpu_seconds": solution.cost.gpu_seconds,
            "tokens": solution.cost.tokens,
        },
        "degraded": list(solution.degraded),
        "trace_id": solution.trace_id,
    }
    if known is not None:
        line |= {"correct": known in answer.values, "correct_first": known == answer.value}
    return line
