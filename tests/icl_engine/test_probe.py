"""The probe says what generating and scoring say, of the task alone."""

from __future__ import annotations

import pytest

from icl_engine.leave_one_out import leave_one_out
from icl_engine.probe import Prober, ProbeResult, probe
from icl_engine.scripted_model import ScriptedModel
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
    (in_order,) = model.score([(task, task.query)])
    held_out = [scores[-1] for scores in model.score(list(leave_one_out(task)))]

    assert found.demonstration_nll == pytest.approx([score.nll_per_token for score in in_order[:-1]], abs=1e-3)
    assert found.demonstration_exact == tuple(score.exact for score in in_order[:-1])
    assert found.loo_nll == pytest.approx([score.nll_per_token for score in held_out], abs=1e-3)
    assert found.loo_exact == tuple(score.exact for score in held_out)


def test_the_answer_of_a_probe_is_the_model_s_answer(taught: TransformersModel) -> None:
    for task, value in zip(TASKS, ANSWERS, strict=True):
        found = probe(taught, task)
        (said,) = taught.generate([task])

        assert found.answer.value == said.value == value
        assert found.answer_log_probability == pytest.approx(said.log_probability)
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
