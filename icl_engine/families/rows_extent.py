"""One-row rules that change the extent of runs: fill, hollow, extend, grow, shrink."""

import random

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


def fill_between(rng: random.Random) -> RowDraw:
    """Fill the cells between the two pixels of a pair."""
    width, own, n = widths(rng), rng.random() < 0.5, rng.choice((1, 1, 2))
    colours = several(rng)
    filling = colours_of(rng, 1)[0]

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(3, max(3, w // (n + 1))) for _ in range(n)]
        starts = laid_out(rng, w, lengths, 2)
        row, answer = [0] * w, [0] * w
        for s, k in zip(starts, lengths, strict=True):
            c = rng.choice(colours)
            if not own and c == filling:
                raise Rejected("filling looks like the ends")
            row[s] = row[s + k - 1] = c
            answer[s : s + k] = [c, *([c if own else filling] * (k - 2)), c]
        return row, answer

    return pair


def hollow(rng: random.Random) -> RowDraw:
    """Keep only the two ends of every run."""
    width, colours, n = widths(rng), several(rng), rng.randint(1, 3)
    inside = rng.choice((0, 0, 0, rng.choice([colour for colour in range(1, 10) if colour not in colours])))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, n, 3, max(3, w // (n + 1)), colours)
        return painted(w, runs), painted(w, runs + [(s + 1, k - 2, inside) for s, k, _ in runs])

    return pair


def extend_to_end(rng: random.Random) -> RowDraw:
    """Extend the run to the end of the row."""
    width, colours = widths(rng, 5, 20), several(rng)
    tail = rng.choice((0, *colours_of(rng, 1)))

    def pair() -> RowPair:
        w = width()
        c = rng.choice(colours)
        k = rng.randint(1, max(1, w // 4))
        s = rng.randint(0, w - k - 1)
        return painted(w, [(s, k, c)]), painted(w, [(s, w, tail or c), (s, k, c)])

    return flipped(rng, pair)


def extend_to_obstacle(rng: random.Random) -> RowDraw:
    """Extend the run until it meets the marker."""
    width, (marker, *colours) = widths(rng, 8), colours_of(rng, rng.randint(2, 4))
    tail = rng.choice((0, 0, *colours_of(rng, 1)))

    def pair() -> RowPair:
        w = width()
        k, c = rng.randint(1, w // 4), rng.choice(colours)
        s, at = laid_out(rng, w, [k, 1], 1)
        if c == marker or tail == marker:
            raise Rejected("colours clash")
        after = [(s, at - s, tail or c), (s, k, c), (at, 1, marker)]
        return painted(w, [(s, k, c), (at, 1, marker)]), painted(w, after)

    return flipped(rng, pair)


def grow(rng: random.Random) -> RowDraw:
    """Make every run longer by a fixed number of cells at one end or both, sometimes in another colour."""
    width, colours, step = widths(rng, 9), several(rng), rng.randint(1, 2)
    both, ink, n = rng.random() < 0.6, rng.choice((0, *colours_of(rng, 1))), rng.randint(1, 3)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, max(1, w // (n + 2))) for _ in range(n)]
        starts = laid_out(rng, w, lengths, 2 * step + 1, step, step)
        runs = [(s, k, rng.choice(colours)) for s, k in zip(starts, lengths, strict=True)]
        grown = [(s - (step if both else 0), k + step * (2 if both else 1), ink or c) for s, k, c in runs]
        return painted(w, runs), painted(w, grown + runs)

    return flipped(rng, pair)


def double_length(rng: random.Random) -> RowDraw:
    """Double (or treble) the length of the run, its start staying."""
    width, colours, factor, n = widths(rng, 9), several(rng), rng.choice((2, 2, 3)), rng.randint(1, 2)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, max(1, w // (factor * n + 1))) for _ in range(n)]
        starts = laid_out(rng, w, [k * factor for k in lengths], 1)
        runs = [(s, k, rng.choice(colours)) for s, k in zip(starts, lengths, strict=True)]
        return painted(w, runs), painted(w, [(s, k * factor, c) for s, k, c in runs])

    return flipped(rng, pair)


def shrink(rng: random.Random) -> RowDraw:
    """Take one cell off one end (or both ends) of every run."""
    width, colours, both, n = widths(rng, 9), several(rng), rng.random() < 0.5, rng.randint(1, 3)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, n, 3 if both else 2, max(4, w // (n + 1)), colours)
        after = [(s + 1, k - 2, c) if both else (s + 1, k - 1, c) for s, k, c in runs]
        return painted(w, runs), painted(w, after)

    return flipped(rng, pair)


def halve(rng: random.Random) -> RowDraw:
    """Keep (or recolour) one half of each run of even length."""
    width, (new, *colours), n = widths(rng, 8), colours_of(rng, 4), rng.randint(1, 2)
    rest = rng.choice((0, new))

    def pair() -> RowPair:
        w = width()
        lengths = [2 * rng.randint(1, max(2, w // (2 * n + 2))) for _ in range(n)]
        runs = [(s, k, rng.choice(colours)) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        return painted(w, runs), painted(w, runs + [(s, k // 2, rest) for s, k, _ in runs])

    return flipped(rng, pair)


def fill_gaps(rng: random.Random) -> RowDraw:
    """Colour the black cells between runs (or those outside them)."""
    width, (new, *colours), outside = widths(rng, 8), colours_of(rng, rng.randint(2, 4)), rng.random() < 0.3

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 3), 1, max(1, w // 5), colours)
        row, start, end = painted(w, runs), runs[0][0], runs[-1][0] + runs[-1][1]
        return row, [c or (new if (start <= i < end) != outside else 0) for i, c in enumerate(row)]

    return pair


def exchange_with_black(rng: random.Random) -> RowDraw:
    """Make coloured cells black and black cells coloured."""
    width, colours, new = widths(rng, 5, 16), several(rng), rng.choice((0, *colours_of(rng, 1)))

    def pair() -> RowPair:
        w, c = width(), rng.choice(colours)
        row = painted(w, spread(rng, w, rng.randint(1, 3), 1, max(1, w // 4), [c]))
        return row, [0 if cell else new or c for cell in row]

    return pair


def mark_middle(rng: random.Random) -> RowDraw:
    """Recolour the middle cell (or the two end cells) of each run of odd length."""
    width, (new, *colours), n = widths(rng, 8), colours_of(rng, rng.randint(2, 4)), rng.randint(1, 2)
    ends = rng.random() < 0.4

    def pair() -> RowPair:
        w = width()
        lengths = [2 * rng.randint(1, max(1, w // (2 * n + 2))) + 1 for _ in range(n)]
        runs = [(s, k, rng.choice(colours)) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        answer = painted(w, runs)
        for s, k, _ in runs:
            for i in (s, s + k - 1) if ends else (s + k // 2,):
                answer[i] = new
        return painted(w, runs), answer

    return pair


def fill_by_ends(rng: random.Random) -> RowDraw:
    """Fill the black inside of each pair of end cells with a colour that depends on the ends' colour."""
    width, colours = widths(rng, 9), colours_of(rng, 4)
    inside = dict(zip(colours[:2], colours[2:], strict=True))

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(3, max(3, w // 3)) for _ in range(2)]
        row, answer = [0] * w, [0] * w
        for s, k, c in zip(laid_out(rng, w, lengths, 2), lengths, rng.sample(colours[:2], 2), strict=True):
            row[s] = row[s + k - 1] = c
            answer[s : s + k] = [c, *([inside[c]] * (k - 2)), c]
        return row, answer

    return pair


EXTENT = row_families_of(
    fill_between,
    hollow,
    extend_to_end,
    extend_to_obstacle,
    grow,
    double_length,
    shrink,
    halve,
    fill_gaps,
    exchange_with_black,
    mark_middle,
    fill_by_ends,
)
