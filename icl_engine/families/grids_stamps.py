"""Grid rules that draw around marked places: rings, boxes, stamps and copies."""

import random

from icl_engine.families.family import GridDraw, GridPair, families_of
from icl_engine.families.objects import (
    AROUND,
    DIAGONALS,
    NEIGHBOURS,
    blank,
    copy,
    frame,
    moved,
    paint,
    palette,
    rectangle,
    scatter,
    sizes,
)


def ring_around(rng: random.Random) -> GridDraw:
    """Surround pixels of each colour with its own pattern of neighbours; some colours stay alone."""
    size, colours = sizes(rng, 5, 9), palette(rng, rng.randint(1, 3))
    patterns = {c: rng.choice((NEIGHBOURS, DIAGONALS, AROUND, ((0, -1), (0, 1)), ((-1, 0), (1, 0)))) for c in colours}
    new = {c: rng.choice(palette(rng, 2)) for c in colours}
    if len(colours) == 3:
        patterns[colours[2]] = ()

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        pixels = scatter(rng, grid, rng.randint(1, 3), colours, gap=2)
        answer = copy(grid)
        for colour, cell in pixels:
            paint(answer, moved(patterns[colour], *cell), new[colour])
        return grid, answer

    return pair


def box_from_corners(rng: random.Random) -> GridDraw:
    """Draw the rectangle (its outline, its inside or all of it) whose corners are marked."""
    size, (corner, line) = sizes(rng, 5, 9), palette(rng, 2)
    line = rng.choice((corner, line))
    only_two, part = rng.random() < 0.3, rng.choice(("outline", "inside", "all"))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        tall, wide = rng.randint(3, min(h, 6)), rng.randint(3, min(w, 6))
        top, left = rng.randint(0, h - tall), rng.randint(0, w - wide)
        corners = [(0, 0), (tall - 1, wide - 1), (0, wide - 1), (tall - 1, 0)]
        edge, whole = frame(tall, wide), rectangle(tall, wide)
        cells = {"outline": edge, "all": whole, "inside": [c for c in whole if c not in edge]}[part]
        marked = moved(corners[: 2 if only_two else 4], top, left)
        paint(grid, marked, corner)
        answer = copy(grid)
        paint(answer, moved(cells, top, left), line)
        paint(answer, marked, corner)
        return grid, answer

    return pair


def stamp_pattern(rng: random.Random) -> GridDraw:
    """Put one fixed small pattern of several colours at every marker pixel."""
    size, (marker, *colours) = sizes(rng, 5, 9), palette(rng, 4)
    pattern = [(cell, rng.choice(colours[: rng.randint(1, 3)])) for cell in rng.sample(AROUND, rng.randint(2, 6))]
    centre = rng.choice((marker, marker, 0))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        pixels = scatter(rng, grid, rng.randint(1, 3), [marker], gap=2, margin=rng.choice((0, 1)))
        answer = copy(grid)
        for _, (row, column) in pixels:
            answer[row][column] = centre
            for (r, c), colour in pattern:
                paint(answer, [(row + r, column + c)], colour)
        return grid, answer

    return pair


def copy_to_markers(rng: random.Random) -> GridDraw:
    """Copy the pattern shown around one marker to every other marker."""
    size, (marker, *colours) = sizes(rng, 6, 9), palette(rng, 4)

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        spots = [cell for _, cell in scatter(rng, grid, rng.randint(2, 3), [marker], gap=2, margin=1)]
        pattern = [(cell, rng.choice(colours)) for cell in rng.sample(AROUND, rng.randint(3, 6))]
        answer = copy(grid)
        for i, (row, column) in enumerate(spots):
            for (r, c), colour in pattern:
                paint(answer, [(row + r, column + c)], colour)
                if i == 0:
                    paint(grid, [(row + r, column + c)], colour)
        return grid, answer

    return pair


STAMPS = families_of(
    ring_around,
    box_from_corners,
    stamp_pattern,
    copy_to_markers,
)
