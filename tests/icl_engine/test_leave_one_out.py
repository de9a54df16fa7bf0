"""Each demonstration is held out once, in order, and never shown beside itself."""

from __future__ import annotations

import pytest
from hypothesis import assume, given

from icl_engine.errors import TooFewDemonstrations
from icl_engine.leave_one_out import leave_one_out
from icl_engine.task import Task
from tests.icl_engine.task_strategies import grid_tasks, text_tasks


@given(task=grid_tasks() | text_tasks())
def test_putting_each_held_out_demonstration_back_gives_the_task_again(task: Task) -> None:
    assume(len(task.demonstrations) >= 2)

    held_out = list(leave_one_out(task))

    assert [(one.query, target) for one, target in held_out] == [(d.input, d.output) for d in task.demonstrations]
    for i, (one, _) in enumerate(held_out):
        shown = list(one.demonstrations)
        shown.insert(i, task.demonstrations[i])
        assert tuple(shown) == task.demonstrations
        assert len(one.queries) == 1


def test_id_and_instruction_stay() -> None:
    task = Task.from_pairs([("a", "b"), ("c", "d")], "e", "Next letter.", id="mine")

    assert [(one.id, one.instruction) for one, _ in leave_one_out(task)] == [("mine", "Next letter.")] * 2


def test_one_demonstration_is_too_few_and_the_call_says_so() -> None:
    with pytest.raises(TooFewDemonstrations) as caught:
        leave_one_out(Task.from_pairs([("a", "b")], "c", id="mine"))

    assert caught.value.task_id == "mine"
