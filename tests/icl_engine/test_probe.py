"""The probe says what generating and scoring say, of the task alone."""

from __future__ import annotations

import pytest

from icl_engine.answering import answer_by_vote
from icl_engine.augmentations import views
from icl_engine.inference_settings import InferenceSettings
from icl_engine.leave_one_out import leave_one_out
from icl_engine.probe import Prober, ProbeResult, ViewsRequest, probe
from icl_engine.scripted_model import ScriptedModel
from icl_engine.signals import N_HIDDEN
from icl_engine.task import LabelledTask, Task, Value
from icl_engine.transformers_model import TransformersModel
from tests.models import ANSWERS, GRID_TASK, ROW_TASK, TASKS, TEXT_TASK

UPPER = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "c")], ["d", "e"])


def upper(task: Task) -> Value | None:
    assert isinstance(task.query, str)
    return task.query.upper()


def values_in(task: Task) -> list[Value]:
    return [value for shown in task.demonstrations for value in (shown.input, shown.output)] + list(task.queries)


@pytest.mark.parametrize("name", ["tiny", "taught"])
@pytest.mark.parametrize("task", TASKS, ids=["row", "grid", "text"])
def test_a_probe_scores_each_demonstration_as_the_model_does(
    request: pytest.FixtureRequest, name: str, task: Task
) -> None:
    model: TransformersModel = request.getfixturevalue(name)
    found = probe(model, task)
    in_order = model.score(
        [
            (task.replace(demonstrations=task.demonstrations[:i], queries=(shown.input,)), shown.output)
            for i, shown in enumerate(task.demonstrations)
        ]
    )
    held_out = model.score(list(leave_one_out(task)))

    assert found.demonstration_nll == pytest.approx([score.nll_per_token for score in in_order], abs=1e-3)
    assert found.demonstration_exact == tuple(score.exact for score in in_order)
    assert found.loo_nll == pytest.approx([score.nll_per_token for score in held_out], abs=1e-3)
    assert found.loo_exact == tuple(score.exact for score in held_out)


def test_the_answer_of_a_probe_is_the_model_s_answer(taught: TransformersModel) -> None:
    for task, value in zip(TASKS, ANSWERS, strict=True):
        found = probe(taught, task)
        (said,) = taught.generate([task])

        assert found.answer.value == said.value == value
        assert found.answer_log_probability == pytest.approx(said.log_probability, abs=1e-5)
        assert found.answer_tokens == len(said.token_log_probabilities)
        assert found.prompt_tokens == len(taught.encode(task).ids)


@pytest.mark.parametrize("task", [ROW_TASK, TEXT_TASK])
def test_one_demonstration_cannot_be_held_out(tiny: TransformersModel, task: Task) -> None:
    single = task.replace(demonstrations=task.demonstrations[:1])

    for found in (probe(tiny, single), probe(ScriptedModel(lambda task: task.query), single)):
        assert found.loo_nll == found.loo_exact == ()
        assert len(found.demonstration_nll) == 1


def test_every_query_is_answered_and_the_demonstrations_are_scored_once() -> None:
    found = probe(ScriptedModel(upper), UPPER)

    assert [answer.value for answer in found.answers] == ["D", "E"]
    assert found.answer is found.answers[0]
    assert len(found.demonstration_exact) == len(found.loo_exact) == 3
    assert found.answer_log_probability == pytest.approx(2 * found.answers[0].candidates[0].log_probability)


def test_leave_one_out_is_right_where_the_script_is() -> None:
    found = probe(ScriptedModel(upper), UPPER)

    assert found.loo_exact == (True, True, False)
    assert found.demonstration_exact == (False, True, False)  # nothing is shown before the first
    assert found.loo_nll[2] > found.loo_nll[1]


def test_a_model_without_an_answer_leaves_no_candidate_and_no_confidence() -> None:
    found = probe(ScriptedModel(lambda task: None), GRID_TASK)

    assert found.answer.value is None
    assert found.answer.confidence == 0.0
    assert found.loo_exact == (False, False)


def test_no_solution_reaches_the_model() -> None:
    solution: Value = "the solution"
    labelled = LabelledTask.parse(UPPER, [solution, solution])
    model = ScriptedModel(upper)
    probe(model, labelled.task)

    assert model.tasks_seen
    assert not any(solution in values_in(task) for task in model.tasks_seen)


def test_demonstrations_that_were_just_scored_are_not_scored_again() -> None:
    model = ScriptedModel(upper)
    prober = Prober(model)
    first, seen = prober.probe(UPPER), len(model.tasks_seen)
    other_query = prober.probe(UPPER.replace(queries=("z",)))

    assert (first.n_prompts, other_query.n_prompts) == (5, 1)
    assert len(model.tasks_seen) == seen + 1
    assert (other_query.loo_nll, other_query.loo_exact) == (first.loo_nll, first.loo_exact)
    assert other_query.tokens == other_query.answer.tokens


def test_other_demonstrations_another_instruction_and_those_long_forgotten_are_scored() -> None:
    prober = Prober(ScriptedModel(upper), n_remembered=1)
    prober.probe(UPPER)
    others = [
        UPPER.replace(demonstrations=UPPER.demonstrations[::-1]),
        UPPER.model_copy(update={"instruction": "Shout."}),
    ]

    for task in (*others, UPPER):
        assert prober.probe(task).n_prompts == 5
    assert prober.probe(UPPER).n_prompts == 2


def test_the_tokens_of_a_probe_are_those_read_and_written() -> None:
    found: ProbeResult = probe(ScriptedModel(upper), UPPER)

    assert found.tokens == 2 * found.prompt_tokens + found.answer_tokens + 3 * found.prompt_tokens


@pytest.mark.parametrize("name", ["tiny", "taught"])
def test_what_is_held_out_later_is_what_is_held_out_at_once(request: pytest.FixtureRequest, name: str) -> None:
    prober = Prober(request.getfixturevalue(name), n_remembered=0)
    at_once = [prober.probe(task) for task in TASKS]
    first = [prober.probe(task, held_out=False) for task in TASKS]
    later = prober.hold_out(list(zip(TASKS, first, strict=True)))

    for task, one, before, other in zip(TASKS, at_once, first, later, strict=True):
        assert before.loo_nll == before.loo_exact == ()
        assert before.n_prompts == 1
        assert other.loo_nll == pytest.approx(one.loo_nll, abs=1e-3)
        assert (other.loo_exact, other.n_prompts) == (one.loo_exact, 1 + len(task.demonstrations))
        assert [answer.values for answer in other.answers] == [answer.values for answer in one.answers]
        assert other.seconds > before.seconds == before.prompt_s == other.prompt_s


def test_a_prompt_takes_its_share_of_those_that_are_asked_together() -> None:
    found = Prober(ScriptedModel(upper), n_views=2).probe(UPPER, held_out=False)

    assert found.prompt_s == pytest.approx(found.seconds / 6)  # two queries, each as it is and in two views


# Signs besides


def in_order_only(task: Task) -> Value | None:
    """A model that understands the demonstrations in their order, and in no other."""
    return "yes" if [shown.input for shown in task.demonstrations][:1] == ["a"] else "no"


def test_what_is_found_alone_is_found_together(tiny: TransformersModel) -> None:
    tasks = [*TASKS, ROW_TASK.replace(queries=(ROW_TASK.query, ((1, 1),)))]
    together = Prober(tiny, n_views=2).probe_together(tasks)

    for task, other in zip(tasks, together, strict=True):
        alone = Prober(tiny, n_views=2).probe(task)
        assert other is not None
        assert other.answer_entropy == pytest.approx(alone.answer_entropy, abs=1e-3)
        assert other.answer_margin == pytest.approx(alone.answer_margin, abs=1e-2)
        assert other.answer_least_margin == pytest.approx(alone.answer_least_margin, abs=1e-2)
        assert other.demonstration_nll == pytest.approx(alone.demonstration_nll, abs=1e-3)
        assert other.loo_nll == pytest.approx(alone.loo_nll, abs=1e-3)
        assert other.hidden == pytest.approx(alone.hidden, abs=1e-3)
        assert other.vote_agreement == alone.vote_agreement
        assert [answer.values for answer in other.answers] == [answer.values for answer in alone.answers]


def test_entropy_and_margin_come_with_the_answer(taught: TransformersModel) -> None:
    for task in TASKS:
        found = probe(taught, task)

        assert found.answer_entropy is not None
        assert found.answer_margin is not None
        assert found.answer_least_margin is not None
        assert 0.0 <= found.answer_entropy < 0.5  # it knows the answer by heart
        assert 0.0 <= found.answer_least_margin <= found.answer_margin


def test_a_hidden_state_is_told_of_text_alone(tiny: TransformersModel) -> None:
    assert [len(probe(tiny, task).hidden) for task in TASKS] == [0, 0, N_HIDDEN]


def test_views_are_asked_where_they_are_wanted_and_not_else() -> None:
    assert probe(ScriptedModel(upper), UPPER).vote_agreement is None
    assert Prober(ScriptedModel(upper), n_views=2).probe(UPPER).vote_agreement == 1.0
    assert Prober(ScriptedModel(in_order_only), n_views=5).probe(UPPER).vote_agreement == pytest.approx(0.2)


def test_views_asked_later_are_those_asked_at_once() -> None:
    at_once = Prober(ScriptedModel(upper), n_views=3).probe(UPPER, seed=5)
    prober = Prober(ScriptedModel(upper))
    first = prober.probe(UPPER, seed=5)
    (later,) = prober.ask_views([ViewsRequest(UPPER, first, 3, seed=5)])

    assert [each.views for each in later.asked] == [views(UPPER, 4, 5)] * 2
    assert [each.greedy_values for each in later.asked] == [each.greedy_values for each in at_once.asked]
    assert (later.n_prompts, later.tokens) == (at_once.n_prompts, at_once.tokens)
    assert later.answers == first.answers


def test_views_that_were_asked_are_not_asked_again() -> None:
    model = ScriptedModel(upper)
    prober = Prober(model)
    found = prober.probe(UPPER)
    (some,) = prober.ask_views([ViewsRequest(UPPER, found, 2)])
    seen = len(model.tasks_seen)
    (more,) = prober.ask_views([ViewsRequest(UPPER, some, 3)])

    assert len(model.tasks_seen) == seen + 2  # one view more of each of the two queries
    assert more.n_prompts == some.n_prompts + 2


def test_several_tasks_are_asked_at_once_and_each_gets_its_own() -> None:
    prober = Prober(ScriptedModel(upper))
    tasks = [UPPER, UPPER.replace(queries=("x",))]
    requests = [ViewsRequest(task, prober.probe(task), 2) for task in tasks]
    found = prober.ask_views(requests)

    assert [[asked.greedy_values for asked in each.asked] for each in found] == [[("D",) * 3, ("E",) * 3], [("X",) * 3]]


def test_the_scores_that_are_remembered_are_those_used_last() -> None:
    model = ScriptedModel(upper)
    prober = Prober(model, n_remembered=2)
    first, second, third = (UPPER.replace(demonstrations=UPPER.demonstrations[i:] * 2) for i in range(3))
    for task in (first, second, first, third):
        prober.probe(task)

    assert prober.probe(first).n_prompts == len(first.queries)
    assert prober.probe(second).n_prompts == len(second.queries) + len(second.demonstrations)


@pytest.mark.parametrize("task", TASKS, ids=["row", "grid", "text"])
@pytest.mark.parametrize("vote", ["hierarchical", "flat", "scored"])
def test_a_vote_that_goes_on_from_the_probe_ends_as_one_of_its_own(
    taught: TransformersModel, task: Task, vote: str
) -> None:
    settings = InferenceSettings(n_views=4, vote=vote)  # type: ignore[arg-type]
    found = Prober(taught, n_views=2).probe(task)
    (own,) = answer_by_vote(taught, task, settings=settings)
    (going_on,) = answer_by_vote(taught, task, settings=settings, known=found.asked)

    assert going_on.values == own.values
    assert going_on.confidence == own.confidence
    assert [c.n_votes for c in going_on.candidates] == [c.n_votes for c in own.candidates]
    assert going_on.tokens < own.tokens


def test_a_vote_asks_only_what_the_probe_has_not() -> None:
    model = ScriptedModel(upper)
    found = Prober(model, n_views=2).probe(UPPER)
    seen = len(model.tasks_seen)
    answer_by_vote(model, UPPER, n_views=5, known=found.asked)

    assert len(model.tasks_seen) == seen + 2 * 2  # of five views three are known, for each of two queries
