"""What terminal and notebook share in showing values: the palette, escaping and shortening of text, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icl_engine.answer import Answer
from icl_engine.task import Value
from router.solution import Solution

# the colours in which ARC is published, by cell
PALETTE = (
    "#000000",  # 0 black
    "#0074d9",  # 1 blue
    "#ff4136",  # 2 red
    "#2ecc40",  # 3 green
    "#ffdc00",  # 4 yellow
    "#aaaaaa",  # 5 grey
    "#f012be",  # 6 magenta
    "#ff851b",  # 7 orange
    "#7fdbff",  # 8 sky
    "#870c25",  # 9 maroon
)
SHOWN_AT_MOST = 12  # demonstrations, and queries, of one task
TEXT_CHARS = 240  # of one text

_DARK = (1, 9)  # cells on which a digit is written in white
_LEFT_OUT = " ... "


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the answers to one task compare with its solutions."""

    right: bool  # every known query by one of its candidates
    right_first: bool  # every known query by its best candidate
    n_right: int  # queries right by one of their candidates
    n_known: int

    @property
    def word(self) -> str:
        """One or two words."""
        return "right" if self.right_first else "right second" if self.right else "wrong"

    @property
    def sentence(self) -> str:
        """The word, with the count where there are several queries."""
        return self.word if self.n_known == 1 else f"{self.word} ({self.n_right} of {self.n_known} queries)"

    @property
    def style(self) -> str:
        """Colour of the word."""
        return "green" if self.right else "red"


def verdict(answers: Sequence[Answer], solutions: Sequence[Value | None]) -> Verdict | None:
    """Compare answers with what is right; None where nothing is known."""
    pairs = [(answer, known) for answer, known in zip(answers, solutions, strict=False) if known is not None]
    if not pairs:
        return None
    n_right = sum(known in answer.values for answer, known in pairs)
    right_first = all(known == answer.value for answer, known in pairs)
    return Verdict(n_right == len(pairs), right_first, n_right, len(pairs))


def arm_of(solution: Solution) -> str:
    """Return the arm that was decided for, and the one that answered in its place, if another did."""
    if solution.answered_by == solution.arm:
        return printable(solution.arm)
    return f"{printable(solution.arm)} (answered by {printable(solution.answered_by)})"


def drawn_of(solution: Solution) -> str:
    """Say what part chance had in the arm."""
    is_certain = solution.propensity >= 1.0
    return "no other arm had a chance" if is_certain else f"drawn with probability {solution.propensity:.3f}"


def ink_on(cell: int) -> str:
    """Return the colour in which a digit is legible on a cell; grey on black, where it marks an empty cell."""
    return "#777777" if cell == 0 else "#ffffff" if cell in _DARK else "#000000"


def printable(text: str) -> str:
    """Return the text with everything a terminal might obey, or nobody can see, as an escape; line breaks too."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def shortened(text: str, at_most: int = TEXT_CHARS) -> str:
    """Return the text fit to be shown: lines kept, the middle left out of a long one."""
    if len(text) > at_most:
        kept = at_most - len(_LEFT_OUT)
        text = f"{text[: kept * 2 // 3]}{_LEFT_OUT}{text[-(kept - kept * 2 // 3) :]}"
    return "\n".join(printable(line) for line in text.split("\n"))


def more(n: int, things: str) -> str:
    """Say how many are not shown."""
    return f"... and {n - SHOWN_AT_MOST} more {things}"
