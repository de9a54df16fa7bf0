"""What is undone after an augmented prompt is an answer to the task itself; a model that has the rule is unanimous."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.answer import MAX_CANDIDATES
from icl_engine.answering import answer_by_vote, answer_in_context, answer_of, answer_zero_shot
from icl_engine.augmentations import TRANSFORMS, views
from icl_engine.language_model import Generation
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Grid, Task, Value
from icl_engine.transformers_model import TransformersModel
from tests.icl_engine.task_strategies import grid_tasks, text_tasks
from tests.models import ANSWERS, GRID_TASK, ROW_TASK, TASKS, TEXT_TASK

SQUARE = Task.from_pairs([([[1, 2], [3, 4]], [[4, 3], [2, 1]]), ([[5, 0], [0, 6]], [[6, 0], [0, 5]])], [[7, 0], [1, 2]])


def half_turned(task: Task) -> Value | None:
    """A rule that looks the same however a grid is turned and coloured."""
    query = task.query
    return query if isinstance(query, str) else TRANSFORMS["rotate180"](query)


def mirrored(task: Task) -> Value | None:
    """A rule that does not: turned by a quarter it is another."""
    query = task.query
    return query if isinstance(query, str) else TRANSFORMS["flip_horizontal"](query)


@given(task=grid_tasks() | text_tasks(), n=st.integers(1, 16), seed=st.integers(0, 9))
def test_a_rule_without_direction_or_colour_is_agreed_on_by_all_views(task: Task, n: int, seed: int) -> None:
    answers = answer_by_vote(ScriptedModel(half_turned), task, n_views=n, seed=seed)

    assert len(answers) == len(task.queries)
    for i, answer in enumerate(answers):
        question = task.for_query(i)
        (candidate,) = answer.candidates

        assert candidate.value == half_turned(question)
        assert candidate.n_votes == len(views(question, n, seed))
        assert (candidate.share, answer.confidence) == (1.0, 1.0)


def test_a_rule_with_a_direction_splits_the_views() -> None:
    (answer,) = answer_by_vote(ScriptedModel(mirrored), SQUARE, n_views=8)

    assert len(answer.candidates) == MAX_CANDIDATES
    assert answer.value == mirrored(SQUARE)
    assert answer.confidence == 0.5  # a mirror image stays one under half of the eight transforms


def test_views_that_give_nothing_count_against_the_confidence() -> None:
    def only_as_it_is(task: Task) -> Value | None:
        return half_turned(task) if task.query == SQUARE.query else None

    (answer,) = answer_by_vote(ScriptedModel(only_as_it_is), SQUARE, n_views=8)

    assert answer.values == (half_turned(SQUARE),)
    assert answer.confidence == 1 / 8
    assert answer.candidates[0].share == 1.0


def test_no_view_no_candidate() -> None:
    (answer,) = answer_by_vote(ScriptedModel(lambda task: None), SQUARE, n_views=4)

    assert answer.candidates == ()
    assert answer.value is None
    assert answer.confidence == 0.0
    assert answer.tokens > 0


def test_one_view_is_answering_in_context(taught: TransformersModel) -> None:
    for task in TASKS:
        (voted,), (plain,) = answer_by_vote(taught, task, n_views=1), answer_in_context(taught, task)

        assert voted.values == plain.values
        assert voted.tokens == plain.tokens


def test_a_view_that_does_not_fit_the_context_is_not_asked() -> None:
    class Narrow(ScriptedModel):
        """Has no room for a grid that is higher than wide."""

        def fits(self, task: Task, answer: Value | None = None) -> bool:
            return not isinstance(task.query, str) and len(task.query) <= len(task.query[0])

    wide = Task.from_pairs([([[1, 2, 3], [4, 5, 6]], [[6, 5, 4], [3, 2, 1]])], [[[1, 1, 2], [3, 0, 0]]])
    model = Narrow(half_turned)
    (answer,) = answer_by_vote(model, wide, n_views=8)

    assert len(model.tasks_seen) == 4
    assert all(model.fits(task) for task in model.tasks_seen)
    assert (answer.value, answer.confidence) == (half_turned(wide), 1.0)


def test_the_same_seed_asks_the_same_prompts_and_another_seed_others() -> None:
    first, again, other = (ScriptedModel(half_turned) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        answer_by_vote(model, GRID_TASK, n_views=8, seed=seed)

    assert first.tasks_seen == again.tasks_seen
    assert first.tasks_seen != other.tasks_seen
    assert first.tasks_seen[0] == GRID_TASK


def test_zero_shot_shows_no_demonstration_and_keeps_the_instruction() -> None:
    model = ScriptedModel(lambda task: task.instruction)
    several = TEXT_TASK.replace(queries=("a", "b"))
    answers = answer_zero_shot(model, several)

    assert [answer.value for answer in answers] == [TEXT_TASK.instruction] * 2
    assert [task.query for task in model.tasks_seen] == ["a", "b"]
    assert all(task.demonstrations == () for task in model.tasks_seen)


def test_a_real_model_can_be_asked_without_demonstrations(taught: TransformersModel) -> None:
    (bare,), (shown,) = answer_zero_shot(taught, TEXT_TASK), answer_in_context(taught, TEXT_TASK)

    assert bare.tokens < shown.tokens


def test_each_query_is_answered_with_all_demonstrations(taught: TransformersModel) -> None:
    several = ROW_TASK.replace(queries=(((1, 1),), ROW_TASK.query))
    answers = answer_in_context(taught, several)

    assert len(answers) == 2
    assert answers[1].value == ANSWERS[0]
    assert answers[1].confidence == pytest.approx(math.exp(answers[1].candidates[0].log_probability))


@pytest.mark.parametrize("value", [None, "x", ((1,),)])
def test_a_greedy_answer_has_its_own_probability_as_confidence(value: Value | None) -> None:
    answer = answer_of(Generation(value, (-0.5, -0.25), prompt_tokens=7, demonstrations=()))
    grid_or_text: Grid | str | None = answer.value

    assert grid_or_text == value
    assert answer.confidence == (0.0 if value is None else pytest.approx(math.exp(-0.75)))
    assert answer.tokens == 9
    assert len(answer.candidates) == (value is not None)
