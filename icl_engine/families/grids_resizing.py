"""Grid rules that resize the grid: scalings, halves, crops, borders and repeated edges."""

import random
from itertools import pairwise

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    blank,
    components,
    copy,
    crop,
    flip_horizontal,
    flip_vertical,
    palette,
    place,
    scaled,
    shape,
    sizes,
    speckled,
    transpose,
)
from icl_engine.families.scenes import scene


def scale_up(rng: random.Random) -> GridDraw:
    """Enlarge every cell to a block of fixed size."""
    down, across = rng.choice(((2, 2), (2, 2), (3, 3), (1, 2), (2, 1), (1, 3), (3, 1)))
    draw = scene(rng, 2, 3 if down * across > 4 else 5)

    def pair() -> GridPair:
        grid = draw()
        return grid, scaled(grid, down, across)

    return pair


def scale_down(rng: random.Random) -> GridDraw:
    """Shrink every block of fixed size to one cell."""
    down, across = rng.choice(((2, 2), (2, 2), (3, 3), (1, 2), (2, 1)))
    draw = scene(rng, 2, 3 if down * across > 4 else 4)

    def pair() -> GridPair:
        grid = draw()
        return scaled(grid, down, across), grid

    return pair


def take_part(rng: random.Random) -> GridDraw:
    """Keep one half or one quadrant of the grid."""
    size = sizes(rng, 2, 4)
    colours = palette(rng, rng.randint(1, 5))
    part = rng.choice(("left", "right", "up", "down", "first", "second", "third", "fourth"))

    def pair() -> GridPair:
        h, w = size()
        tall, wide = (1 if part in ("left", "right") else 2), (1 if part in ("up", "down") else 2)
        grid = speckled(rng, h * tall, w * wide, colours, 0.7)
        top = h if part in ("down", "third", "fourth") else 0
        left = w if part in ("right", "second", "fourth") else 0
        return grid, crop(grid, top, left, top + h - 1, left + w - 1)

    return pair


def crop_objects(rng: random.Random) -> GridDraw:
    """Crop the grid to the box around everything that is not background."""
    size, colours = sizes(rng, 5, 8), palette(rng, rng.randint(1, 4))
    change = rng.choice((copy, copy, copy, flip_horizontal, flip_vertical))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        for row, column in place(rng, grid, shape(rng, 4, 4, rng.randint(3, 9)), colours[0]):
            grid[row][column] = rng.choice(colours)
        cells = [cell for _, part in components(grid, by_colour=False) for cell in part]
        rows, columns = [r for r, _ in cells], [c for _, c in cells]
        return grid, change(crop(grid, min(rows), min(columns), max(rows), max(columns)))

    return pair


def remove_edge(rng: random.Random) -> GridDraw:
    """Drop the outermost ring, or one outer row or column, of the grid."""
    draw = scene(rng, 4, 7)
    top, left, bottom, right = rng.choice(((1, 1, 1, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))

    def pair() -> GridPair:
        grid = draw()
        return grid, crop(grid, top, left, len(grid) - 1 - bottom, len(grid[0]) - 1 - right)

    return pair


def add_border(rng: random.Random) -> GridDraw:
    """Draw a border of one colour, either around the grid or over its outermost cells."""
    draw = scene(rng, 3, 6)
    colour, outside = rng.randint(1, 9), rng.random() < 0.5

    def pair() -> GridPair:
        grid = draw()
        if outside:
            width = len(grid[0]) + 2
            return grid, [[colour] * width, *([colour, *row, colour] for row in grid), [colour] * width]
        last, end = len(grid) - 1, len(grid[0]) - 1
        return grid, [
            [colour if r in (0, last) or c in (0, end) else cell for c, cell in enumerate(row)]
            for r, row in enumerate(grid)
        ]

    return pair


def repeat_edge(rng: random.Random) -> GridDraw:
    """Widen the grid by repeating its outermost cells (corners sometimes black)."""
    draw, black_corners = scene(rng, 2, 5), rng.random() < 0.5

    def pair() -> GridPair:
        grid = draw()
        wide = [[row[0], *row, row[-1]] for row in grid]
        top, bottom = wide[0][:], wide[-1][:]
        if black_corners:
            top[0] = top[-1] = bottom[0] = bottom[-1] = 0
        return grid, [top, *wide, bottom]

    return pair


def drop_duplicate_lines(rng: random.Random) -> GridDraw:
    """Keep one of each stretch of equal neighbouring rows and columns."""
    colours = palette(rng, rng.randint(2, 5))

    def pair() -> GridPair:
        height, width = rng.randint(1, 3), rng.randint(2, 3)
        small = [[rng.choice(colours) for _ in range(width)] for _ in range(height)]
        if any(a == b for a, b in pairwise(small)):
            raise Rejected("equal rows")
        turned = transpose(small)
        if any(a == b for a, b in pairwise(turned)):
            raise Rejected("equal columns")
        tall = [row[:] for row in small for _ in range(rng.randint(1, 3))]
        return transpose([row[:] for row in transpose(tall) for _ in range(rng.randint(1, 3))]), small

    return pair


def fractal(rng: random.Random) -> GridDraw:
    """Place a copy of the small grid at each of its own coloured (or black) cells."""
    colour = rng.randint(1, 9)
    several = palette(rng, 3) if rng.random() < 0.4 else [colour]
    at_black = rng.random() < 0.2
    side = rng.choice((2, 3, 3))

    def pair() -> GridPair:
        grid = speckled(rng, side, side, several, 0.55)
        answer = blank(side * side, side * side)
        for r, row in enumerate(grid):
            for c, cell in enumerate(row):
                if (cell == 0) == at_black:
                    for dr in range(side):
                        answer[r * side + dr][c * side : (c + 1) * side] = grid[dr]
        return grid, answer

    return pair


RESIZING = families_of(
    scale_up,
    scale_down,
    take_part,
    crop_objects,
    remove_edge,
    add_border,
    repeat_edge,
    drop_duplicate_lines,
    fractal,
)
