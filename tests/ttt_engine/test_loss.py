"""The tokens that are learned are whole outputs, or everything; each choice lies within the next."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.encoding import Encoded
from icl_engine.task import Task
from tests.icl_engine.task_strategies import grid_tasks, text_tasks
from ttt_engine.config import LossOn
from ttt_engine.loss import target_spans

FROM_LEAST_TO_MOST: tuple[LossOn, ...] = ("last", "after_first", "outputs", "all")
THREE_OUTPUTS = Encoded(ids=tuple(range(20)), outputs=((3, 5), (8, 9), (14, 20)), query_start=9)
ONE_OUTPUT = Encoded(ids=tuple(range(6)), outputs=((4, 6),), query_start=1)


def places(encoded: Encoded, loss_on: LossOn) -> set[int]:
    return {place for start, stop in target_spans(encoded, loss_on) for place in range(start, stop)}


def encoded(task: Task, n_demonstrations: int) -> Encoded:
    shown = task.replace(demonstrations=task.demonstrations[:n_demonstrations])
    return EmbeddedEncoding().encode(shown, task.demonstrations[0].output)


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("last", ((14, 20),)),
        ("after_first", ((8, 9), (14, 20))),
        ("outputs", ((3, 5), (8, 9), (14, 20))),
        ("all", ((1, 20),)),
    ],
)
def test_each_choice_says_which_tokens_are_learned(loss_on: LossOn, expected: object) -> None:
    assert target_spans(THREE_OUTPUTS, loss_on) == expected


def test_where_there_is_one_output_every_choice_learns_it() -> None:
    assert [target_spans(ONE_OUTPUT, loss_on) for loss_on in FROM_LEAST_TO_MOST] == [((4, 6),)] * 3 + [((1, 6),)]


def test_what_is_said_of_none_is_said_of_the_outputs_after_the_first() -> None:
    assert target_spans(THREE_OUTPUTS) == target_spans(THREE_OUTPUTS, "after_first")


def test_every_choice_has_its_place() -> None:
    assert set(FROM_LEAST_TO_MOST) == set(get_args(LossOn))


@given(task=grid_tasks() | text_tasks(), n=st.integers(0, 4))
def test_each_choice_lies_within_the_next(task: Task, n: int) -> None:
    sequence = encoded(task, n)
    learned = [places(sequence, loss_on) for loss_on in FROM_LEAST_TO_MOST]

    assert all(some <= more for some, more in pairwise(learned))
    assert learned[0]
    assert learned[-1] == set(range(1, len(sequence.ids)))


@given(task=grid_tasks() | text_tasks(), n=st.integers(0, 4), loss_on=st.sampled_from(FROM_LEAST_TO_MOST))
def test_spans_are_inside_the_sequence_in_order_and_apart(task: Task, n: int, loss_on: LossOn) -> None:
    sequence = encoded(task, n)
    edges = [edge for span in target_spans(sequence, loss_on) for edge in span]

    assert all(start < stop for start, stop in target_spans(sequence, loss_on))
    assert edges == sorted(edges)
    assert 0 < edges[0] < edges[-1] == len(sequence.ids)
