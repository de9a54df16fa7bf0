"""The index of neighbours says how far the nearest is, and forgets the oldest."""

from __future__ import annotations

import pytest

from tests.models import CONSTANT_TASK, ROW_TASK, TEXT_TASK
from ttt_engine.neighbours import Neighbours
from ttt_engine.stores.sketch import PLACES, likeness, sketch_of


def test_the_distance_is_one_less_the_likeness_of_the_nearest() -> None:
    index = Neighbours()
    index.add("row", sketch_of(ROW_TASK))
    index.add("text", sketch_of(TEXT_TASK))
    sketch = sketch_of(CONSTANT_TASK)
    likest = max(likeness(sketch, sketch_of(task)) for task in (ROW_TASK, TEXT_TASK))

    assert 0.0 < likest < 1.0
    assert index.distance(sketch) == pytest.approx(1.0 - likest)
    assert index.distance(sketch_of(TEXT_TASK)) == 0.0


def test_an_empty_index_has_nothing_near() -> None:
    assert len(Neighbours()) == 0
    assert Neighbours().distance(sketch_of(ROW_TASK)) == 1.0


def test_the_oldest_makes_room_and_what_is_known_takes_none() -> None:
    index = Neighbours(n_most=2)
    for key, task in (("row", ROW_TASK), ("text", TEXT_TASK), ("text", TEXT_TASK), ("constant", CONSTANT_TASK)):
        index.add(key, sketch_of(task))

    assert len(index) == 2
    assert index.distance(sketch_of(TEXT_TASK)) == index.distance(sketch_of(CONSTANT_TASK)) == 0.0
    assert index.distance(sketch_of(ROW_TASK)) > 0.0


def test_an_adapter_without_a_sketch_is_passed_over() -> None:
    index = Neighbours()
    index.add("family", ())

    assert len(index) == 0


def test_what_is_no_sketch_costs_no_neighbour() -> None:
    index = Neighbours(n_most=1)
    index.add("row", sketch_of(ROW_TASK))
    with pytest.raises(OverflowError):
        index.add("broken", [2**63] * PLACES)

    assert index.distance(sketch_of(ROW_TASK)) == 0.0
