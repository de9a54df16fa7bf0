"""Runs of one colour on a mostly black row: what one-row rules are made of."""

import random
from collections.abc import Callable

from icl_engine.families.family import RawRow, Rejected, RowDraw, RowPair

Run = tuple[int, int, int]  # start, length, colour


def widths(rng: random.Random, low: int = 8, high: int = 28) -> Callable[[], int]:
    """Draw a width for the task, or (less often) one for each pair; one task in five is up to three times as wide."""
    if rng.random() < 0.2:
        high *= 3
    width = rng.randint(low, high)
    if rng.random() < 0.75:
        return lambda: width
    return lambda: rng.randint(max(low, width - 4), min(high, width + 4))


def colours_of(rng: random.Random, n: int) -> list[int]:
    """Draw `n` distinct colours other than black."""
    return rng.sample(range(1, 10), n)


def laid_out(
    rng: random.Random, width: int, lengths: list[int], gap: int = 1, left: int = 0, right: int = 0
) -> list[int]:
    """Draw start places for runs of the given lengths, at least `gap` apart, leaving `left` and `right` cells free."""
    spare = width - left - right - sum(lengths) - gap * (len(lengths) - 1)
    if spare < 0:
        raise Rejected("runs do not fit")
    cuts = sorted(rng.randint(0, spare) for _ in lengths)
    return [left + cut + sum(lengths[:i]) + gap * i for i, cut in enumerate(cuts)]


def painted(width: int, runs: list[Run]) -> RawRow:
    """Paint runs on a black row; cells outside are lost."""
    row = [0] * width
    for start, length, colour in runs:
        for i in range(max(0, start), min(width, start + length)):
            row[i] = colour
    return row


def spread(rng: random.Random, width: int, n: int, low: int, high: int, colours: list[int], gap: int = 1) -> list[Run]:
    """Draw `n` separate runs with random lengths and colours."""
    lengths = [rng.randint(low, high) for _ in range(n)]
    starts = laid_out(rng, width, lengths, gap)
    return [(s, k, rng.choice(colours)) for s, k in zip(starts, lengths, strict=True)]


def several(rng: random.Random) -> list[int]:
    """Draw a task's colours: one, or a few."""
    return colours_of(rng, rng.choice((1, 1, 2, 3, 4)))


def flipped(rng: random.Random, pair: Callable[[], RowPair]) -> RowDraw:
    """Turn the direction of a whole rule around with probability one half."""
    if rng.random() < 0.5:
        return pair

    def turned() -> RowPair:
        row, answer = pair()
        return row[::-1], answer[::-1]

    return turned
