"""Chance where the margin is small, a floor everywhere, none at all if so wished."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.exploration import annealed, best, best_arm, margin_shaped

utilities_of_arms = st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=6)


def shaped(utilities: list[float], *, explore: float, temperature: float) -> list[float]:
    row = np.array([utilities])
    there = np.ones(row.shape, dtype=np.bool_)
    favourite = best(row, there, np.zeros(row.shape))
    return list(margin_shaped(row, there, favourite, explore=explore, temperature=temperature)[0].tolist())


@settings(max_examples=60, deadline=None)
@given(utilities=utilities_of_arms, explore=st.floats(0.0, 0.5), temperature=st.floats(0.0, 1.0))
def test_rows_sum_to_one_above_their_floor_and_in_the_order_of_utilities(
    utilities: list[float], explore: float, temperature: float
) -> None:
    probabilities = shaped(utilities, explore=explore, temperature=temperature)
    n = len(utilities)

    assert sum(probabilities) == pytest.approx(1.0)
    assert n == 1 or min(probabilities) >= explore / (n - 1) - 1e-12
    for (u, p), (v, q) in itertools.pairwise(zip(utilities, probabilities, strict=True)):
        assert p >= q - 1e-12 or u <= v


@pytest.mark.parametrize("margin", [-0.5, -0.05, 0.0, 0.02, 0.1, 0.4])
def test_two_arms_are_the_clipped_sigmoid_of_the_margin(margin: float) -> None:
    p_ttt = shaped([0.3, 0.3 + margin], explore=0.05, temperature=0.1)[1]

    assert p_ttt == pytest.approx(np.clip(1.0 / (1.0 + np.exp(-margin / 0.1)), 0.05, 0.95))


def test_chance_falls_where_the_margin_is_small() -> None:
    near, far = (shaped([0.0, margin], explore=0.0001, temperature=0.05) for margin in (0.01, 0.5))

    assert near[0] > 0.4
    assert far[0] < 0.001


def test_the_best_of_many_arms_keeps_what_exploration_leaves() -> None:
    assert shaped([1.0, 0.0, 0.0, 0.0, 0.0], explore=0.2, temperature=0.01) == pytest.approx([0.8] + [0.05] * 4)


def test_without_exploration_nothing_is_left_to_chance() -> None:
    assert shaped([0.1, 0.1000001, 0.0], explore=0.0, temperature=0.5) == [0.0, 1.0, 0.0]


def test_an_arm_that_is_not_there_gets_nothing() -> None:
    there = np.array([[True, False, True]])
    row = np.array([[0.0, 9.0, 0.1]])
    favourite = best(row, there, np.zeros(row.shape))

    assert margin_shaped(row, there, favourite, explore=0.1, temperature=0.05)[0, 1] == 0.0
    assert favourite.tolist() == [2]


def test_an_arm_without_an_estimate_is_brought_up_by_the_floor_alone() -> None:
    row = np.array([[0.0, -np.inf]])
    shaped_row = margin_shaped(row, row < 1, np.array([0]), explore=0.1, temperature=1.0)

    assert shaped_row[0].tolist() == pytest.approx([0.9, 0.1])


def test_of_equal_utilities_the_cheapest_is_taken_and_then_the_first_name() -> None:
    assert best_arm(("ttt", "icl_vote", "icl"), (0.5, 0.5, 0.5), (1.0, 0.1, 0.1)) == "icl"
    assert best(np.array([[0.5, 0.5]]), np.ones((1, 2), dtype=np.bool_), np.array([[1.0, 0.5]])).tolist() == [1]


def test_the_temperature_falls_with_what_was_learned() -> None:
    temperatures = [annealed(0.1, n) for n in (0, 100, 300, 3000)]

    assert temperatures[0] == 0.1
    assert temperatures[2] == pytest.approx(0.05)
    assert temperatures == sorted(temperatures, reverse=True)
