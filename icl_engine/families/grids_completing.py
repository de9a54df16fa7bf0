"""Grid rules that restore what is covered, missing or spoilt in a pattern or an object."""

import random

from icl_engine.families.family import GridDraw, GridPair, RawGrid, Rejected, families_of
from icl_engine.families.objects import (
    blank,
    copy,
    crop,
    paint,
    palette,
    place,
    rectangle,
    rotate,
    shape,
    sizes,
)


def periodic(rng: random.Random, height: int, width: int, colours: list[int]) -> RawGrid:
    """Draw a full grid that repeats a small tile of at least two colours."""
    tall, wide = rng.randint(1, 3), rng.randint(2, 3)
    small = [[rng.choice(colours) for _ in range(wide)] for _ in range(tall)]
    if len({cell for row in small for cell in row}) < 2:
        raise Rejected("one colour")
    grid = [[small[r % tall][c % wide] for c in range(width)] for r in range(height)]
    return grid


def symmetric(rng: random.Random, side: int, colours: list[int], fourfold: bool) -> RawGrid:
    """Draw a full square grid with left-right (and top-bottom) symmetry."""
    half = (side + 1) // 2
    rows = [[rng.choice(colours) for _ in range(half)] for _ in range(half if fourfold else side)]
    grid = [row + row[: side - half][::-1] for row in rows]
    return grid + [row[:] for row in grid[: side - half][::-1]] if fourfold else grid


def occluded(rng: random.Random, grid: RawGrid, colour: int) -> tuple[RawGrid, tuple[int, int, int, int]]:
    """Cover a small rectangle; return the covered grid and the rectangle's corners."""
    h, w = len(grid), len(grid[0])
    tall, wide = rng.randint(1, min(3, h - 2)), rng.randint(1, min(3, w - 2))
    top, left = rng.randint(0, h - tall), rng.randint(0, w - wide)
    covered = copy(grid)
    paint(covered, [(top + r, left + c) for r in range(tall) for c in range(wide)], colour)
    return covered, (top, left, top + tall - 1, left + wide - 1)


def complete_periodic(rng: random.Random) -> GridDraw:
    """Restore the covered part of a periodic pattern."""
    size, (cover, *colours) = sizes(rng, 6, 8), palette(rng, 5)
    cover = rng.choice((0, cover))

    def pair() -> GridPair:
        h, w = size()
        grid = periodic(rng, h, w, rng.sample(colours, rng.randint(2, 4)))
        return occluded(rng, grid, cover)[0], grid

    return pair


def complete_symmetry(rng: random.Random) -> GridDraw:
    """Restore the covered part of a symmetric pattern."""
    side, (cover, *colours), fourfold = rng.randint(4, 8), palette(rng, 5), rng.random() < 0.6
    cover, turn = rng.choice((0, cover)), rng.randrange(2)

    def pair() -> GridPair:
        grid = rotate(symmetric(rng, side, colours, fourfold), turn)
        covered, (top, left, bottom, right) = occluded(rng, grid, cover)
        hidden = {(r, c) for r in range(top, bottom + 1) for c in range(left, right + 1)}
        for r, c in hidden:
            twins = {(r, side - 1 - c)} if turn == 0 else {(side - 1 - r, c)}
            if fourfold:
                twins = {(r, side - 1 - c), (side - 1 - r, c), (side - 1 - r, side - 1 - c)}
            if twins <= hidden:
                raise Rejected("the axis is covered")
        return covered, grid

    return pair


def crop_covered(rng: random.Random) -> GridDraw:
    """Give only the content of the covered part of a symmetric pattern."""
    side, (cover, *colours) = rng.choice((6, 7, 8)), palette(rng, 6)

    def pair() -> GridPair:
        grid = symmetric(rng, side, colours, True)
        top, left = rng.randint(0, side - 3), rng.randint(0, side // 2 - 2)
        tall, wide = rng.randint(1, 3), 2
        covered = copy(grid)
        paint(covered, [(top + r, left + c) for r in range(tall) for c in range(wide)], cover)
        if left + wide > side // 2:
            raise Rejected("the axis is covered")
        return covered, crop(grid, top, left, top + tall - 1, left + wide - 1)

    return pair


def complete_object(rng: random.Random) -> GridDraw:
    """Mirror the half object over the line at its side."""
    size, (axis, *colours), turn = sizes(rng, 6, 9), palette(rng, 4), rng.randrange(4)
    n_colours, keep_axis = rng.randint(1, 3), rng.random() < 0.7

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        column = rng.randint(3, w - 3) if w > 6 else 3
        for row in grid:
            row[column] = axis
        side = min(column, w - 1 - column)
        cells = shape(rng, min(4, h), side, rng.randint(3, 6))
        top = rng.randint(0, h - 1 - max(r for r, _ in cells))
        left = column - 1 - max(c for _, c in cells)
        answer = copy(grid)
        for r, c in cells:
            ink = rng.choice(colours[:n_colours])
            grid[top + r][left + c] = answer[top + r][left + c] = ink
            answer[top + r][2 * column - left - c] = ink
        if not keep_axis:
            for row in answer:
                row[column] = 0
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def repair_periodic(rng: random.Random) -> GridDraw:
    """Remove the noise from a periodic pattern."""
    size, (noise, *colours) = sizes(rng, 6, 8), palette(rng, 5)

    def pair() -> GridPair:
        h, w = size()
        answer = periodic(rng, h, w, rng.sample(colours, rng.randint(2, 3)))
        grid = copy(answer)
        for _ in range(rng.randint(1, 5)):
            grid[rng.randrange(h)][rng.randrange(w)] = noise
        return grid, answer

    return pair


def uncover_rectangle(rng: random.Random) -> GridDraw:
    """Remove the bar drawn over a rectangle and restore the rectangle behind it."""
    size, (front, *colours) = sizes(rng, 6, 9), palette(rng, 3)

    def pair() -> GridPair:
        h, w = size()
        answer = blank(h, w)
        tall, wide = rng.randint(3, 4), rng.randint(3, 4)
        cells = place(rng, answer, rectangle(tall, wide), rng.choice(colours))
        grid = copy(answer)
        top, left = cells[0]
        row = top + rng.randint(1, tall - 2)
        paint(grid, [(row, c) for c in range(max(0, left - rng.randint(0, 2)), min(w, left + wide + 1))], front)
        return grid, answer

    return pair


COMPLETING = families_of(
    complete_periodic,
    complete_symmetry,
    crop_covered,
    complete_object,
    repair_periodic,
    uncover_rectangle,
)
