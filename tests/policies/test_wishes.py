"""What users write is read as they mean it, or refused with what would do."""

from __future__ import annotations

import pytest

from policies.errors import PolicySettingRefused
from policies.wishes import Price, RegretLimit, SecondsBudget, ShareBudget, Wish, read_wish

READ: list[tuple[str, Wish]] = [
    ("price = 0.1", Price(0.1)),
    ("lambda=0", Price(0.0)),
    ("λ = .25", Price(0.25)),
    ("ttt ≤ 30%", ShareBudget(("ttt",), 0.3)),
    ("ttt <= 30 %", ShareBudget(("ttt",), 0.3)),
    ("ttt<=0.3", ShareBudget(("ttt",), 0.3)),
    ("ttt + ttt_short <= 100 %", ShareBudget(("ttt", "ttt_short"), 1.0)),
    ("≤ 20 s a task", SecondsBudget(20.0)),
    ("<=1.5s/task", SecondsBudget(1.5)),
    ("  <= 20 seconds per task ", SecondsBudget(20.0)),
    ("max_regret_rate=0.05", RegretLimit(0.05)),
    ("max_regret_rate = 5 %", RegretLimit(0.05)),
]


@pytest.mark.parametrize(("text", "wish"), READ)
def test_a_wish_is_read(text: str, wish: Wish) -> None:
    assert read_wish(text) == wish


@pytest.mark.parametrize("wish", [wish for _, wish in READ])
def test_a_wish_is_written_as_it_is_read(wish: Wish) -> None:
    assert read_wish(str(wish)) == wish


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not understood"),
        ("ttt < 30 %", "not understood"),
        ("30 %", "not understood"),
        ("<= 20 minutes a task", "not understood"),
        ("price = cheap", "not understood"),
        ("price = nan", "not understood"),
        ("price = -1", "a price is a number from 0"),
        ("price = 1e999", "a price is a number from 0"),
        ("ttt <= 130 %", "a share lies above 0"),
        ("ttt <= 30", "a share lies above 0"),
        ("ttt <= 0 %", "a share lies above 0"),
        ("<= 0 s a task", "seconds lie above 0"),
        ("max_regret_rate = 1", "a rate lies above 0 and below 1"),
        ("max_regret_rate = 0", "a rate lies above 0 and below 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_would_do(text: str, why: str) -> None:
    with pytest.raises(PolicySettingRefused) as refused:
        read_wish(text)

    assert why in str(refused.value)
    assert "Write `price = 0.1`" in refused.value.remedy
