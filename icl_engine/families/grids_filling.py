"""Grid rules on containment: holes, frames, outlines, insides and nested rings."""

import random

from icl_engine.families.family import GridDraw, GridPair, RawGrid, Rejected, families_of
from icl_engine.families.objects import (
    AROUND,
    NEIGHBOURS,
    blank,
    box,
    copy,
    enclosed,
    frame,
    moved,
    paint,
    palette,
    place,
    rectangle,
    shape,
    shapes,
    sizes,
    speckled,
)


def fill_holes(rng: random.Random) -> GridDraw:
    """Fill every enclosed black area with one colour."""
    size, (old, new), loose = sizes(rng, 5, 9), palette(rng, 2), rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        if loose:
            grid = speckled(rng, h, w, [old], 0.55)
        else:
            for _ in range(rng.randint(1, 2)):
                cells = frame(rng.randint(3, min(h, 5)), rng.randint(3, min(w, 5)))
                if rng.random() < 0.3:
                    cells.remove(rng.choice(cells))
                place(rng, grid, cells, old)
        answer = copy(grid)
        paint(answer, enclosed(grid), new)
        return grid, answer

    return pair


def fill_frames_by_size(rng: random.Random) -> GridDraw:
    """Fill each frame with a colour that depends on the size of its inside."""
    size, (line, *new) = sizes(rng, 6, 9), palette(rng, 4)
    line_per_size = dict(zip((1, 2, 3), new, strict=True))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        placed = []
        for _ in range(rng.randint(2, 3)):
            inner = rng.randint(1, 3)
            placed.append((inner, place(rng, grid, frame(inner + 2, inner + 2), line, gap=0)))
        answer = copy(grid)
        for inner, cells in placed:
            top, left, _, _ = box(cells)
            paint(answer, moved(rectangle(inner, inner), top + 1, left + 1), line_per_size[inner])
        return grid, answer

    return pair


def outline_objects(rng: random.Random) -> GridDraw:
    """Draw an outline of one colour around every object."""
    size, (line, *colours) = sizes(rng, 5, 9), palette(rng, rng.randint(2, 3))
    around = rng.choice((AROUND, AROUND, NEIGHBOURS))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        found = shapes(rng, grid, [rng.randint(1, 4) for _ in range(rng.randint(1, 2))], colours, gap=2)
        answer = copy(grid)
        for _, cells in found:
            for row, column in cells:
                for r, c in around:
                    if 0 <= row + r < h and 0 <= column + c < w and not grid[row + r][column + c]:
                        answer[row + r][column + c] = line
        return grid, answer

    return pair


def inside_of_rectangles(rng: random.Random) -> GridDraw:
    """Recolour (or empty) the inside of each full rectangle, leaving its outermost cells."""
    size, (new, *colours) = sizes(rng, 6, 9), palette(rng, rng.randint(2, 4))
    inside = rng.choice((0, new))

    def pair() -> GridPair:
        grid = blank(*size())
        answer = copy(grid)
        for _ in range(rng.randint(1, 2)):
            tall, wide, colour = rng.randint(3, 5), rng.randint(3, 5), rng.choice(colours)
            cells = place(rng, grid, rectangle(tall, wide), colour)
            top, left, _, _ = box(cells)
            paint(answer, cells, colour)
            paint(answer, moved(rectangle(tall - 2, wide - 2), top + 1, left + 1), inside)
        return grid, answer

    return pair


def edge_of_rectangles(rng: random.Random) -> GridDraw:
    """Recolour the outermost cells (or the four corners) of each full rectangle."""
    size, (new, *colours) = sizes(rng, 5, 9), palette(rng, rng.randint(2, 4))
    corners = rng.random() < 0.5

    def pair() -> GridPair:
        grid = blank(*size())
        answer = copy(grid)
        for _ in range(rng.randint(1, 2)):
            tall, wide, colour = rng.randint(3, 5), rng.randint(3, 5), rng.choice(colours)
            cells = place(rng, grid, rectangle(tall, wide), colour)
            top, left, bottom, right = box(cells)
            paint(answer, cells, colour)
            ends = [(top, left), (top, right), (bottom, left), (bottom, right)]
            paint(answer, ends if corners else moved(frame(tall, wide), top, left), new)
        return grid, answer

    return pair


def reverse_rings(rng: random.Random) -> GridDraw:
    """Reverse (or shift inwards) the colours of nested rings."""
    colours, turn, square = palette(rng, 6), rng.random() < 0.6, rng.random() < 0.6

    def pair() -> GridPair:
        n = rng.randint(2, 3)
        ring = rng.sample(colours, n)
        after = ring[::-1] if turn else ring[-1:] + ring[:-1]
        h = 2 * n - rng.randint(0, 1)
        w = h if square else 2 * n + rng.randint(0, 2)

        def drawn(order: list[int]) -> RawGrid:
            return [[order[min(r, c, h - 1 - r, w - 1 - c)] for c in range(w)] for r in range(h)]

        return drawn(ring), drawn(after)

    return pair


def fill_box(rng: random.Random) -> GridDraw:
    """Fill the black cells in the box around each object."""
    size, (new, *colours) = sizes(rng, 6, 9), palette(rng, rng.randint(2, 4))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        found = shapes(rng, grid, [rng.randint(3, 6) for _ in range(rng.randint(1, 2))], colours, gap=2)
        answer = copy(grid)
        for _, cells in found:
            top, left, bottom, right = box(cells)
            for r in range(top, bottom + 1):
                for c in range(left, right + 1):
                    answer[r][c] = grid[r][c] or new
        return grid, answer

    return pair


def colour_inside_frames(rng: random.Random) -> GridDraw:
    """Let the pixel inside each frame give its colour to the frame (or to the whole inside)."""
    size, (line, *colours), to_frame = sizes(rng, 6, 9), palette(rng, 5), rng.random() < 0.5

    def pair() -> GridPair:
        grid = blank(*size())
        answer = copy(grid)
        for _ in range(rng.randint(1, 2)):
            tall, wide, colour = rng.randint(3, 5), rng.randint(3, 5), rng.choice(colours)
            cells = place(rng, grid, frame(tall, wide), line)
            top, left, _, _ = box(cells)
            inner = moved(rectangle(tall - 2, wide - 2), top + 1, left + 1)
            seed = [rng.choice(inner)]
            paint(answer, cells, colour if to_frame else line)
            paint(answer, seed if to_frame else inner, colour)
            paint(grid, seed, colour)
        if not to_frame and answer == grid:
            raise Rejected("one-cell frames only")
        return grid, answer

    return pair


def grow_objects(rng: random.Random) -> GridDraw:
    """Grow every object by one cell in its own colour, in all four (or eight) directions."""
    size, colours, around = sizes(rng, 5, 8), palette(rng, rng.randint(1, 3)), rng.choice((NEIGHBOURS, AROUND))

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for _ in range(rng.randint(1, 2)):
            colour = rng.choice(colours)
            for row, column in place(rng, grid, shape(rng, 2, 3, rng.randint(1, 3)), colour, gap=2):
                paint(answer, [(row, column), *moved(around, row, column)], colour)
        return grid, answer

    return pair


FILLING = families_of(
    fill_holes,
    fill_frames_by_size,
    outline_objects,
    inside_of_rectangles,
    edge_of_rectangles,
    reverse_rings,
    fill_box,
    colour_inside_frames,
    grow_objects,
)
