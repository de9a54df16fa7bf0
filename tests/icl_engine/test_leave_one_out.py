"""Each demonstration is held out once, or once with each other one, in order, and never shown beside itself."""

from __future__ import annotations

import pytest
from hypothesis import assume, given

from icl_engine.errors import TooFewDemonstrations
from icl_engine.leave_one_out import leave_one_out, leave_two_out
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


@given(task=grid_tasks() | text_tasks())
def test_two_left_out_are_every_demonstration_with_every_other(task: Task) -> None:
    n = len(task.demonstrations)
    assume(n >= 3)

    two_out = list(leave_two_out(task))

    assert len(two_out) == n * (n - 1)
    assert two_out == [
        (shorter, answer)
        for one_out, answer in leave_one_out(task)
        for shorter in (
            one_out.replace(demonstrations=one_out.demonstrations[:j] + one_out.demonstrations[j + 1 :])
            for j in range(n - 1)
        )
    ]


def test_two_left_out_of_four_leave_each_pair_of_the_others_shown() -> None:
    task = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")], "e")
    shown = ["".join(str(pair.input) for pair in one.demonstrations) for one, _ in leave_two_out(task)]

    assert shown == ["cd", "bd", "bc", "cd", "ad", "ac", "bd", "ad", "ab", "bc", "ac", "ab"]
    assert "".join(answer for _, answer in leave_two_out(task) if isinstance(answer, str)) == "AAABBBCCCDDD"


def test_two_demonstrations_are_too_few_to_leave_two_out() -> None:
    with pytest.raises(TooFewDemonstrations) as caught:
        leave_two_out(Task.from_pairs([("a", "b"), ("c", "d")], "e", id="mine"))

    assert caught.value.task_id == "mine"
