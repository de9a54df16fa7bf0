"""Grid rules that recolour objects by size, rank, shape, place, holes or neighbours."""

import random

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    NEIGHBOURS,
    blank,
    box,
    copy,
    frame,
    paint,
    palette,
    place,
    rectangle,
    rotate,
    shape,
    shapes,
    sizes,
    speckled,
)


def recolour_by_size(rng: random.Random) -> GridDraw:
    """Colour each object by its number of cells."""
    size, (old, *new) = sizes(rng, 5, 9), palette(rng, 4)
    counts = sorted(rng.sample(range(1, 6), rng.randint(2, 3)))
    by_count = dict(zip(counts, new, strict=False))

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for _, cells in shapes(rng, grid, rng.choices(counts, k=rng.randint(2, 4)), [old]):
            paint(answer, cells, by_count[len(cells)])
        return grid, answer

    return pair


def recolour_extreme(rng: random.Random) -> GridDraw:
    """Give the largest object one colour, and the smallest (or all others) another or none."""
    size, (old, first, second) = sizes(rng, 6, 9), palette(rng, 3)
    mode = rng.randrange(4)

    def pair() -> GridPair:
        grid = blank(*size())
        found = shapes(rng, grid, rng.sample(range(1, 8), rng.randint(2, 4)), [old])
        answer = copy(grid)
        ordered = sorted((cells for _, cells in found), key=len)
        if mode == 0:
            paint(answer, ordered[-1], first)
        elif mode == 1:
            paint(answer, ordered[0], first)
        else:
            for cells in ordered[:1] if mode == 2 else ordered[:-1]:
                paint(answer, cells, second)
            paint(answer, ordered[-1], first)
        return grid, answer

    return pair


def recolour_by_rank(rng: random.Random) -> GridDraw:
    """Colour bars by their rank in length."""
    size, (old, *new) = sizes(rng, 5, 8), palette(rng, 4)
    turn, grounded = rng.randrange(4), rng.random() < 0.6

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        n = min(3, (w + 1) // 2)
        heights = rng.sample(range(1, h + 1), n)
        order = sorted(heights, reverse=True)
        offset = rng.randint(0, w - 2 * n + 1)
        for i, tall in enumerate(heights):
            top = h - tall if grounded else rng.randint(0, h - tall)
            cells = [(top + r, offset + 2 * i) for r in range(tall)]
            paint(grid, cells, old)
            paint(answer, cells, new[order.index(tall)])
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def recolour_by_shape(rng: random.Random) -> GridDraw:
    """Colour each object by its shape, the shapes being fixed."""
    size, (old, *new) = sizes(rng, 6, 9), palette(rng, 4)
    kinds = [shape(rng, 3, 3, rng.randint(3, 5)) for _ in range(rng.randint(2, 3))]
    if any(a == b for i, a in enumerate(kinds) for b in kinds[:i]):
        raise Rejected("same shapes")

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for _ in range(rng.randint(2, 3)):
            i = rng.randrange(len(kinds))
            paint(answer, place(rng, grid, kinds[i], old), new[i])
        return grid, answer

    return pair


def recolour_touching_edge(rng: random.Random) -> GridDraw:
    """Recolour the objects that touch the edge of the grid (or those that do not)."""
    size, (old, new), touching = sizes(rng, 6, 9), palette(rng, 2), rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        found = shapes(rng, grid, [rng.randint(1, 4)], [old], 2, margin=1)
        found += shapes(rng, grid, [rng.randint(1, 4) for _ in range(rng.randint(1, 3))], [old], 2)
        answer = copy(grid)
        for _, cells in found:
            top, left, bottom, right = box(cells)
            if (top == 0 or left == 0 or bottom == h - 1 or right == w - 1) == touching:
                paint(answer, cells, new)
        return grid, answer

    return pair


def recolour_with_hole(rng: random.Random) -> GridDraw:
    """Recolour closed frames; full rectangles and frames with a gap stay (or take another colour)."""
    size, (old, closed, other) = sizes(rng, 6, 9), palette(rng, 3)
    other = rng.choice((old, other))

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for kind in (0, *(rng.randrange(3) for _ in range(rng.randint(1, 2)))):
            height, width = 3, rng.choice((3, 3, 4))
            cells = rectangle(height, width) if kind == 1 else frame(height, width)
            if kind == 2:
                cells.remove(rng.choice([cell for cell in cells if cell[0] == 0 and 0 < cell[1] < width - 1]))
            paint(answer, place(rng, grid, cells, old), closed if kind == 0 else other)
        return grid, answer

    return pair


def recolour_by_orientation(rng: random.Random) -> GridDraw:
    """Colour horizontal lines in one way and vertical lines in another."""
    size, (old, flat, upright) = sizes(rng, 5, 8), palette(rng, 3)

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for _ in range(rng.randint(2, 4)):
            lying, length = rng.random() < 0.5, rng.randint(2, 4)
            cells = place(rng, grid, rectangle(1, length) if lying else rectangle(length, 1), old)
            paint(answer, cells, flat if lying else upright)
        return grid, answer

    return pair


def recolour_side(rng: random.Random) -> GridDraw:
    """Recolour what lies on one side of a dividing line."""
    size, (line, old, new), turn = sizes(rng, 5, 8), palette(rng, 3), rng.randrange(4)

    def pair() -> GridPair:
        h, w = size()
        grid = speckled(rng, h, w, [old], 0.35)
        at = rng.randint(1, w - 2)
        for row in grid:
            row[at] = line
        answer = [[new if cell == old and c > at else cell for c, cell in enumerate(row)] for row in grid]
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def colour_by_neighbours(rng: random.Random) -> GridDraw:
    """Recolour the cells that have all four neighbours coloured (or the lonely cells that have none)."""
    size, (old, new), lonely = sizes(rng, 5, 8), palette(rng, 2), rng.random() < 0.5
    density = 0.3 if lonely else 0.75

    def pair() -> GridPair:
        h, w = size()
        grid = speckled(rng, h, w, [old], density)
        answer = copy(grid)
        for r in range(h):
            for c in range(w):
                n = sum(0 <= r + y < h and 0 <= c + x < w and grid[r + y][c + x] == old for y, x in NEIGHBOURS)
                if grid[r][c] and n == (0 if lonely else 4):
                    answer[r][c] = new
        return grid, answer

    return pair


RECOLOURING = families_of(
    recolour_by_size,
    recolour_extreme,
    recolour_by_rank,
    recolour_by_shape,
    recolour_touching_edge,
    recolour_with_hole,
    recolour_by_orientation,
    recolour_side,
    colour_by_neighbours,
)
