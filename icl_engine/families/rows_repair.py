"""One-row rules that clean, repair, continue or complete."""

import random
from itertools import pairwise

from icl_engine.families.family import Rejected, RowDraw, RowPair, row_families_of
from icl_engine.families.runs import (
    colours_of,
    flipped,
    laid_out,
    painted,
    several,
    spread,
    widths,
)


def remove_pixels(rng: random.Random) -> RowDraw:
    """Remove single pixels, keep the longer runs."""
    width, colours = widths(rng, 10, 26), several(rng)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(3, 6) for _ in range(rng.randint(1, 2))] + [1] * rng.randint(1, 4)
        rng.shuffle(lengths)
        runs = [(s, k, rng.choice(colours)) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        return painted(w, runs), painted(w, [r for r in runs if r[1] > 1])

    return pair


def repair(rng: random.Random) -> RowDraw:
    """Fill the one-cell breaks in a run."""
    width, colours = widths(rng, 8, 24), several(rng)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(1, 2), 4, max(4, w // 3), colours, 3)
        row, answer = painted(w, runs), painted(w, runs)
        for s, k, _ in runs:
            for i in range(s + 1, s + k - 1):
                if row[i - 1] and rng.random() < 0.4:
                    row[i] = 0
        return row, answer

    return pair


def keep_longest(rng: random.Random) -> RowDraw:
    """Keep only the longest run."""
    width, colours, longest = widths(rng, 10, 26), several(rng), rng.random() < 0.65

    def pair() -> RowPair:
        w = width()
        lengths = rng.sample(range(1, max(4, w // 3)), rng.randint(2, 3))
        runs = [(s, k, rng.choice(colours)) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        chosen = max(runs, key=lambda r: r[1]) if longest else min(runs, key=lambda r: r[1])
        return painted(w, runs), painted(w, [chosen])

    return pair


def join_same(rng: random.Random) -> RowDraw:
    """Fill the gap between neighbouring runs of one colour."""
    width, colours = widths(rng, 10), colours_of(rng, 2)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 4), 1, 3, colours)
        gaps = [(s + k, after - s - k, c) for (s, k, c), (after, _, next_colour) in pairwise(runs) if c == next_colour]
        return painted(w, runs), painted(w, runs + gaps)

    return pair


def continue_pattern(rng: random.Random) -> RowDraw:
    """Continue the periodic pattern over the black rest of the row."""
    width, colours, with_black = widths(rng, 9, 22), colours_of(rng, 5), rng.random() < 0.4

    def pair() -> RowPair:
        w, period = width(), rng.randint(2, 4)
        inks = rng.sample(colours, rng.randint(2, 3))
        unit = [inks[0], *rng.choices([0, *inks] if with_black else inks, k=period - 1)]
        if len(set(unit)) < 2 or (period == 4 and unit[:2] == unit[2:]):
            raise Rejected("shorter period")
        shown = rng.randint(min(2 * period, w - 2), min(w - 1, 2 * period + 3))
        answer = [unit[i % period] for i in range(w)]
        return answer[:shown] + [0] * (w - shown), answer

    return flipped(rng, pair)


def restore_pattern(rng: random.Random) -> RowDraw:
    """Restore the covered cells of a periodic pattern."""
    width, (cover, *colours) = widths(rng, 10, 20), colours_of(rng, 5)
    cover = rng.choice((0, cover))

    def pair() -> RowPair:
        w, period = width(), rng.randint(2, 3)
        unit = rng.sample(colours, period)
        answer = [unit[i % period] for i in range(w)]
        k = rng.randint(1, 3)
        s = rng.randint(0, w - k)
        return answer[:s] + [cover] * k + answer[s + k :], answer

    return pair


def clean_runs(rng: random.Random) -> RowDraw:
    """Remove the noise colour: inside a run it takes the run's colour, outside it becomes black."""
    width, (noise, *colours) = widths(rng, 10), colours_of(rng, rng.randint(2, 4))
    outside = rng.random() < 0.6

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(1, 2), 4, max(5, w // 3), colours, 2)
        answer = painted(w, runs)
        row = answer[:]
        for s, k, _ in runs:
            row[rng.randint(s + 1, s + k - 2)] = noise
        if outside:
            for i in range(1, w - 1):
                if not any(answer[i - 1 : i + 2]) and rng.random() < 0.25:
                    row[i] = noise
        return row, answer

    return pair


REPAIR = row_families_of(
    remove_pixels,
    repair,
    keep_longest,
    join_same,
    continue_pattern,
    restore_pattern,
    clean_runs,
)
