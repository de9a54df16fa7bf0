"""Leave-one-out tasks: each demonstration in turn becomes the query. Knows nothing of prompts or models.

Leave-two-out tasks show one demonstration fewer beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from icl_engine.errors import TooFewDemonstrations
from icl_engine.task import Task, Value


def leave_one_out(task: Task) -> Iterator[tuple[Task, Value]]:
    """Yield n `(task, target)` pairs from n demonstrations, in order; `target` is the held-out output.

    Each task keeps the id and the instruction of the one it comes from.

    Raises:
        TooFewDemonstrations: `task` has fewer than two; raised by the call, before anything is yielded.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), leave-one-out in-context tasks.
    """
    if len(task.demonstrations) < 2:
        raise TooFewDemonstrations(
            f"got {len(task.demonstrations)}",
            field="demonstrations",
            remedy="Give at least two: one is held out and the rest must show the rule.",
            task_id=task.id,
        )
    return _held_out(task)


def leave_two_out(task: Task) -> Iterator[tuple[Task, Value]]:
    """Yield n (n - 1) `(task, target)` pairs from n demonstrations: one is held out, and one further is not shown.

    Each held-out demonstration comes with every other one left away, in order, under the id and the instruction of
    `task`.

    Raises:
        TooFewDemonstrations: `task` has fewer than three; raised by the call, before anything is yielded.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), leave-n-out tasks of the published code, n = 2.
    """
    if len(task.demonstrations) < 3:
        raise TooFewDemonstrations(
            f"got {len(task.demonstrations)}",
            field="demonstrations",
            remedy="Give at least three: two are left out and the rest must show the rule.",
            task_id=task.id,
        )
    return _two_held_out(task)


def _held_out(task: Task) -> Iterator[tuple[Task, Value]]:
    for i, held_out in enumerate(task.demonstrations):
        rest = task.demonstrations[:i] + task.demonstrations[i + 1 :]
        yield task.replace(demonstrations=rest, queries=(held_out.input,)), held_out.output


def _two_held_out(task: Task) -> Iterator[tuple[Task, Value]]:
    for left_out, answer in _held_out(task):
        shown = left_out.demonstrations
        for i in range(len(shown)):
            yield left_out.replace(demonstrations=shown[:i] + shown[i + 1 :]), answer
