"""Answers score behind a prompt that is read once as they do in a pass of their own, whoever has read it and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import icl_engine.transformers_model
from icl_engine.answering import answer_by_vote, ask_under_views, choose_answer
from icl_engine.errors import OutOfMemory
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import OutputScore, RowAdapters, load_model
from icl_engine.task import Task, Value
from icl_engine.transformers_model import TransformersModel
from tests.models import (
    ANSWERS,
    GRID_TASK,
    ROW_TASK,
    TASKS,
    TEXT_TASK,
    save_tiny_llama,
    save_tiny_mistral,
    save_tiny_qwen,
    tiny_model,
)
from ttt_engine.config import LoraSettings
from ttt_engine.lora import LoraStack

# of each task several answers, of unlike lengths, right ones among them
SEVERAL: list[tuple[Task, Value]] = [
    *((ROW_TASK, answer) for answer in (ANSWERS[0], ((1,),), ((0, 5, 4, 4), (0, 5, 4, 4)))),
    *((GRID_TASK, answer) for answer in (((3,),), ANSWERS[1])),
    *((TEXT_TASK, answer) for answer in ("", ANSWERS[2], "größer als alles")),
]


@pytest.fixture(params=["tiny", "taught", "llama", "qwen", "mistral"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> TransformersModel:
    """The embedded kind, one with a tokenizer and ordinary positions, one whose passes are transformers' own, and one
    that keeps a window of tokens.
    """
    saved: dict[str, Callable[[Path], Path]] = {
        "llama": save_tiny_llama,
        "qwen": save_tiny_qwen,
        "mistral": lambda folder: save_tiny_mistral(folder, sliding_window=16),
    }
    if request.param in saved:
        return load_model(str(saved[request.param](tmp_path)), device="cpu")
    named: TransformersModel = request.getfixturevalue(request.param)
    return named


@pytest.fixture
def read() -> Iterator[Callable[[TransformersModel], list[int]]]:
    """Of a model, tokens that pass through it from now on, padding included, a number for each pass."""

    def watched(model: TransformersModel) -> list[int]:
        seen: list[int] = []
        embedding = model.module.get_input_embeddings()
        handles.append(embedding.register_forward_hook(lambda module, given, out: seen.append(given[0].numel())))
        return seen

    handles: list[Any] = []
    yield watched
    for handle in handles:
        handle.remove()


def alike(score: OutputScore, other: OutputScore) -> bool:
    return score.nll == pytest.approx(other.nll, abs=1e-3, rel=1e-4) and score.n_tokens == other.n_tokens


def all_alike(scores: Sequence[OutputScore], others: Sequence[OutputScore]) -> bool:
    return len(scores) == len(others) and all(map(alike, scores, others))


def alone(model: TransformersModel, answered: Sequence[tuple[Task, Value]]) -> list[OutputScore]:
    return [score for each in answered for score in model.score([each])]


def test_several_answers_to_a_task_score_as_each_does_alone(model: TransformersModel) -> None:
    scores, expected = model.score(SEVERAL), alone(model, SEVERAL)

    assert all_alike(scores, expected)
    assert [score.exact for score in scores] == [score.exact for score in expected]


def test_right_answers_among_several_are_exact(taught: TransformersModel) -> None:
    right = dict(zip(TASKS, ANSWERS, strict=True))

    assert [score.exact for score in taught.score(SEVERAL)] == [answer == right[task] for task, answer in SEVERAL]


def test_a_prompt_that_several_answers_follow_is_read_once(
    tiny: TransformersModel, read: Callable[[TransformersModel], list[int]]
) -> None:
    answered = [each for each in SEVERAL if each[0] is ROW_TASK]
    tokens = read(tiny)
    longest = max(score.n_tokens for score in tiny.score(answered))

    assert tokens == [len(tiny.encode(ROW_TASK).ids), len(answered) * (longest - 1)]


@pytest.mark.parametrize("way", ["generate", "shared demonstrations", "search"])
def test_what_was_answered_is_not_read_again_to_be_scored(
    tiny: TransformersModel, read: Callable[[TransformersModel], list[int]], way: str
) -> None:
    tasks = [TEXT_TASK.replace(queries=(query,)) for query in ("a", "not True")] if way.startswith("shared") else TASKS
    answered = [(task, answer) for task in tasks for answer in (("b", "cde") if task.kind == "text" else ANSWERS[:2])]
    expected = alone(tiny, answered)

    with tiny.reading_in(remembering=True):
        tiny.search(tasks, cut_off=0.3) if way == "search" else tiny.generate(tasks)
        tokens = read(tiny)
        scores = tiny.score(answered)
        n_tokens = sum(tokens)

    assert all_alike(scores, expected)
    assert n_tokens <= len(answered) * max(score.n_tokens for score in scores)
    tiny.score(answered)
    assert sum(tokens) > 2 * n_tokens  # nothing is remembered any longer


def test_what_is_scored_without_having_been_answered_is_read(tiny: TransformersModel) -> None:
    with tiny.reading_in(remembering=True):
        tiny.generate([ROW_TASK])

        assert all_alike(tiny.score(SEVERAL), alone(tiny, SEVERAL))


def test_no_more_is_remembered_than_there_is_room_for(
    tiny: TransformersModel, read: Callable[[TransformersModel], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_row, n_grid = (len(tiny.encode(task).ids) for task in (ROW_TASK, GRID_TASK))
    monkeypatch.setitem(icl_engine.transformers_model._REMEMBERED_TOKENS, "cpu", n_row)
    with tiny.reading_in(remembering=True):
        tiny.generate([ROW_TASK])
        tiny.generate([GRID_TASK])
        tokens = read(tiny)
        tiny.score([(ROW_TASK, ANSWERS[0])])
        tiny.score([(GRID_TASK, ANSWERS[1])])

    assert tokens[0] < n_row
    assert tokens[1] > n_grid


def test_of_a_pass_that_is_too_long_to_be_remembered_the_first_prompts_are(
    tiny: TransformersModel, read: Callable[[TransformersModel], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    width = max(len(tiny.encode(task).ids) for task in TASKS)
    monkeypatch.setitem(icl_engine.transformers_model._REMEMBERED_TOKENS, "cpu", 3 * width - 1)
    answered = list(zip(TASKS, ANSWERS, strict=True))
    expected = alone(tiny, answered)
    with tiny.reading_in(remembering=True):
        tiny.generate(TASKS)
        tokens = read(tiny)
        scores = tiny.score(answered)

    assert all_alike(scores, expected)
    assert [each > width // 2 for each in sorted(tokens)] == [False, True]  # behind two prompts, and one read anew


@pytest.mark.parametrize("limit", ["_BATCH_TOKENS", "_BATCH_LOGITS"])
@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_scores_do_not_depend_on_how_answers_are_batched_and_batches_part_few_prompts(
    tiny: TransformersModel,
    read: Callable[[TransformersModel], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    n_rows: int,
) -> None:
    answers: list[Value] = [((1,) * 9,), ((1,),), ((2, 2, 2),)]
    answered = [(task, answer) for answer in answers for task in (ROW_TASK, GRID_TASK)]  # one task after the other
    expected = tiny.score(answered)
    n_answer = max(score.n_tokens for score in expected)
    longest = max(len(tiny.encode(*each).ids) for each in answered)
    most = n_rows * (longest if limit == "_BATCH_TOKENS" else n_answer * tiny.module.config.vocab_size)
    monkeypatch.setitem(getattr(icl_engine.transformers_model, limit), "cpu", most)
    tokens = read(tiny)

    assert all_alike(tiny.score(answered), expected)
    if n_rows == 3:
        prompts = [len(tiny.encode(task).ids) for task in (ROW_TASK, GRID_TASK)]
        assert sorted(tokens) == sorted([*prompts, 3 * (n_answer - 1), 3 * (n_answer - 1)])


def test_a_block_within_a_block_goes_on_with_what_is_known_and_leaves_it_as_it_was(
    tiny: TransformersModel, read: Callable[[TransformersModel], list[int]]
) -> None:
    with tiny.reading_in(remembering=True):
        tiny.generate([ROW_TASK])
        tokens = read(tiny)
        with tiny.reading_in():
            tiny.score([(ROW_TASK, ANSWERS[0])])
        with tiny.reading_in("bf16", remembering=True):
            tiny.score([(ROW_TASK, ANSWERS[0])])
        with pytest.raises(ZeroDivisionError), tiny.reading_in("bf16"):
            _ = 1 / 0
        tiny.score([(ROW_TASK, ANSWERS[0])])

    n = len(tiny.encode(ROW_TASK).ids)
    assert [each > n for each in tokens] == [False, True, False]


def test_what_is_remembered_is_given_up_where_memory_runs_out(
    tiny: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, forward, n_failing = alone(tiny, SEVERAL), tiny.module.model.forward, 0

    def fails_at_times(*given: Any, **named: Any) -> Any:
        nonlocal n_failing
        n_failing -= 1
        if n_failing >= 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*given, **named)

    monkeypatch.setattr(tiny.module.model, "forward", fails_at_times)
    with tiny.reading_in(remembering=True):
        tiny.generate(TASKS)
        n_failing = 1
        assert all_alike(tiny.score(SEVERAL), expected)
        n_failing = 1
        with pytest.raises(OutOfMemory):  # there is nothing left to be given up
            tiny.score(SEVERAL)
    with tiny.reading_in(remembering=True):
        n_failing = 1
        assert [said.value for said in tiny.generate(TASKS)] == [said.value for said in tiny.generate(TASKS)]


def test_with_a_draft_behind_it_a_prompt_is_not_remembered(tiny: TransformersModel) -> None:
    with tiny.reading_in(remembering=True):
        tiny.generate(TASKS, drafts=ANSWERS)

        assert all_alike(tiny.score(SEVERAL), alone(tiny, SEVERAL))


def test_answers_are_scored_each_with_its_own_adapter() -> None:
    model = tiny_model(sharpness=3.0)
    stack = LoraStack(model, LoraSettings(4, 8.0), 2)
    stack.weights.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    slots = [i % 2 for i in range(len(SEVERAL))]
    expected = []
    with model.lock, stack.active():
        for slot, answered in zip(slots, SEVERAL, strict=True):
            stack.use([slot])
            expected += model.score([answered])
        adapters = RowAdapters(slots, stack.use)
        fresh = model.score(SEVERAL, adapters=adapters)
        with model.reading_in(remembering=True):
            model.generate([*TASKS, *TASKS], adapters=RowAdapters([0, 0, 0, 1, 1, 1], stack.use))
            remembered = model.score(SEVERAL, adapters=adapters)
        stack.use([0])
        others = model.score(SEVERAL)

    assert all_alike(fresh, expected)
    assert all_alike(remembered, expected)
    assert not all_alike(others, expected)


@pytest.mark.parametrize("decode", ["greedy", "search"])
def test_a_vote_by_score_is_one_by_what_was_asked_before_and_reads_no_prompt_twice(
    taught: TransformersModel, read: Callable[[TransformersModel], list[int]], decode: Any
) -> None:
    settings = InferenceSettings(vote="scored", n_views=6, decode=decode, cut_off=0.02)
    tokens, n_split = read(taught), 0
    for task in TASKS:
        (answer,) = answer_by_vote(taught, task, settings=settings)
        n_passes = len(tokens)
        (asked,) = ask_under_views(taught, task, settings)
        n_asking, n_tokens = len(tokens) - n_passes, sum(tokens[n_passes:])
        known = choose_answer(taught, asked, settings)

        assert answer.values == known.values
        assert answer.tokens == known.tokens
        assert [each.log_probability for each in answer.candidates] == pytest.approx(
            [each.log_probability for each in known.candidates], abs=1e-3
        )
        is_split = len({vote.value for vote in asked.votes}) > 1
        n_split += is_split
        assert n_passes - n_asking == is_split  # one pass more than asking takes, behind what was read
        assert len(tokens) - n_passes - n_asking == 2 * is_split  # asked before, they are read once more
        assert sum(tokens[:n_passes]) < n_tokens + sum(tokens[n_passes + n_asking :]) or not is_split
        tokens.clear()
    assert n_split
