"""The rule of text family `logic_value`: expressions of truth values under negation, conjunction and disjunction."""

import random
from dataclasses import dataclass

from icl_engine.families.text_rules import Example, TextPair

_VALUES = (
    ("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("T", "F"), ("1", "0"), ("yes", "no"), ("on", "off"),
)  # fmt: skip
_OPERATORS = (
    ("and", "or", "not "), ("AND", "OR", "NOT "), ("&", "|", "!"), ("&&", "||", "~"), ("*", "+", "-"),
    ("and also", "or else", "the opposite of "), ("^", "v", "~"),
)  # fmt: skip
_WORDINGS = (
    "{}", "{}", "{} =", "{} gives", "{} ->", "{} makes", "{} comes out as", "value of {}", "evaluate: {}", "[{}]",
    "Work out {}", "{} therefore equals", "{} boils down to", "Q: {} A:", "What do we get from {} ?",
    "The clerk wrote {} on the card, and it amounts to", "Reduce to one word: {}",
)  # fmt: skip
_MOST_OPERATORS = (2, 2, 3, 3, 4, 5, 6, 7, 8, 8)
# How tightly an expression binds: what binds less than its place asks for goes into parentheses.
_LOOSE, _TIGHTER, _TIGHTEST = range(3)  # a disjunction, a conjunction, a negation or a single value


@dataclass(frozen=True, slots=True)
class _Spelling:
    true: str
    false: str
    conjunction: str
    disjunction: str
    negation: str
    box: str  # parentheses around the field `{}`
    share_boxed: float  # of operands that stand in parentheses without need
    share_negated: float  # of operators that are negations

    def boxed(self, text: str, binds: int, at_least: int, r: random.Random) -> str:
        """Put `text` into parentheses where its place asks for them, and sometimes where it does not."""
        return self.box.format(text) if binds < at_least or r.random() < self.share_boxed else text


def _draw_spelling(rng: random.Random) -> _Spelling:
    plain = rng.random() < 0.5
    return _Spelling(
        *(_VALUES[0] if plain else rng.choice(_VALUES)),
        *(_OPERATORS[0] if plain else rng.choice(_OPERATORS)),
        box=rng.choice(("({})", "( {} )")),
        share_boxed=rng.choice((0.0, 0.1, 0.3, 0.6)),
        share_negated=rng.choice((0.2, 0.35, 0.5)),
    )


def _expression(r: random.Random, n_operators: int, spell: _Spelling) -> tuple[str, bool, int]:
    """Return an expression of so many operators, its value and how tightly it binds."""
    if n_operators == 0:
        value = r.random() < 0.5
        return spell.true if value else spell.false, value, _TIGHTEST
    if r.random() < spell.share_negated:
        text, value, binds = _expression(r, n_operators - 1, spell)
        return spell.negation + spell.boxed(text, binds, _TIGHTEST, r), not value, _TIGHTEST
    n_left = r.randrange(n_operators)
    left, a, left_binds = _expression(r, n_left, spell)
    right, b, right_binds = _expression(r, n_operators - 1 - n_left, spell)
    binds = r.choice((_LOOSE, _TIGHTER))
    left, right = spell.boxed(left, left_binds, binds, r), spell.boxed(right, right_binds, binds, r)
    operator = spell.conjunction if binds == _TIGHTER else spell.disjunction
    return f"{left} {operator} {right}", (a and b) if binds == _TIGHTER else (a or b), binds


def logic_value(rng: random.Random) -> Example:
    """Draw a spelling, a wording and a length; examples give the value of an expression.

    Negations bind before conjunctions, and those before disjunctions.
    """
    spell, wording, most = _draw_spelling(rng), rng.choice(_WORDINGS), rng.choice(_MOST_OPERATORS)

    def example(r: random.Random) -> TextPair:
        wanted = r.random() < 0.5
        for _ in range(3):  # conjunctions alone would nearly always be false
            text, value, _ = _expression(r, r.randint(max(1, most - 3), most), spell)
            if value == wanted:
                break
        return wording.format(text), spell.true if value else spell.false

    return example
