"""What an arm is worth at a price, and where another one would be the best."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.loo_threshold import LooThreshold
from router.trace import ArmEstimate
from router.traces import ArmValue, arm_values, best_at, flips, utilities_at
from tests.router.traces.fakes import GROUNDS, decided, trace_of

VALUES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=5).map(
    lambda pairs: tuple(ArmValue(f"arm{i}", quality, cost) for i, (quality, cost) in enumerate(pairs))
)


def test_costs_are_read_off_the_utilities() -> None:
    values = arm_values(trace_of(decided(LooThreshold()), "t", grounds=GROUNDS).decision)

    assert [(value.arm, value.quality) for value in values] == [("icl", 0.4), ("ttt", 0.8)]
    assert [value.cost for value in values] == pytest.approx([0.0625, 1.0])
    assert utilities_at(values, 0.1) == pytest.approx({"icl": 0.39375, "ttt": 0.7})


def test_where_no_price_was_set_costs_are_seconds() -> None:
    free = GROUNDS.model_copy(update={"price": 0.0})
    values = arm_values(trace_of(decided(LooThreshold()), "t", grounds=free).decision)

    assert [value.cost for value in values] == [0.5, 8.0]


def test_a_rule_estimates_nothing() -> None:
    assert arm_values(trace_of(decided(LooThreshold()), "t").decision) == ()
    unknown = GROUNDS.model_copy(update={"estimates": {"icl": ArmEstimate(gain=0.0)}})
    assert arm_values(trace_of(decided(LooThreshold()), "t", grounds=unknown).decision) == ()
    assert best_at((), 1.0) is None
    assert flips(()) == ()


def test_three_arms_flip_at_two_prices() -> None:
    values = (ArmValue("icl", 0.4, 0.0), ArmValue("vote", 0.6, 0.25), ArmValue("ttt", 0.8, 1.0))

    assert [(flip.below, flip.above) for flip in flips(values)] == [("ttt", "vote"), ("vote", "icl")]
    assert [flip.price for flip in flips(values)] == pytest.approx([0.2 / 0.75, 0.8])


def test_an_arm_that_is_better_and_cheaper_is_so_at_every_price() -> None:
    assert flips((ArmValue("icl", 0.9, 0.1), ArmValue("ttt", 0.5, 1.0))) == ()


@given(VALUES)
def test_between_two_flips_the_best_arm_stays(values: tuple[ArmValue, ...]) -> None:
    found = flips(values)
    at = [0.0, *(flip.price for flip in found)]

    assert at == sorted(at)
    assert all(flip.below != flip.above for flip in found)
    assert all(one.above == other.below for one, other in pairwise(found))


@given(VALUES, st.floats(0, 100))
def test_the_best_arm_is_worth_at_least_as_much_as_any(values: tuple[ArmValue, ...], price: float) -> None:
    best = best_at(values, price)
    worth = utilities_at(values, price)

    assert best is not None
    assert worth[best] == max(worth.values())
