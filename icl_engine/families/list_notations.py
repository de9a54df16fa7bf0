"""How a list is written as text, and what its items are."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from icl_engine.families.words import LETTERS, any_word, invented_word


@dataclass(frozen=True, slots=True)
class Notation:
    """How a list is written: `opening`, items joined by `separator`, `closing`."""

    opening: str
    separator: str
    closing: str

    def write(self, items: Sequence[int | str]) -> str:
        """Write the items as text; an empty list leaves only the brackets."""
        return self.opening + self.separator.join(map(str, items)) + self.closing


NOTATIONS = tuple(
    Notation(*parts)
    for parts in (
        ("[", ", ", "]"), ("[", ", ", "]"), ("", " ", ""), ("", " ", ""), ("", ", ", ""), ("", ",", ""),
        ("[", " ", "]"),
        ("", ";", ""), ("", " | ", ""), ("(", " ", ")"), ("(", ", ", ")"), ("{", ",", "}"), ("<", " ", ">"),
        ("", "/", ""), ("", " > ", ""), ("", ":", ""), ("", "-", ""), ("", " + ", ""), ("", " and ", ""),
    )
)  # fmt: skip


def draw_notations(rng: random.Random) -> tuple[Notation, Notation]:
    """Draw the notations of inputs and outputs, three times in four the same."""
    given = rng.choice(NOTATIONS)
    return given, given if rng.random() < 0.75 else rng.choice(NOTATIONS)


def draw_span(rng: random.Random) -> int:
    """Draw the largest number that a task's lists may hold."""
    return rng.choice((9, 9, 9, 20, 50, 99, 99, 300))


def draw_item_source(rng: random.Random) -> Callable[[random.Random], str]:
    """Draw what the items of a task are: numbers, letters, words or syllables."""
    kind = rng.random()
    if kind < 0.45:
        span = draw_span(rng) + 1
        return lambda r: str(int(r.random() * span))
    if kind < 0.7:
        return lambda r: r.choice(LETTERS)
    return any_word if kind < 0.9 else lambda r: invented_word(r, 1)
