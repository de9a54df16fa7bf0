"""From a text rule to a family: how a hidden rule, once drawn, becomes a list of distinct and telling pairs."""

import random
from collections.abc import Callable

from icl_engine.families.family import Family, Pair, Rejected

TextPair = tuple[str, str]
Example = Callable[[random.Random], TextPair]  # one (input, output) pair under a rule that is already drawn
DrawRule = Callable[[random.Random], Example]  # draws the rule: operation, wording, notation

_N_RULES_TRIED = 20
_N_DRAWS_PER_PAIR = 8


def text_family(name: str, draw_rule: DrawRule) -> Family:
    """Build the family `name` whose tasks each draw one rule with `draw_rule`.

    Inputs are distinct and no side of a pair is empty. A rule that shows nothing (every output the same, or most of
    them equal to their input), or that has too few inputs, is thrown away and another drawn; `make` raises `Rejected`
    when twenty in a row fail.
    """

    def make(rng: random.Random, n_pairs: int) -> list[Pair]:
        for _ in range(_N_RULES_TRIED):
            pairs = _draw_pairs(draw_rule(rng), rng, n_pairs)
            if len(pairs) == n_pairs and _is_telling(pairs):
                return [(given, wanted) for given, wanted in pairs]
        raise Rejected(f"{name}: {_N_RULES_TRIED} rules drawn, none shows itself in {n_pairs} distinct pairs")

    return Family(name=name, kind="text", make=make)


def _draw_pairs(example: Example, rng: random.Random, n_pairs: int) -> list[TextPair]:
    pairs: dict[str, str] = {}  # insertion order is the order of the pairs
    for _ in range(n_pairs * _N_DRAWS_PER_PAIR):
        given, wanted = example(rng)
        if given and wanted:
            pairs.setdefault(given, wanted)
        if len(pairs) == n_pairs:
            return list(pairs.items())
    return list(pairs.items())


def _is_telling(pairs: list[TextPair]) -> bool:
    if len(pairs) < 2:
        return True
    n_changed = sum(given != wanted for given, wanted in pairs)
    return 2 * n_changed >= len(pairs) and len({wanted for _, wanted in pairs}) > 1
