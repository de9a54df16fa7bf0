"""Grid rules on the grid as a whole: symmetries, tilings and shifts."""

import random
from collections.abc import Callable

from icl_engine.families.family import GridDraw, GridPair, RawGrid, families_of
from icl_engine.families.objects import (
    anti_transpose,
    beside,
    blank,
    copy,
    crop,
    flip_horizontal,
    flip_vertical,
    rotate,
    stacked,
    transpose,
)
from icl_engine.families.scenes import scene

SYMMETRIES: tuple[Callable[[RawGrid], RawGrid], ...] = (
    flip_horizontal,
    flip_vertical,
    transpose,
    anti_transpose,
    lambda grid: rotate(grid, 1),
    lambda grid: rotate(grid, 2),
    lambda grid: rotate(grid, 3),
)
SIDES = ("left", "right", "up", "down")


def symmetry(rng: random.Random) -> GridDraw:
    """Turn or mirror the whole grid."""
    draw, change = scene(rng, 3, 8), rng.choice(SYMMETRIES)

    def pair() -> GridPair:
        grid = draw()
        return grid, change(grid)

    return pair


def mirror_beside(rng: random.Random) -> GridDraw:
    """Put the mirror image (or a copy) of the grid beside, above or below it."""
    draw, side = scene(rng, 3, 5), rng.choice(SIDES)
    change = rng.choice((flip_horizontal, flip_vertical, copy, lambda grid: rotate(grid, 2)))

    def pair() -> GridPair:
        grid = draw()
        image = change(grid)
        joined = {
            "left": lambda: beside(image, grid),
            "right": lambda: beside(grid, image),
            "up": lambda: stacked(image, grid),
            "down": lambda: stacked(grid, image),
        }
        return grid, joined[side]()

    return pair


def mirror_quadrants(rng: random.Random) -> GridDraw:
    """Make a grid of four quadrants, mirrored, turned or plain copies of the input."""
    draw = scene(rng, 2, 4)
    turns = rng.random() < 0.3
    layout = [rng.choice((copy, flip_horizontal, flip_vertical, lambda g: rotate(g, 2))) for _ in range(4)]
    if rng.random() < 0.5:
        layout = [copy, flip_horizontal, flip_vertical, lambda g: rotate(g, 2)]
    order = rng.sample(range(4), 4)

    def pair() -> GridPair:
        grid = draw()
        if turns:
            if len(grid) != len(grid[0]):
                side = min(len(grid), len(grid[0]))
                grid = crop(grid, 0, 0, side - 1, side - 1)
            a, b, c, d = (rotate(grid, k) for k in order)
        else:
            a, b, c, d = (change(grid) for change in layout)
        return grid, stacked(beside(a, b), beside(c, d))

    return pair


def tile(rng: random.Random) -> GridDraw:
    """Repeat the grid a number of times down and across, every other copy sometimes mirrored."""
    down, across = rng.choice(((1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3)))
    draw = scene(rng, 2, 3 if down * across > 4 else 4)
    change = rng.choice((copy, copy, flip_horizontal, flip_vertical))
    by_row = rng.random() < 0.5

    def pair() -> GridPair:
        grid = draw()
        image = change(grid)
        rows = [beside(*(image if (r if by_row else c) % 2 else grid for c in range(across))) for r in range(down)]
        return grid, stacked(*rows)

    return pair


def shift_cyclic(rng: random.Random) -> GridDraw:
    """Shift the whole grid by fixed steps, what leaves on one side coming back on the other."""
    draw = scene(rng, 3, 7)
    down, across = rng.choice(((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (0, 2), (2, 0), (-1, 1)))

    def pair() -> GridPair:
        grid = draw()
        height, width = len(grid), len(grid[0])
        return grid, [[grid[(r - down) % height][(c - across) % width] for c in range(width)] for r in range(height)]

    return pair


def shift_lost(rng: random.Random) -> GridDraw:
    """Shift the whole grid by fixed steps, what leaves being lost."""
    draw = scene(rng, 3, 7)
    down, across = rng.choice(((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (0, 2), (2, 0), (-1, 1)))

    def pair() -> GridPair:
        grid = draw()
        height, width = len(grid), len(grid[0])
        answer = blank(height, width)
        for r in range(height):
            for c in range(width):
                if 0 <= r - down < height and 0 <= c - across < width:
                    answer[r][c] = grid[r - down][c - across]
        return grid, answer

    return pair


def mirror_half(rng: random.Random) -> GridDraw:
    """Replace one half of the grid by the mirror image of the other."""
    draw, direction, blank_half = scene(rng, 3, 7), rng.randrange(4), rng.random() < 0.6

    def pair() -> GridPair:
        grid = rotate(draw(), direction)
        width = len(grid[0])
        kept = (width + 1) // 2
        answer = [row[:kept] + row[: width - kept][::-1] for row in grid]
        if blank_half:
            grid = [row[:kept] + [0] * (width - kept) for row in grid]
        return rotate(grid, -direction), rotate(answer, -direction)

    return pair


GEOMETRY = families_of(
    symmetry,
    mirror_beside,
    mirror_quadrants,
    tile,
    shift_cyclic,
    shift_lost,
    mirror_half,
)
