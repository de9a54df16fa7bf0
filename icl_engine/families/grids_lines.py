"""Grid rules that draw lines: rays, crossing lines, connections and bounces."""

import random

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    AROUND,
    DIAGONALS,
    NEIGHBOURS,
    Cell,
    blank,
    copy,
    paint,
    palette,
    place,
    rotate,
    scatter,
    sizes,
    transpose,
)


def ray(start: Cell, step: Cell, height: int, width: int) -> list[Cell]:
    """Return the cells after `start` in one direction, up to the edge."""
    cells = []
    row, column = start[0] + step[0], start[1] + step[1]
    while 0 <= row < height and 0 <= column < width:
        cells.append((row, column))
        row, column = row + step[0], column + step[1]
    return cells


def shoot_rays(rng: random.Random) -> GridDraw:
    """Shoot a straight ray from each pixel to the edge, in one direction."""
    size, colours, step = sizes(rng, 4, 8), palette(rng, rng.randint(1, 3)), rng.choice(NEIGHBOURS)
    tail = rng.choice((0, 0, *palette(rng, 1, colours)))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        pixels = scatter(rng, grid, rng.randint(1, 3), colours)
        if len({cell[0 if step[0] == 0 else 1] for _, cell in pixels}) < len(pixels):
            raise Rejected("rays overlap")
        answer = copy(grid)
        for colour, cell in pixels:
            paint(answer, ray(cell, step, h, w), tail or colour)
        return grid, answer

    return pair


def rays_by_colour(rng: random.Random) -> GridDraw:
    """Shoot rays whose directions depend on the pixel's colour."""
    size, colours = sizes(rng, 5, 8), palette(rng, 2)
    directions = {colour: rng.sample(AROUND, rng.randint(1, 2)) for colour in colours}

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for colour in rng.sample(colours, 2):
            cell = place(rng, grid, [(0, 0)], colour, gap=0)[0]
            for step in directions[colour]:
                cells = ray(cell, step, h, w)
                if any(answer[r][c] or grid[r][c] for r, c in cells):
                    raise Rejected("rays cross")
                paint(answer, cells, colour)
            if answer[cell[0]][cell[1]]:
                raise Rejected("pixel on a ray")
            answer[cell[0]][cell[1]] = colour
        return grid, answer

    return pair


def diagonal_rays(rng: random.Random) -> GridDraw:
    """Shoot diagonal rays from each pixel, in some of the four diagonal directions."""
    size, colours = sizes(rng, 4, 8), palette(rng, rng.randint(1, 3))
    steps = rng.choice((list(DIAGONALS), list(DIAGONALS), rng.sample(DIAGONALS, 1), rng.sample(DIAGONALS, 2)))
    n = rng.choice((1, 1, 2))

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        pixels = scatter(rng, grid, n, [rng.choice(colours)])
        for colour, cell in pixels:
            paint(answer, [cell], colour)
            for step in steps:
                paint(answer, ray(cell, step, h, w), colour)
        return grid, answer

    return pair


def rays_to_obstacle(rng: random.Random) -> GridDraw:
    """Shoot a ray from each pixel in one direction until an obstacle or the edge stops it."""
    size, (source, wall), turn = sizes(rng, 5, 8), palette(rng, 2), rng.randrange(4)

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        rows = rng.sample(range(h), rng.randint(2, 3))
        for row in rows:
            grid[row][rng.randint(0, 1)] = source
            if rng.random() < 0.75:
                grid[row][rng.randint(3, w - 1)] = wall
        scatter(rng, grid, rng.randint(0, 2), [wall])
        answer = copy(grid)
        for row in rows:
            at = grid[row].index(source) + 1
            while at < w and not grid[row][at]:
                answer[row][at] = source
                at += 1
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def connect_pixels(rng: random.Random) -> GridDraw:
    """Connect pixels of the same colour that lie in one row or one column."""
    size, colours = sizes(rng, 5, 8), palette(rng, rng.randint(1, 3))
    line = rng.choice((0, *palette(rng, 1, colours)))
    mode = rng.choice(("rows", "columns", "both"))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        turned = mode == "columns" or (mode == "both" and rng.random() < 0.5)
        for row in rng.sample(range(h), rng.randint(1, 3)):
            a, b = sorted(rng.sample(range(w), 2))
            grid[row][a] = colour = rng.choice(colours)
            if rng.random() < 0.8:
                grid[row][b] = colour
        # pixels that happen to share a column would have to be connected too
        for column in zip(*grid, strict=True):
            seen = [cell for cell in column if cell]
            if mode == "both" and len(seen) > len(set(seen)):
                raise Rejected("aligned by chance")
        answer = copy(grid)
        for before, after in zip(grid, answer, strict=True):
            ends = [c for c, cell in enumerate(before) if cell]
            if len(ends) == 2:
                after[ends[0] + 1 : ends[1]] = [line or before[ends[0]]] * (ends[1] - ends[0] - 1)
        return (transpose(grid), transpose(answer)) if turned else (grid, answer)

    return pair


def cross_lines(rng: random.Random) -> GridDraw:
    """Draw the full row and column of the pixel, sometimes marking the crossing."""
    size, colours = sizes(rng, 4, 8), palette(rng, rng.randint(1, 3))
    line, own_line = palette(rng, 1, colours)[0], rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        colour, (row, column) = scatter(rng, grid, 1, colours)[0]
        drawn = colour if own_line else line
        paint(answer, [(row, c) for c in range(w)] + [(r, column) for r in range(h)], drawn)
        answer[row][column] = colour
        return grid, answer

    return pair


def full_lines(rng: random.Random) -> GridDraw:
    """Draw the full row of each pixel of one colour and the full column of each pixel of the other."""
    size, (flat, upright) = sizes(rng, 4, 8), palette(rng, 2)
    above = rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        pixels = scatter(rng, grid, rng.randint(1, 3), [flat, upright], gap=1)
        answer = blank(h, w)
        for first in (above, not above):
            for colour, (row, column) in pixels:
                if (colour == flat) == first:
                    line = [(row, c) for c in range(w)] if colour == flat else [(r, column) for r in range(h)]
                    paint(answer, line, colour)
        return grid, answer

    return pair


def lines_by_row(rng: random.Random) -> GridDraw:
    """Fill the row (or column) of each pixel at the side with its colour."""
    size, colours, turn = sizes(rng, 3, 8), palette(rng, 5), rng.randrange(4)

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        for row in rng.sample(range(h), rng.randint(1, max(1, h - 1))):
            grid[row][0] = rng.choice(colours)
        return rotate(grid, turn), rotate([[row[0]] * w for row in grid], turn)

    return pair


def crossing_colour(rng: random.Random) -> GridDraw:
    """Extend two pixels at the edges to full lines; their crossing takes a third colour."""
    size, (a, b, crossing) = sizes(rng, 4, 7), palette(rng, 3)

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        row, column = rng.randint(1, h - 1), rng.randint(1, w - 1)
        grid[row][0], grid[0][column] = a, b
        paint(answer, [(row, c) for c in range(w)], a)
        paint(answer, [(r, column) for r in range(h)], b)
        answer[row][column] = crossing
        return grid, answer

    return pair


def bouncing_line(rng: random.Random) -> GridDraw:
    """Continue the diagonal from the corner pixel, bouncing off the sides, to the other end."""
    size, colours, turn = sizes(rng, 3, 8), palette(rng, 3), rng.randrange(4)
    width = rng.randint(2, 4)

    def pair() -> GridPair:
        h, colour = size()[0] + 3, rng.choice(colours)
        grid, answer = blank(h, width), blank(h, width)
        column, step = 0, 1
        for row in range(h - 1, -1, -1):
            answer[row][column] = colour
            if not 0 <= column + step < width:
                step = -step
            column += step
        grid[-1][0] = colour
        return rotate(grid, turn), rotate(answer, turn)

    return pair


LINES = families_of(
    shoot_rays,
    rays_by_colour,
    diagonal_rays,
    rays_to_obstacle,
    connect_pixels,
    cross_lines,
    full_lines,
    lines_by_row,
    crossing_colour,
    bouncing_line,
)
