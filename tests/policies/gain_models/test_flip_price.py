"""The flip price is where the arms cross: on its one side the one wins, on the other the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.gain_models import Flip, flips

ARMS = ("icl", "icl_vote", "ttt_short", "ttt")
qualities = st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=4, max_size=4)
costs = st.lists(st.integers(0, 12).map(lambda k: k / 8), min_size=4, max_size=4, unique=True)
prices = st.integers(0, 40).map(lambda k: k / 16 + 1 / 997)  # on no crossing of the others


def winner(quality: list[float], cost: list[float], price: float) -> str:
    return ARMS[int(np.argmax(np.array(quality) - price * np.array(cost)))]


@given(qualities, costs, prices)
def test_between_the_flips_the_same_arm_wins_and_past_them_the_named_ones(
    quality: list[float], cost: list[float], price: float
) -> None:
    found = flips(ARMS, quality, cost, price)

    low = found.below.price if found.below else 0.0
    high = found.above.price if found.above else 1e3
    assert low <= price <= high
    assert {winner(quality, cost, low + share * (high - low)) for share in (0.01, 0.5, 0.99)} == {found.arm}
    if found.above:
        assert winner(quality, cost, high + 1e-6) != found.arm
        assert cost[ARMS.index(found.above.arm)] < cost[ARMS.index(found.arm)]
    if found.below and low > 1e-6:
        assert winner(quality, cost, low - 1e-6) != found.arm
        assert cost[ARMS.index(found.below.arm)] > cost[ARMS.index(found.arm)]


def test_an_arm_that_is_better_and_cheaper_wins_at_any_price() -> None:
    found = flips(("icl", "ttt"), (0.6, 0.5), (0.0, 1.0), price=0.3)

    assert (found.arm, found.below, found.above) == ("icl", None, None)


def test_of_equal_arms_the_cheapest_wins() -> None:
    assert flips(("ttt", "icl"), (0.5, 0.5), (1.0, 0.0), price=0.0).arm == "icl"


def test_the_price_is_the_gain_over_what_it_costs_more() -> None:
    assert flips(("icl", "ttt"), (0.25, 0.5), (0.5, 1.0), price=1.0).below == Flip("ttt", 0.5)
