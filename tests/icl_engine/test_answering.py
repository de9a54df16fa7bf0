"""What is undone after an augmented prompt is an answer to the task itself; a model that has the rule is unanimous.

Other views, votes and decodings are other ways to the same; checking drafts is another way to exactly the same.
"""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import settings as testing
from hypothesis import strategies as st

from icl_engine.answer import MAX_CANDIDATES
from icl_engine.answering import (
    Asked,
    answer_all_zero_shot,
    answer_by_vote,
    answer_in_context,
    answer_many_by_vote,
    answer_of,
    answer_zero_shot,
    ask_under_views,
)
from icl_engine.augmentations import TRANSFORMS, views
from icl_engine.errors import OutOfMemory
from icl_engine.families import FAMILIES, sample_task
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import Generation, OutputScore, RowAdapters, load_model
from icl_engine.paper_views import paper_views
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Grid, Task, Value
from icl_engine.transformers_model import TransformersModel
from icl_engine.voting import oracle, vote_flat, vote_hierarchically
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


@given(task=grid_tasks() | text_tasks(), seed=st.integers(0, 9))
def test_under_the_papers_views_a_rule_without_direction_is_agreed_on(task: Task, seed: int) -> None:
    settings = InferenceSettings(views="paper", n_views=99)
    answers = answer_by_vote(ScriptedModel(half_turned), task, seed=seed, settings=settings)

    for i, answer in enumerate(answers):
        assert answer.value == half_turned(task.for_query(i))
        assert answer.candidates[0].n_votes == len(paper_views(task, seed))


class ShortSighted(ScriptedModel):
    """Has room for one demonstration."""

    def fits(self, task: Task, answer: Value | None = None) -> bool:
        return len(task.demonstrations) <= 1


def test_where_no_view_of_the_paper_fits_two_demonstrations_are_left_out_and_at_last_none() -> None:
    paper = InferenceSettings(views="paper")
    three, four = ShortSighted(half_turned), ShortSighted(half_turned)
    answer_by_vote(three, ROW_TASK, settings=paper)
    longer = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations + ROW_TASK.demonstrations[:1])
    answer_by_vote(four, longer, settings=paper)

    assert {len(task.demonstrations) for task in three.tasks_seen} == {1}
    assert four.tasks_seen == [longer]


def test_settings_say_how_many_views_and_a_caller_may_say_otherwise() -> None:
    settings = InferenceSettings(n_views=3)

    for n, model in ((3, ScriptedModel(half_turned)), (5, ScriptedModel(half_turned))):
        answer_by_vote(model, SQUARE, settings=settings, n_views=None if n == 3 else n)

        assert len(model.tasks_seen) == n


@pytest.mark.parametrize("vote", ["hierarchical", "flat"])
def test_the_vote_is_that_of_the_settings(vote: Literal["hierarchical", "flat"]) -> None:
    settings = InferenceSettings(vote=vote)
    (asked,) = ask_under_views(ScriptedModel(mirrored), SQUARE, settings)
    (answer,) = answer_by_vote(ScriptedModel(mirrored), SQUARE, settings=settings)

    expected = (vote_flat if vote == "flat" else vote_hierarchically)(asked.votes)
    assert answer.candidates == expected[:MAX_CANDIDATES]


class Doubtful(ScriptedModel):
    """Says what the script says; when asked to score, holds a half turn for likelier than all else."""

    def score(
        self, answered: Sequence[tuple[Task, Value]], *, adapters: RowAdapters | None = None
    ) -> list[OutputScore]:
        return [OutputScore(1.0 if answer == half_turned(task) else 5.0, 4, False) for task, answer in answered]


def test_a_candidate_that_is_likelier_under_all_views_beats_one_with_more_votes() -> None:
    def rarely_right(task: Task) -> Value | None:
        return half_turned(task) if task.query == SQUARE.query else task.query

    model, settings = Doubtful(rarely_right), InferenceSettings(vote="scored")
    (by_votes,) = answer_by_vote(model, SQUARE)
    (by_score,) = answer_by_vote(model, SQUARE, settings=settings)

    assert by_votes.value == SQUARE.query
    assert by_score.values == (half_turned(SQUARE), SQUARE.query)
    assert [each.log_probability for each in by_score.candidates] == [-1.0, -5.0]
    assert by_score.confidence == 1 / 8
    assert by_score.tokens > by_votes.tokens


def test_candidates_of_several_tasks_are_scored_at_once_each_with_its_task_s_adapter() -> None:
    """Of three tasks with two queries together, the second is answered alike under every view."""
    calls: list[list[tuple[Task, int]]] = []

    class Noting(Doubtful):
        def score(
            self, answered: Sequence[tuple[Task, Value]], *, adapters: RowAdapters | None = None
        ) -> list[OutputScore]:
            assert adapters is not None
            calls.append([(task, slot) for (task, _), slot in zip(answered, adapters.slots, strict=True)])
            return super().score(answered)

    plain = Task.from_pairs([([[1, 2]], [[1, 2]]), ([[3, 1]], [[3, 1]])], [[[4, 4], [4, 4]]])
    longer = SQUARE.replace(queries=(SQUARE.query, ((5, 6), (7, 7))))
    settings = InferenceSettings(vote="scored", n_views=4)
    model = Noting(mirrored)
    tasks, slots = [SQUARE, plain, longer], [2, 0, 1]
    answers = answer_many_by_vote(model, tasks, settings, RowAdapters(slots, lambda rows: None))

    (scored,) = calls
    n_candidates = [len(answer.candidates) for of_task in answers for answer in of_task]
    assert n_candidates[1] == 1
    assert min(n_candidates[0], *n_candidates[2:]) > 1
    assert [slot for _, slot in scored] == [2] * 4 * n_candidates[0] + [1] * 4 * sum(n_candidates[2:])
    alone = [answer_by_vote(Doubtful(mirrored), task, settings=settings) for task in tasks]
    assert answers == alone


def test_a_score_is_the_mean_over_all_views_of_what_the_model_says_of_the_rewritten_candidate(
    taught: TransformersModel,
) -> None:
    settings = InferenceSettings(vote="scored", decode="search", cut_off=0.02, n_views=6)
    for task in TASKS:
        (asked,) = ask_under_views(taught, task, settings)
        (answer,) = answer_by_vote(taught, task, settings=settings)

        for candidate in answer.candidates if len({vote.value for vote in asked.votes}) > 1 else ():
            scores = taught.score([(view.apply(task), view.apply_value(candidate.value)) for view in asked.views])
            mean = -sum(score.nll for score in scores) / len(scores)

            assert candidate.log_probability == pytest.approx(mean, abs=1e-3)
            assert oracle(asked.votes, candidate.value)


def test_no_more_candidates_are_scored_than_the_settings_allow_and_none_where_there_is_none() -> None:
    one = InferenceSettings(vote="scored", n_scored=1)

    (answer,) = answer_by_vote(ScriptedModel(mirrored), SQUARE, settings=one)
    (silent,) = answer_by_vote(ScriptedModel(lambda task: None), SQUARE, settings=one)

    assert len(answer.candidates) == 1
    assert silent.candidates == ()


def test_a_view_votes_for_all_that_search_finds_under_it_and_for_its_greedy_answer(taught: TransformersModel) -> None:
    searching = InferenceSettings(decode="search", cut_off=0.03, n_views=4)
    for task in TASKS:
        (plain,) = ask_under_views(taught, task, InferenceSettings(n_views=4))
        (searched,) = ask_under_views(taught, task, searching)
        (answer,) = answer_by_vote(taught, task, settings=searching)

        assert {vote.value for vote in plain.votes} <= {vote.value for vote in searched.votes}
        assert sum(each.tokens for each in searched.said) >= sum(each.tokens for each in plain.said)
        assert 0 <= answer.confidence <= 1


def assert_same_said(asked: Sequence[Asked], others: Sequence[Asked]) -> None:
    for one, other in zip(asked, others, strict=True):
        for said, same in zip(one.said, other.said, strict=True):
            assert said.greedy.value == same.greedy.value
            assert said.greedy.token_log_probabilities == pytest.approx(same.greedy.token_log_probabilities, abs=1e-4)


@pytest.mark.parametrize("name", ["tiny", "taught"])
@testing(max_examples=8, derandomize=True)  # a tie in the last bit would fall either way
@given(task=grid_tasks() | text_tasks(), n=st.integers(1, 6))
def test_checking_a_draft_gives_what_writing_every_view_gives(
    request: pytest.FixtureRequest, name: str, task: Task, n: int
) -> None:
    model: TransformersModel = request.getfixturevalue(name)
    task = Task.from_pairs([(each.input, each.output) for each in task.demonstrations[:2]], list(task.queries))
    verified = ask_under_views(model, task, InferenceSettings(verify=True, n_views=n))

    assert_same_said(verified, ask_under_views(model, task, InferenceSettings(n_views=n)))


@pytest.mark.parametrize("views", ["symmetries", "paper"])
@pytest.mark.parametrize("name", ["row_shift_around", "list_interleave"])
def test_checking_a_draft_gives_what_writing_every_view_gives_with_the_shipped_model(
    name: str, views: Literal["symmetries", "paper"]
) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    *shown, (query, _) = sample_task(Random(f"verify/{name}"), family, 4)
    task, model = Task.from_pairs(shown, query), load_model(device="cpu")
    verified = ask_under_views(model, task, InferenceSettings(views=views, n_views=4, verify=True))

    assert_same_said(verified, ask_under_views(model, task, InferenceSettings(views=views, n_views=4)))


@pytest.mark.parametrize("wrong", [{"n_views": -1}, {"cut_off": 0.0}, {"cut_off": 1.5}, {"n_scored": 0}])
def test_a_number_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InferenceSettings(**wrong)  # type: ignore[arg-type]


def test_an_error_that_is_handed_on_holds_nothing_of_the_pass_that_failed() -> None:
    held: list[weakref.ref[Task]] = []

    def fail(task: Task) -> Value | None:
        copy = task.replace(queries=("a copy",))
        held.append(weakref.ref(copy))
        raise OutOfMemory("full")

    gc.disable()
    try:
        (error,) = answer_all_zero_shot(ScriptedModel(fail), [TEXT_TASK])
    finally:
        gc.enable()

    assert isinstance(error, OutOfMemory)
    assert [reference() for reference in held] == [None]
