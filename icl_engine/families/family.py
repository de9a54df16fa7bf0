"""The record of one family of generated tasks: a name, a kind and a function that draws a rule and its pairs.

Values here are raw (lists of lists of ints, or strings), since a training sampler turns them into tokens without
building a `Task`. A grid rule is written as a function of `rng` that draws its parameters once and returns a function
drawing one pair under them; `families_of` turns such rules into families.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

RawRow: TypeAlias = list[int]
RawGrid: TypeAlias = list[RawRow]
Raw: TypeAlias = RawGrid | str
Pair: TypeAlias = tuple[Raw, Raw]
Make: TypeAlias = Callable[[random.Random, int], list[Pair]]

GridPair: TypeAlias = tuple[RawGrid, RawGrid]
GridDraw: TypeAlias = Callable[[], GridPair]
GridRule: TypeAlias = Callable[[random.Random], GridDraw]
RowPair: TypeAlias = tuple[RawRow, RawRow]
RowDraw: TypeAlias = Callable[[], RowPair]
RowRule: TypeAlias = Callable[[random.Random], RowDraw]

MAX_SIDE = 30
MAX_LINE = 100  # of a grid of one row
_TRIES_PER_PAIR = 12
_OTHER_BACKGROUND = 0.08


class Rejected(Exception):
    """A draw that cannot show its rule (no room, output too large, ambiguous); the sampler draws again."""


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of generated task.

    `make(rng, n_pairs)` draws one hidden rule, with its parameters, and returns `n_pairs` pairs under this rule; it may
    raise `Rejected`.
    """

    name: str
    kind: Literal["grid", "row", "text"]
    make: Make


def families_of(*rules: GridRule) -> tuple[Family, ...]:
    """Turn grid rules into families, each named after its function."""
    return tuple(Family(rule.__name__, "grid", partial(_make_grids, rule)) for rule in rules)


def row_families_of(*rules: RowRule) -> tuple[Family, ...]:
    """Turn one-row rules into families, each named `row_` and its function."""
    return tuple(Family(f"row_{rule.__name__}", "row", partial(_make_rows, rule)) for rule in rules)


def _make_grids(rule: GridRule, rng: random.Random, n_pairs: int) -> list[Pair]:
    draw = rule(rng)
    return _with_background(rng, [_informative(draw) for _ in range(n_pairs)])


def _make_rows(rule: RowRule, rng: random.Random, n_pairs: int) -> list[Pair]:
    draw = rule(rng)

    def pair() -> GridPair:
        row, answer = draw()
        return [row], [answer]

    return [_informative(pair) for _ in range(n_pairs)]


def is_allowed_size(grid: RawGrid) -> bool:
    """Tell whether a grid has rows and columns, and not too many of either."""
    return 0 < len(grid) <= MAX_SIDE and 0 < len(grid[0]) <= (MAX_LINE if len(grid) == 1 else MAX_SIDE)


def _informative(draw: GridDraw) -> Pair:
    """Draw a pair whose output is a grid of allowed size and not the input itself."""
    for _ in range(_TRIES_PER_PAIR):
        try:
            grid, answer = draw()
        except Rejected:
            continue
        if grid != answer and is_allowed_size(answer):
            return grid, answer
    raise Rejected("no informative pair")


def _with_background(rng: random.Random, pairs: list[Pair]) -> list[Pair]:
    """Sometimes exchange black with another colour in a whole task."""
    if rng.random() >= _OTHER_BACKGROUND:
        return pairs
    other = rng.randint(1, 9)
    exchanged = {0: other, other: 0}

    def exchange(grid: Raw) -> Raw:
        return grid if isinstance(grid, str) else [[exchanged.get(cell, cell) for cell in row] for row in grid]

    return [(exchange(grid), exchange(answer)) for grid, answer in pairs]
