"""What users ask of a policy, as they write it: a price of time, a budget, or a bound on what is missed.

- `price = 0.1`, `lambda = 0.1`, `λ = 0.1`: quality given up for the mean cost of `ttt`
- `ttt <= 30 %`, `ttt + ttt_short ≤ 0.3`: share of tasks
- `<= 20 s a task`, `≤ 20 s/task`, `<= 20 s per task`: seconds, the answer in context included
- `max_regret_rate = 0.05`: share of the tasks answered in context that `ttt` would have answered better
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from policies.errors import PolicySettingRefused


@dataclass(frozen=True, slots=True)
class Price:
    """A fixed price of time."""

    price: float  # quality given up for the mean cost of `ttt`

    def __str__(self) -> str:
        return f"price = {self.price:g}"


@dataclass(frozen=True, slots=True)
class ShareBudget:
    """At most this share of tasks goes to these arms."""

    arms: tuple[str, ...]
    share: float  # in (0, 1]

    def __str__(self) -> str:
        return f"{' + '.join(self.arms)} <= {100 * self.share:g} %"


@dataclass(frozen=True, slots=True)
class SecondsBudget:
    """A task takes at most this long on average."""

    seconds: float  # above 0, probe and answer together

    def __str__(self) -> str:
        return f"<= {self.seconds:g} s a task"


@dataclass(frozen=True, slots=True)
class RegretLimit:
    """Of the tasks answered in context, at most this share would have been answered better by `ttt`."""

    max_rate: float  # in (0, 1)

    def __str__(self) -> str:
        return f"max_regret_rate = {self.max_rate:g}"


Budget = ShareBudget | SecondsBudget
Wish = Price | ShareBudget | SecondsBudget | RegretLimit

_NUMBER = r"(?P<number>[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"
_PRICE = re.compile(rf"(?:price|lambda|λ)\s*=\s*{_NUMBER}")
_REGRET = re.compile(rf"max_regret_rate\s*=\s*{_NUMBER}\s*(?P<percent>%?)")
_SHARE = re.compile(rf"(?P<arms>[a-z_]\w*(?:\s*\+\s*[a-z_]\w*)*)\s*(?:<=|≤)\s*{_NUMBER}\s*(?P<percent>%?)")
_SECONDS = re.compile(rf"(?:<=|≤)\s*{_NUMBER}\s*(?:s|seconds)\s*(?:a|per|/)\s*task")
_REMEDY = "Write `price = 0.1`, `ttt <= 30 %`, `<= 20 s a task` or `max_regret_rate = 0.05`."


def read_wish(text: str) -> Wish:
    """Read what a user asks for.

    Raises:
        PolicySettingRefused: it is none of the forms above, or its number cannot be meant.

    Example:
        >>> read_wish("ttt ≤ 30%")
        ShareBudget(arms=('ttt',), share=0.3)
        >>> read_wish("<= 20 s a task")
        SecondsBudget(seconds=20.0)
    """
    said = text.strip()
    if found := _PRICE.fullmatch(said):
        return Price(_within(text, float(found["number"]), 0.0, math.inf, "a price is a number from 0"))
    if found := _REGRET.fullmatch(said):
        rate = _within(text, _share(found), 0.0, 1.0, "a rate lies above 0 and below 1", open_below=True)
        if rate == 1.0:
            raise PolicySettingRefused(text, "a rate lies above 0 and below 1", remedy=_REMEDY)
        return RegretLimit(rate)
    if found := _SECONDS.fullmatch(said):
        above = "seconds lie above 0"
        return SecondsBudget(_within(text, float(found["number"]), 0.0, math.inf, above, open_below=True))
    if found := _SHARE.fullmatch(said):
        arms = tuple(arm.strip() for arm in found["arms"].split("+"))
        above = "a share lies above 0 and is at most 1 (100 %)"
        return ShareBudget(arms, _within(text, _share(found), 0.0, 1.0, above, open_below=True))
    raise PolicySettingRefused(text or "''", "not understood", remedy=_REMEDY)


def _share(found: re.Match[str]) -> float:
    number = float(found["number"])
    return number / 100.0 if found["percent"] else number


def _within(text: str, number: float, low: float, high: float, rule: str, *, open_below: bool = False) -> float:
    if not (low < number if open_below else low <= number) or number > high or math.isinf(number):
        raise PolicySettingRefused(text, rule, remedy=_REMEDY)
    return number
