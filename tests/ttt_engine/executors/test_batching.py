"""Batches hang on the tasks alone: like lengths together, the longest first, one adapter in one batch."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.models import GRID_TASK, ROW_TASK
from tests.ttt_engine.executors.workers import task_of
from ttt_engine.executors.batching import batches_of, length_of

Lengths = st.lists(st.integers(1, 9), max_size=30)


@given(Lengths, st.integers(1, 8))
def test_every_task_is_in_one_batch(lengths: list[int], together: int) -> None:
    batches = batches_of([task_of(n) for n in lengths], together)

    assert sorted(i for places in batches for i in places) == list(range(len(lengths)))
    assert all(places == sorted(places) for places in batches)


@given(Lengths, st.integers(1, 8))
def test_no_batch_trains_more_adapters_than_it_may_and_none_is_in_two(lengths: list[int], together: int) -> None:
    batches = [{lengths[i] for i in places} for places in batches_of([task_of(n) for n in lengths], together)]

    assert all(1 <= len(adapters) <= together for adapters in batches)
    assert sum(map(len, batches)) == len(set(lengths))


@given(Lengths, st.integers(1, 8))
def test_no_task_is_longer_than_one_of_a_batch_before(lengths: list[int], together: int) -> None:
    batches = batches_of([task_of(n) for n in lengths], together)

    for first, second in pairwise(batches):
        assert min(lengths[i] for i in first) >= max(lengths[i] for i in second)


def test_a_length_is_that_of_the_demonstrations_in_cells_or_characters() -> None:
    assert length_of(ROW_TASK) == 3 + 3 + 3 + 3 + 4 + 4
    assert length_of(GRID_TASK) == 4 + 4 + 3 + 3
    assert length_of(task_of(7)) == 7 + 1 + 1 + 1
