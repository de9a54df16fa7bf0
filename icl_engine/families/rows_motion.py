"""One-row rules that move, reflect or copy runs."""

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


def shift(rng: random.Random) -> RowDraw:
    """Move every run by the same number of cells."""
    width, step, colours = widths(rng), rng.randint(1, 4), several(rng)
    n_runs = rng.randint(1, 3)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, max(2, w // 4)) for _ in range(n_runs)]
        starts = laid_out(rng, w, lengths, 1, 0, step)
        runs = [(s, k, rng.choice(colours)) for s, k in zip(starts, lengths, strict=True)]
        return painted(w, runs), painted(w, [(s + step, k, c) for s, k, c in runs])

    return flipped(rng, pair)


def shift_around(rng: random.Random) -> RowDraw:
    """Move the whole row by some cells, what leaves at one end coming back at the other."""
    width, step, colours = widths(rng, 5, 18), rng.randint(1, 3), several(rng)

    def pair() -> RowPair:
        w = width()
        row = painted(w, spread(rng, w, rng.randint(1, 3), 1, max(1, w // 4), colours))
        return row, row[-step:] + row[:-step]

    return flipped(rng, pair)


def slide_to_marker(rng: random.Random) -> RowDraw:
    """Slide the run until it touches the marker."""
    width, (marker, *colours) = widths(rng), colours_of(rng, rng.randint(2, 4))
    marker_length = rng.choice((1, 1, 2))

    def pair() -> RowPair:
        w = width()
        length = rng.randint(1, w // 3)
        start, at = laid_out(rng, w, [length, marker_length], rng.randint(1, 3))
        colour = rng.choice(colours)
        stop = (at, marker_length, marker)
        return painted(w, [(start, length, colour), stop]), painted(w, [(at - length, length, colour), stop])

    return flipped(rng, pair)


def gravity(rng: random.Random) -> RowDraw:
    """Push everything to one end, keeping the order."""
    width, colours = widths(rng, 6, 20), several(rng)

    def pair() -> RowPair:
        w = width()
        row = painted(w, spread(rng, w, rng.randint(1, 4), 1, 3, colours))
        cells = [c for c in row if c]
        return row, [0] * (w - len(cells)) + cells

    return flipped(rng, pair)


def shift_one_colour(rng: random.Random) -> RowDraw:
    """Move the runs of one colour by a fixed step; the others stay."""
    width, step, (mover, *others) = widths(rng, 10), rng.randint(1, 3), colours_of(rng, rng.randint(2, 4))

    def pair() -> RowPair:
        w = width()
        runs = spread(rng, w, rng.randint(2, 3), 1, max(1, w // 6), others, step + 1)
        i = rng.randrange(len(runs))
        runs[i] = (runs[i][0], runs[i][1], mover)
        if runs[i][0] + runs[i][1] + step > w:
            raise Rejected("leaves the row")
        after = [(s + step if c == mover else s, k, c) for s, k, c in runs]
        return painted(w, runs), painted(w, after)

    return flipped(rng, pair)


def shift_by_length(rng: random.Random) -> RowDraw:
    """Move each run by its own length."""
    width, colours, n = widths(rng, 10), several(rng), rng.randint(1, 2)

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, max(2, w // (3 * n))) for _ in range(n)]
        starts = laid_out(rng, w, [2 * k for k in lengths], 1)
        runs = [(s, k, rng.choice(colours)) for s, k in zip(starts, lengths, strict=True)]
        return painted(w, runs), painted(w, [(s + k, k, c) for s, k, c in runs])

    return flipped(rng, pair)


def shift_by_count(rng: random.Random) -> RowDraw:
    """Move the run by as many cells as there are marker cells at the end of the row."""
    width, (marker, *colours) = widths(rng, 12), colours_of(rng, rng.randint(2, 4))

    def pair() -> RowPair:
        w, n = width(), rng.randint(1, 4)
        k = rng.randint(1, w // 4)
        s = laid_out(rng, w, [k], 1, n + 1, n)[0]
        c = rng.choice(colours)
        stop = (0, n, marker)
        return painted(w, [stop, (s, k, c)]), painted(w, [stop, (s + n, k, c)])

    return flipped(rng, pair)


def slide_to_end(rng: random.Random) -> RowDraw:
    """Slide the run to the end of the row; a marker at the other end may stay."""
    width, colours, with_marker = widths(rng, 6), several(rng), rng.random() < 0.4
    marker = colours_of(rng, 1)[0]

    def pair() -> RowPair:
        w = width()
        k = rng.randint(1, w // 3)
        s, c = rng.randint(2, w - k - 1), rng.choice(colours)
        stop = [(0, 1, marker)] if with_marker else []
        return painted(w, [*stop, (s, k, c)]), painted(w, [*stop, (w - k, k, c)])

    return flipped(rng, pair)


def slide_both_to_marker(rng: random.Random) -> RowDraw:
    """Slide the runs on both sides until they touch the marker between them."""
    width, (marker, *colours) = widths(rng, 10), colours_of(rng, rng.randint(2, 4))

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, w // 4), 1, rng.randint(1, w // 4)]
        a, m, b = laid_out(rng, w, lengths, 1)
        x, y = rng.choice(colours), rng.choice(colours)
        before = [(a, lengths[0], x), (m, 1, marker), (b, lengths[2], y)]
        after = [(m - lengths[0], lengths[0], x), (m, 1, marker), (m + 1, lengths[2], y)]
        return painted(w, before), painted(w, after)

    return pair


def meet(rng: random.Random) -> RowDraw:
    """Move the first run next to the second, leaving a fixed gap."""
    width, colours, gap = widths(rng, 8), several(rng), rng.choice((0, 1, 1, 2))

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, w // 4), rng.randint(1, w // 4)]
        a, b = laid_out(rng, w, lengths, gap + 1)
        x, y = rng.choice(colours), rng.choice(colours)
        if gap == 0 and x == y and len(colours) > 1:
            raise Rejected("runs merge")
        other = (b, lengths[1], y)
        return painted(w, [(a, lengths[0], x), other]), painted(w, [(b - gap - lengths[0], lengths[0], x), other])

    return flipped(rng, pair)


def exchange_places(rng: random.Random) -> RowDraw:
    """Exchange the two runs, keeping the outer borders of the pair."""
    width, colours = widths(rng, 8), colours_of(rng, rng.randint(2, 5))

    def pair() -> RowPair:
        w = width()
        lengths = [rng.randint(1, w // 3), rng.randint(1, w // 3)]
        a, b = laid_out(rng, w, lengths, 1)
        x, y = rng.sample(colours, 2)
        end = b + lengths[1]
        after = [(a, lengths[1], y), (end - lengths[0], lengths[0], x)]
        return painted(w, [(a, lengths[0], x), (b, lengths[1], y)]), painted(w, after)

    return pair


def mirror_at_pivot(rng: random.Random) -> RowDraw:
    """Reflect the object to the other side of the marker (or add its reflection)."""
    width, (marker, *colours) = widths(rng, 9), colours_of(rng, rng.randint(2, 4))
    keep = rng.random() < 0.5

    def pair() -> RowPair:
        w = width()
        at = w // 2 + rng.randint(-1, 1)
        reach = min(at, w - 1 - at)
        k = rng.randint(1, max(1, reach - 1))
        s = rng.randint(at - reach, at - k)
        row = [0] * w
        for i in range(s, s + k):
            row[i] = rng.choice(colours)
        row[at] = marker
        answer = row[:] if keep else [0] * w
        for i in range(s, s + k):
            answer[2 * at - i] = row[i]
        answer[at] = marker
        return row, answer

    return flipped(rng, pair)


def bounce(rng: random.Random) -> RowDraw:
    """Move the run to the mirrored place in the row."""
    width, colours, keep = widths(rng, 6), several(rng), rng.random() < 0.3

    def pair() -> RowPair:
        w = width()
        k, c = rng.randint(1, w // 3), rng.choice(colours)
        s = rng.randint(0, w // 2 - k) if w // 2 > k else 0
        after = [(w - s - k, k, c)] + ([(s, k, c)] if keep else [])
        return painted(w, [(s, k, c)]), painted(w, after)

    return pair


def copy_to_markers(rng: random.Random) -> RowDraw:
    """Copy the object to every marker pixel, centred on it."""
    width, colours, several_inks = widths(rng, 13), colours_of(rng, 3), rng.random() < 0.5
    k = rng.choice((3, 3, 5))

    def pair() -> RowPair:
        w = width()
        inks = [rng.choice(colours) for _ in range(k)] if several_inks else [rng.choice(colours)] * k
        own = inks[k // 2]
        n = rng.randint(1, 2)
        starts = laid_out(rng, w, [k] * (n + 1), 1)
        row, answer = [0] * w, [0] * w
        source = 0 if several_inks else rng.randrange(n + 1)
        for i, s in enumerate(starts):
            ink = own if several_inks else rng.choice(colours)
            new = inks if several_inks else [ink] * k
            answer[s : s + k] = new
            if i == source:
                row[s : s + k] = new
            else:
                row[s + k // 2] = ink
        return row, answer

    return pair


def repeat_to_end(rng: random.Random) -> RowDraw:
    """Repeat the object with a fixed gap up to the end of the row."""
    width, colours, gap = widths(rng, 9), colours_of(rng, 4), rng.randint(0, 2)
    n_colours = rng.randint(1, 3)

    def pair() -> RowPair:
        w, k = width(), rng.randint(max(1, n_colours), 4)
        inks = [colours[rng.randrange(n_colours)] for _ in range(k)]
        if gap == 0 and len(set(inks)) == 1:
            raise Rejected("runs merge")
        s = rng.randint(0, 2)
        row, answer = [0] * w, [0] * w
        row[s : s + k] = inks
        for i in range(s, w):
            at = (i - s) % (k + gap)
            answer[i] = inks[at] if at < k else 0
        return row[:w], answer

    return flipped(rng, pair)


MOTION = row_families_of(
    shift,
    shift_around,
    slide_to_marker,
    gravity,
    shift_one_colour,
    shift_by_length,
    shift_by_count,
    slide_to_end,
    slide_both_to_marker,
    meet,
    exchange_places,
    mirror_at_pivot,
    bounce,
    copy_to_markers,
    repeat_to_end,
)
