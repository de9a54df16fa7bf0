"""What is written can be read back, and the grammar lets through every value of a task's kind and nothing else."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.decoding import Constraint
from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.embedded.vocabulary import (
    BYTE_0,
    END,
    INPUT,
    INSTRUCTION,
    OUTPUT,
    PAD,
    PIECE_0,
    ROW_END,
    START,
    VOCABULARY_SIZE,
    is_in_sentences,
    text_of,
    value_ids,
)
from icl_engine.task import Limits, Task, Value
from icl_engine.values import checked_value
from tests.icl_engine.task_strategies import grid_tasks, grids, sentence_tasks, sentences, text_tasks, texts
from tests.models import GRID_TASK, TEXT_TASK, tiny_model

ENCODING = EmbeddedEncoding()
CPU = torch.device("cpu")
SENTENCES = Task.from_pairs(
    [("not ( True ) and True is", "False"), ("the end of the line is (", "near by")], "How many of these are there ?"
)
SIDE, LINE = Limits().side, Limits().line


def may_write(task: Task, ids: list[int]) -> bool:
    """Say whether the grammar of `task` lets `ids` through, token after token."""
    grammar = ENCODING.constraint([task], CPU)
    for token in ids:
        if not grammar.allowed()[0, token]:
            return False
        grammar.chose([token])
    return True


def written_at_random(grammar: Constraint, rng: random.Random, n_tokens: int) -> list[int] | None:
    """Follow the grammar by chance; None where it does not come to an end."""
    ids: list[int] = []
    while len(ids) < n_tokens:
        allowed = grammar.allowed()[0].nonzero()[:, 0].tolist()
        token = END if END in allowed and rng.random() < 0.3 else rng.choice(allowed)
        if token == END:
            return ids
        ids.append(token)
        grammar.chose([token])
    return None


@given(task=grid_tasks() | text_tasks() | sentence_tasks(), instruction=texts() | st.none())
def test_every_output_can_be_read_back_from_its_span(task: Task, instruction: str | None) -> None:
    task = task.model_copy(update={"instruction": instruction})
    answer = task.queries[-1]
    encoded = ENCODING.encode(task, answer)
    outputs = [*(shown.output for shown in task.demonstrations), answer]

    assert len(encoded.outputs) == len(outputs)
    for (start, stop), output in zip(encoded.outputs, outputs, strict=True):
        assert encoded.ids[start - 1] == OUTPUT
        assert encoded.ids[stop - 1] == END
        assert ENCODING.decode(task, encoded.ids[start : stop - 1]) == output


@given(task=text_tasks() | sentence_tasks(), instruction=texts())
def test_the_whole_task_can_be_read_back(task: Task, instruction: str) -> None:
    task = task.model_copy(update={"instruction": instruction})
    ids = ENCODING.encode(task).ids
    marks = [i for i, token in enumerate(ids) if token in (INSTRUCTION, INPUT, OUTPUT)]
    pieces = [ids[start + 1 : stop] for start, stop in zip(marks, [*marks[1:], len(ids)], strict=True)]
    pairs = [text for shown in task.demonstrations for text in (shown.input, shown.output)]

    in_words = is_in_sentences([str(shown.input) for shown in task.demonstrations])
    texts_read = [text_of([token for token in piece if token != END], in_words=in_words) for piece in pieces]

    assert ids[0] == START
    assert texts_read == [instruction, *pairs, task.query, None]


@given(task=grid_tasks() | text_tasks())
def test_an_answer_follows_the_prompt_and_changes_nothing_before_it(task: Task) -> None:
    prompt, answered = ENCODING.encode(task), ENCODING.encode(task, task.query)

    assert answered.ids == (*prompt.ids, *value_ids(task.query), END)
    assert answered.outputs[:-1] == prompt.outputs
    assert prompt.ids[-1] == OUTPUT


@given(text=sentences() | texts())
def test_a_text_written_in_words_can_be_read_back(text: str) -> None:
    assert text_of(value_ids(text, in_words=True), in_words=True) == text


def test_a_common_word_is_one_token_with_the_space_before_it() -> None:
    sentence, letters = ENCODING.encode(SENTENCES).ids, ENCODING.encode(TEXT_TASK).ids

    assert value_ids("not True", in_words=True) == value_ids("the not True", in_words=True)[1:]
    assert len(value_ids("not ( True )", in_words=True)) == 4
    assert any(token >= PIECE_0 for token in sentence)
    assert all(token < PIECE_0 for token in letters)


def test_a_task_is_written_as_its_demonstrations_ask_for_whatever_the_query() -> None:
    short, long = SENTENCES.replace(queries=("ok",)), TEXT_TASK.replace(queries=(SENTENCES.query,))

    assert (
        ENCODING.encode(short).ids[: ENCODING.encode(short).query_start]
        == (ENCODING.encode(SENTENCES).ids[: ENCODING.encode(SENTENCES).query_start])
    )
    assert all(token < PIECE_0 for token in ENCODING.encode(long).ids)


def test_words_may_be_written_in_a_task_in_sentences_alone() -> None:
    answer = [*value_ids("not true", in_words=True), END]

    assert may_write(SENTENCES, answer)
    assert not may_write(TEXT_TASK, answer)


def test_further_queries_play_no_part() -> None:
    several = GRID_TASK.replace(queries=(GRID_TASK.query, ((1,),)))

    assert ENCODING.encode(several) == ENCODING.encode(GRID_TASK)


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [1, 2],  # the row is open
        [ROW_END],
        [1, ROW_END, ROW_END],
        [1, 2, ROW_END, 1, ROW_END],  # ragged
        [1, PAD, ROW_END],
        [BYTE_0 + ord("1"), ROW_END],
    ],
)
def test_what_forms_no_grid_is_no_grid(ids: list[int]) -> None:
    assert ENCODING.decode(GRID_TASK, ids) is None


@pytest.mark.parametrize("ids", [[], [BYTE_0 + 0xFF], [BYTE_0 + 0xC3], [BYTE_0 + 65, OUTPUT], [7]])
def test_what_forms_no_text_is_no_text(ids: list[int]) -> None:
    assert ENCODING.decode(TEXT_TASK, ids) is None


@given(seed=st.integers(0, 10**6))
def test_whatever_the_grammar_lets_through_is_a_grid_within_the_limits(seed: int) -> None:
    ids = written_at_random(ENCODING.constraint([GRID_TASK], CPU), random.Random(seed), n_tokens=400)

    if ids is not None:
        value = ENCODING.decode(GRID_TASK, ids)

        assert value is not None
        assert checked_value(value, "answer") == value


@pytest.mark.parametrize(
    ("n_rows", "n_columns"), [(1, LINE), (LINE, 1), (SIDE, SIDE), (2, SIDE), (SIDE, 2), (1, SIDE + 1), (SIDE + 1, 1)]
)
def test_the_grammar_lets_through_grids_of_every_size_within_the_limits(n_rows: int, n_columns: int) -> None:
    grid = ((3,) * n_columns,) * n_rows

    assert may_write(GRID_TASK, [*value_ids(grid), END])


@pytest.mark.parametrize(
    ("n_rows", "n_columns"), [(1, LINE + 1), (LINE + 1, 1), (SIDE + 1, 2), (2, SIDE + 1), (SIDE + 1, SIDE)]
)
def test_the_grammar_lets_through_no_grid_beyond_the_limits(n_rows: int, n_columns: int) -> None:
    grid = ((3,) * n_columns,) * n_rows

    assert not may_write(GRID_TASK, [*value_ids(grid), END])


@given(grid=grids(), text=texts())
def test_the_grammar_lets_through_every_value_of_the_task_s_kind_and_none_of_the_other(grid: Value, text: str) -> None:
    assert may_write(GRID_TASK, [*value_ids(grid), END])
    assert may_write(TEXT_TASK, [*value_ids(text), END])
    assert may_write(SENTENCES, [*value_ids(text, in_words=True), END])
    assert not may_write(GRID_TASK, value_ids(text))
    assert not may_write(TEXT_TASK, value_ids(grid))
    assert not may_write(GRID_TASK, [END])


def test_each_row_of_a_batch_keeps_its_own_place_in_its_own_grammar() -> None:
    grammar = ENCODING.constraint([GRID_TASK, TEXT_TASK, GRID_TASK], CPU)
    grammar.chose([1, BYTE_0 + 65, 2])
    grammar.chose([ROW_END, BYTE_0 + 66, 2])
    grammar.keep([0, 2])

    allowed = grammar.allowed()

    assert allowed.shape == (2, VOCABULARY_SIZE)
    assert allowed[0].nonzero()[:, 0].tolist() == [*range(10), END]  # a row is closed: the next, or the end
    assert allowed[1].nonzero()[:, 0].tolist() == [*range(10), ROW_END]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), sharpness=st.sampled_from([0.0, 1.0, 10.0]))
def test_a_model_of_random_weights_gives_a_value_of_the_task_s_kind_or_none(seed: int, sharpness: float) -> None:
    grid, text = tiny_model(seed, sharpness).generate([GRID_TASK, TEXT_TASK])

    assert grid.value is None or checked_value(grid.value, "answer") == grid.value
    assert text.value is None or isinstance(text.value, str)
