"""Grid rules that continue, repeat or grow a pattern."""

import random

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    blank,
    crop,
    flip_horizontal,
    flip_vertical,
    paint,
    palette,
    rotate,
    sizes,
    speckled,
    transpose,
)


def continue_rows(rng: random.Random) -> GridDraw:
    """Continue the pattern of the first rows down the empty part."""
    colours, turn, gaps = palette(rng, 6), rng.randrange(4), rng.random() < 0.5
    width, height = rng.randint(3, 6), rng.randint(6, 10)

    def pair() -> GridPair:
        period = rng.randint(1, 3)
        inks = rng.sample(colours, rng.randint(1, 3)) + ([0] if gaps else [])
        rows = [[rng.choice(inks) for _ in range(width)] for _ in range(period)]
        if len({tuple(row) for row in rows}) < period or not all(map(any, rows)):
            raise Rejected("rows repeat")
        shown = min(height - 2, period * 2 - 1 + rng.randint(0, 1)) if period > 1 else 1
        answer = [rows[r % period][:] for r in range(height)]
        grid = [row[:] if r < shown else [0] * width for r, row in enumerate(answer)]
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def repeat_block(rng: random.Random) -> GridDraw:
    """Fill the grid by repeating the block in its corner."""
    colours, tall, wide = palette(rng, 5), rng.randint(2, 3), rng.randint(2, 3)
    down, across, turn = rng.randint(1, 3), rng.randint(2, 3), rng.randrange(4)

    def pair() -> GridPair:
        block = speckled(rng, tall, wide, rng.sample(colours, 3), 0.85)
        h, w = tall * down, wide * across
        answer = [[block[r % tall][c % wide] for c in range(w)] for r in range(h)]
        grid = [[cell if r < tall and c < wide else 0 for c, cell in enumerate(row)] for r, row in enumerate(answer)]
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def checkerboard(rng: random.Random) -> GridDraw:
    """Turn black cells (or the two halves' colours) into a checkerboard of the grid's colours."""
    size, colours, from_halves = sizes(rng, 3, 7), palette(rng, 6), rng.random() < 0.5
    first = rng.randrange(2)

    def pair() -> GridPair:
        h, w = size()
        a, b = rng.sample(colours, 2)
        answer = [[(a, b)[(r + c + first) % 2] for c in range(w)] for r in range(h)]
        if from_halves:
            cut = (w + 1) // 2
            return [[a if c < cut else b for c in range(w)] for _ in range(h)], answer
        grid = blank(h, w)
        grid[0][:2] = answer[0][:2]
        return grid, answer

    return pair


def stripes_from_pixels(rng: random.Random) -> GridDraw:
    """Draw full lines at the two pixels and repeat them, alternating, at the same distance to the edge."""
    colours, turn, repeat = palette(rng, 4), rng.randrange(4), rng.random() < 0.75
    height, width = rng.randint(2, 5), rng.randint(8, 13)

    def pair() -> GridPair:
        a, b = rng.sample(colours, 2)
        start, step = rng.randint(0, 3), rng.randint(1, 3)
        grid, answer = blank(height, width), blank(height, width)
        grid[0][start] = a
        grid[rng.choice((0, height - 1))][start + step] = b
        for i, column in enumerate(range(start, width, step)):
            if i < 2 or repeat:
                paint(answer, [(r, column) for r in range(height)], (a, b)[i % 2])
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def staircase(rng: random.Random) -> GridDraw:
    """Grow (or shrink) the bar by one cell in each following row."""
    turn, colours, grow = rng.randrange(4), palette(rng, 4), rng.random() < 0.6
    only_below, second = rng.random() < 0.5, rng.choice((0, *palette(rng, 1)))

    def pair() -> GridPair:
        w, colour = rng.randint(4, 8), rng.choice(colours)
        length = rng.randint(1, w // 2) if grow else rng.randint(2, min(5, w))
        if only_below:
            rows = [[colour] * length + [0] * (w - length)]
            height = w - length + 1 if grow else length
        else:
            rows, height = [[colour] * length + [0] * (w - length)], rng.randint(2, 5)
        answer = []
        for r in range(height):
            n = max(0, min(w, length + r if grow else length - r))
            ink = second if second and r else colour
            answer.append([ink] * n + [0] * (w - n))
        if only_below:
            return rotate(rows, turn), rotate(answer, turn)
        return rotate(rows + blank(height - 1, w), turn), rotate(answer, turn)

    return pair


def make_symmetric(rng: random.Random) -> GridDraw:
    """Add the mirror image of the drawing to it, in the same grid."""
    size, colours = sizes(rng, 4, 7), palette(rng, rng.randint(1, 3))
    mirrors = rng.choice(((flip_horizontal,), (flip_vertical,), (flip_horizontal, flip_vertical)))

    def pair() -> GridPair:
        grid = speckled(rng, *size(), colours, 0.2)
        if not any(map(any, grid)):
            raise Rejected("empty")
        answer = grid
        for mirror in mirrors:
            image = mirror(answer)
            if any(a and b and a != b for x, y in zip(answer, image, strict=True) for a, b in zip(x, y, strict=True)):
                raise Rejected("colours clash")
            answer = [[a or b for a, b in zip(x, y, strict=True)] for x, y in zip(answer, image, strict=True)]
        return grid, answer

    return pair


def extend_grid(rng: random.Random) -> GridDraw:
    """Continue the periodic pattern beyond the grid, to a fixed larger size, sometimes in other colours."""
    height, width, more = rng.randint(2, 4), rng.randint(4, 6), rng.randint(2, 4)
    colours, turned, new = palette(rng, 3), rng.random() < 0.5, rng.randint(1, 9)
    recolour = rng.random() < 0.3 and new not in colours

    def pair() -> GridPair:
        period = rng.randint(2, width // 2)
        inks = [0, colours[0]] if recolour else [0, *colours]
        columns = [[rng.choice(inks) for _ in range(height)] for _ in range(period)]
        if len({tuple(column) for column in columns}) < period:
            raise Rejected("columns repeat")
        answer = transpose([columns[i % period] for i in range(width + more)])
        grid = crop(answer, 0, 0, height - 1, width - 1)
        if recolour:
            answer = [[new if cell else 0 for cell in row] for row in answer]
        return (transpose(grid), transpose(answer)) if turned else (grid, answer)

    return pair


PATTERNS = families_of(
    continue_rows,
    repeat_block,
    checkerboard,
    stripes_from_pixels,
    staircase,
    make_symmetric,
    extend_grid,
)
