"""One-row rules on order and number: reversing, sorting, counting, listing, halving."""

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


def reverse(rng: random.Random) -> RowDraw:
    """Turn the whole row around."""
    width, colours = widths(rng, 5, 16), several(rng)

    def pair() -> RowPair:
        w = width()
        row = painted(w, spread(rng, w, rng.randint(1, 4), 1, max(1, w // 5), colours, rng.randint(0, 1)))
        return row, row[::-1]

    return pair


def reverse_object(rng: random.Random) -> RowDraw:
    """Turn the object of several colours around in its place."""
    width, colours = widths(rng, 7), colours_of(rng, rng.randint(2, 5))

    def pair() -> RowPair:
        w = width()
        k = rng.randint(2, max(3, w // 2))
        s, inks = rng.randint(0, w - k), [rng.choice(colours) for _ in range(k)]
        head, tail = [0] * s, [0] * (w - s - k)
        return head + inks + tail, head + inks[::-1] + tail

    return pair


def mirror_double(rng: random.Random) -> RowDraw:
    """Append the row to itself, mirrored or plain."""
    width, colours, mirrored = widths(rng, 3, 8), colours_of(rng, rng.randint(2, 5)), rng.random() < 0.5

    def pair() -> RowPair:
        row = [rng.choice([0, *colours]) for _ in range(width())]
        return row, row + (row[::-1] if mirrored else row)

    return flipped(rng, pair)


def stretch_cells(rng: random.Random) -> RowDraw:
    """Repeat every cell a fixed number of times."""
    width, colours, factor = widths(rng, 3, 7), colours_of(rng, rng.randint(1, 4)), rng.choice((2, 2, 3))

    def pair() -> RowPair:
        row = [rng.choice([0, *colours]) for _ in range(width())]
        return row, [cell for cell in row for _ in range(factor)]

    return pair


def one_cell_per_run(rng: random.Random) -> RowDraw:
    """List the colours of the runs from left to right, one cell each."""
    width, colours, gap = widths(rng, 8), colours_of(rng, 5), rng.randint(0, 1)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 4), 1, max(2, w // 5), colours, gap)
        if gap == 0 and any(a[2] == b[2] for a, b in pairwise(runs)):
            raise Rejected("runs merge")
        return painted(w, runs), [c for _, _, c in runs]

    return pair


def drop_black(rng: random.Random) -> RowDraw:
    """Give the coloured cells only, in order."""
    width, colours = widths(rng, 5, 14), colours_of(rng, rng.randint(2, 5))

    def pair() -> RowPair:
        row = [rng.choice([0, 0, *colours]) for _ in range(width())]
        return row, [cell for cell in row if cell]

    return pair


def crop_row(rng: random.Random) -> RowDraw:
    """Give what lies between the two markers (or between the outermost coloured cells)."""
    width, (marker, *colours), by_marker = widths(rng, 8), colours_of(rng, 4), rng.random() < 0.5

    def pair() -> RowPair:
        w = width()
        if not by_marker:
            k = rng.randint(2, w // 2)
            inks = [rng.choice(colours), *rng.choices([0, *colours], k=k - 2), rng.choice(colours)]
            s = rng.randint(0, w - k)
            return [0] * s + inks + [0] * (w - s - k), inks
        row = [rng.choice([0, *colours]) for _ in range(w)]
        a, b = sorted(rng.sample(range(w), 2))
        row[a] = row[b] = marker
        if b - a < 2:
            raise Rejected("nothing between")
        return row, row[a + 1 : b]

    return pair


def boolean_halves(rng: random.Random) -> RowDraw:
    """Compare the two halves of the row, left and right of the marker, with one logical operation."""
    n, (first, second, marker, new) = rng.randint(3, 8), colours_of(rng, 4)
    table = rng.choice(((0, 0, 0, 1), (0, 1, 1, 1), (0, 1, 1, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0)))
    second = rng.choice((first, second))

    def pair() -> RowPair:
        a, b = ([rng.randrange(2) for _ in range(n)] for _ in range(2))
        row = [first * x for x in a] + [marker] + [second * y for y in b]
        return row, [new * table[2 * x + y] for x, y in zip(a, b, strict=True)]

    return pair


def take_half(rng: random.Random) -> RowDraw:
    """Give the part on one side of the marker (or simply one half)."""
    width, (marker, *colours), with_marker = widths(rng, 3, 8), colours_of(rng, 4), rng.random() < 0.5

    def pair() -> RowPair:
        n = width()
        a = [rng.choice([0, *colours]) for _ in range(n)]
        b = [rng.choice([0, *colours]) for _ in range(rng.randint(2, 6) if with_marker else n)]
        return a + ([marker] if with_marker else []) + b, a

    return flipped(rng, pair)


def sort_runs(rng: random.Random) -> RowDraw:
    """Sort the runs by length, with one black cell between them, from the start of the row."""
    width, colours, rising = widths(rng, 10), several(rng), rng.random() < 0.5

    def pair() -> RowPair:
        w = width()
        lengths = rng.sample(range(1, 6), rng.randint(2, 3))
        runs = [(s, k, rng.choice(colours)) for s, k in zip(laid_out(rng, w, lengths), lengths, strict=True)]
        cells: list[int] = []
        for _, k, c in sorted(runs, key=lambda run: run[1], reverse=not rising):
            cells += [c] * k + [0]
        return painted(w, runs), (cells + [0] * w)[:w]

    return pair


def group_colours(rng: random.Random) -> RowDraw:
    """Gather cells of the first colour at one end and those of the second at the other."""
    width, (a, b) = widths(rng, 5, 16), colours_of(rng, 2)

    def pair() -> RowPair:
        w = width()
        row = [rng.choice((0, a, b)) for _ in range(w)]
        n, m = row.count(a), row.count(b)
        if not n or not m:
            raise Rejected("one colour")
        return row, [a] * n + [0] * (w - n - m) + [b] * m

    return flipped(rng, pair)


def count_runs(rng: random.Random) -> RowDraw:
    """Give a bar with one cell for each run, in a row of fixed width or of just that length."""
    width, (old, new), fixed = widths(rng, 9), colours_of(rng, 2), rng.choice((0, 6))
    new = rng.choice((old, new))

    def pair() -> RowPair:
        w, n = width(), rng.randint(1, 5)
        row = painted(w, spread(rng, w, n, 1, max(1, w // 6), [old]))
        return row, [new] * n + [0] * (fixed - n)

    return pair


def count_cells(rng: random.Random) -> RowDraw:
    """Make a run at the start of the row as long as there are cells of the counted colour."""
    width, (counted, *others), keep = widths(rng, 7, 16), colours_of(rng, rng.randint(1, 3)), rng.random() < 0.7

    def pair() -> RowPair:
        w = width()
        n = rng.randint(1, min(6, w - 2))
        row = [counted] * n + [rng.choice([0, *others]) for _ in range(w - n)]
        rng.shuffle(row)
        return row, [counted] * n + [0] * ((w - n) if keep else 0)

    return flipped(rng, pair)


def keep_head(rng: random.Random) -> RowDraw:
    """Recolour every run but for its first cell."""
    width, (marker, *colours) = widths(rng, 8), colours_of(rng, 4)

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(1, 3), 2, max(3, w // 4), colours)
        answer = painted(w, [(s, k, marker) for s, k, _ in runs] + [(s, 1, c) for s, k, c in runs])
        return painted(w, runs), answer

    return flipped(rng, pair)


ORDER = row_families_of(
    reverse,
    reverse_object,
    mirror_double,
    stretch_cells,
    one_cell_per_run,
    drop_black,
    crop_row,
    boolean_halves,
    take_half,
    sort_runs,
    group_colours,
    count_runs,
    count_cells,
    keep_head,
)
