"""One-row rules that change colours only."""

import random

from icl_engine.families.family import Rejected, RowDraw, RowPair, row_families_of
from icl_engine.families.runs import (
    colours_of,
    flipped,
    laid_out,
    painted,
    spread,
    widths,
)


def swap_colours(rng: random.Random) -> RowDraw:
    """Exchange two colours."""
    width, (a, b) = widths(rng, 5, 20), colours_of(rng, 2)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 4), 1, max(1, w // 5), [a, b], rng.randint(0, 1))
        return painted(w, runs), painted(w, [(s, k, b if c == a else a) for s, k, c in runs])

    return pair


def recolour_by_length(rng: random.Random) -> RowDraw:
    """Colour each run by its length."""
    width, (old, *new) = widths(rng, 9), colours_of(rng, 4)
    lengths = rng.sample(range(1, 6), rng.randint(2, 3))

    def pair() -> RowPair:
        w = width()
        chosen = rng.choices(lengths, k=rng.randint(2, 4))
        runs = [(s, k, old) for s, k in zip(laid_out(rng, w, chosen), chosen, strict=True)]
        return painted(w, runs), painted(w, [(s, k, new[lengths.index(k)]) for s, k, _ in runs])

    return pair


def recolour_extreme(rng: random.Random) -> RowDraw:
    """Recolour the longest (or shortest) run, or all the others."""
    width, (old, new), longest, others = widths(rng, 9), colours_of(rng, 2), rng.random() < 0.6, rng.random() < 0.25

    def pair() -> RowPair:
        w = width()
        lengths = rng.sample(range(1, max(5, w // 3)), rng.randint(2, 4))
        best = max(lengths) if longest else min(lengths)
        runs = [(s, k, old) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        return painted(w, runs), painted(w, [(s, k, new if (k == best) != others else old) for s, k, _ in runs])

    return pair


def recolour_all_longest(rng: random.Random) -> RowDraw:
    """Colour all runs of the greatest length in one way and all shorter ones in another."""
    width, (old, first, second) = widths(rng, 9), colours_of(rng, 3)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, 4) for _ in range(rng.randint(2, 4))]
        best = max(lengths)
        if min(lengths) == best:
            raise Rejected("all equal")
        runs = [(s, k, old) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        return painted(w, runs), painted(w, [(s, k, first if k == best else second) for s, k, _ in runs])

    return pair


def recolour_by_parity(rng: random.Random) -> RowDraw:
    """Colour runs of even length in one way and runs of odd length in another."""
    width, (old, even, odd) = widths(rng, 10), colours_of(rng, 3)
    odd = rng.choice((old, odd))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 3), 1, max(4, w // 4), [old])
        return painted(w, runs), painted(w, [(s, k, odd if k % 2 else even) for s, k, _ in runs])

    return pair


def recolour_by_place(rng: random.Random) -> RowDraw:
    """Recolour the first, the last or both outer runs."""
    width, (new, *colours), which = widths(rng, 8), colours_of(rng, rng.randint(2, 4)), rng.choice(("first", "outer"))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(3, 4), 1, max(1, w // 5), colours)
        last = len(runs) - 1
        after = [(s, k, new if i == 0 or (which == "outer" and i == last) else c) for i, (s, k, c) in enumerate(runs)]
        return painted(w, runs), painted(w, after)

    return flipped(rng, pair)


def recolour_in_turn(rng: random.Random) -> RowDraw:
    """Colour the runs in turn with two or three colours, from one end."""
    width, (old, *new) = widths(rng, 10), colours_of(rng, rng.randint(3, 4))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(3, 5), 1, 3, [old])
        return painted(w, runs), painted(w, [(s, k, new[i % len(new)]) for i, (s, k, _) in enumerate(runs)])

    return flipped(rng, pair)


def recolour_cells_in_turn(rng: random.Random) -> RowDraw:
    """Recolour every second (or third) cell of each run."""
    width, (new, *colours), step = widths(rng, 8), colours_of(rng, rng.randint(2, 3)), rng.choice((2, 2, 3))
    first = rng.randrange(2)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(1, 2), 3, max(4, w // 2), colours)
        answer = painted(w, runs)
        for s, k, _ in runs:
            for i in range(s + first, s + k, step):
                answer[i] = new
        return painted(w, runs), answer

    return flipped(rng, pair)


def colour_from_marker(rng: random.Random) -> RowDraw:
    """Give the runs the colour of the pixel at the end of the row."""
    width, (old, *new), keep = widths(rng, 7), colours_of(rng, 6), rng.random() < 0.6

    def pair() -> RowPair:
        w, ink = width(), rng.choice(new)
        lengths = [rng.randint(1, max(2, w // 4)) for _ in range(rng.randint(1, 3))]
        runs = [(s, k, old) for s, k in zip(laid_out(rng, w, lengths, 1, 2), lengths, strict=True)]
        marker = [(0, 1, ink)]
        return painted(w, runs + marker), painted(w, [(s, k, ink) for s, k, _ in runs] + (marker if keep else []))

    return flipped(rng, pair)


def replace_colour(rng: random.Random) -> RowDraw:
    """Replace one colour by another (or by black)."""
    width, (old, new, *others) = widths(rng, 6, 20), colours_of(rng, rng.randint(3, 5))
    new = rng.choice((0, new))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 4), 1, max(1, w // 5), [old, *others], rng.randint(0, 1))
        return painted(w, runs), painted(w, [(s, k, new if c == old else c) for s, k, c in runs])

    return pair


def keep_colour(rng: random.Random) -> RowDraw:
    """Keep only the runs of one colour."""
    width, (kept, *others) = widths(rng, 8), colours_of(rng, rng.randint(2, 5))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 5), 1, max(1, w // 6), [kept, kept, *others], rng.randint(0, 1))
        if all(c != kept for _, _, c in runs):
            raise Rejected("nothing left")
        return painted(w, runs), painted(w, [run for run in runs if run[2] == kept])

    return pair


def exchange_run_colours(rng: random.Random) -> RowDraw:
    """Exchange the colours of the two runs, whatever they are."""
    width, colours = widths(rng, 6), colours_of(rng, 6)

    def pair() -> RowPair:
        w = width()
        (a, k, _), (b, m, _) = spread(rng, w, 2, 1, max(2, w // 3), [1])
        x, y = rng.sample(colours, 2)
        return painted(w, [(a, k, x), (b, m, y)]), painted(w, [(a, k, y), (b, m, x)])

    return pair


def recolour_pixels(rng: random.Random) -> RowDraw:
    """Recolour single pixels (or all longer runs)."""
    width, (old, new), single = widths(rng, 9), colours_of(rng, 2), rng.random() < 0.5

    def pair() -> RowPair:
        w = width()
        lengths = [1, rng.randint(2, 5)] + [rng.choice((1, 1, 2, 3)) for _ in range(rng.randint(0, 2))]
        rng.shuffle(lengths)
        runs = [(s, k, old) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        return painted(w, runs), painted(w, [(s, k, new if (k == 1) == single else old) for s, k, _ in runs])

    return pair


def commonest_colour(rng: random.Random) -> RowDraw:
    """Give all runs the colour that has the most cells."""
    width, colours = widths(rng, 8), colours_of(rng, 4)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(3, 4), 1, max(2, w // 5), rng.sample(colours, 2))
        row = painted(w, runs)
        counts = sorted((row.count(c), c) for c in colours)
        if counts[-1][0] == counts[-2][0]:
            raise Rejected("tie")
        return row, [counts[-1][1] if cell else 0 for cell in row]

    return pair


def colour_touching_marker(rng: random.Random) -> RowDraw:
    """Recolour the runs that touch a marker."""
    width, (marker, old, new) = widths(rng, 9), colours_of(rng, 3)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(2, 5) for _ in range(rng.randint(2, 3))]
        row, answer = [0] * w, [0] * w
        for i, (s, k) in enumerate(zip(laid_out(rng, w, lengths), lengths, strict=True)):
            touching = i == 0 or rng.random() < 0.4
            end = s + k - 1 if touching else s + k
            row[s:end] = [old] * (end - s)
            answer[s:end] = [new if touching else old] * (end - s)
            if touching:
                row[end] = answer[end] = marker
        return row, answer

    return flipped(rng, pair)


ROW_COLOUR = row_families_of(
    swap_colours,
    recolour_by_length,
    recolour_extreme,
    recolour_all_longest,
    recolour_by_parity,
    recolour_by_place,
    recolour_in_turn,
    recolour_cells_in_turn,
    colour_from_marker,
    replace_colour,
    keep_colour,
    exchange_run_colours,
    recolour_pixels,
    commonest_colour,
    colour_touching_marker,
)
