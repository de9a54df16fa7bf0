"""Grid rules that move, repair, repeat or change whole objects."""

import random
from collections.abc import Callable

from icl_engine.families.family import GridDraw, GridPair, RawGrid, Rejected, families_of
from icl_engine.families.objects import (
    Cells,
    blank,
    box,
    copy,
    fall,
    flip_horizontal,
    flip_vertical,
    moved,
    paint,
    palette,
    place,
    rectangle,
    rotate,
    scatter,
    shape,
    shapes,
    sizes,
    speckled,
)


def inside(cells: Cells, height: int, width: int) -> bool:
    """Tell whether all cells lie in a grid of this size."""
    return all(0 <= r < height and 0 <= c < width for r, c in cells)


def move_objects(rng: random.Random) -> GridDraw:
    """Move every object of the moving colours by a fixed step; another colour, if there, stays."""
    size, (still, *movers) = sizes(rng, 5, 8), palette(rng, rng.randint(2, 4))
    down, over = rng.choice(((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, 1), (0, 2), (2, 0), (-2, 0), (0, -2)))
    with_still = rng.random() < 0.4

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        found = shapes(rng, grid, [rng.randint(1, 4) for _ in range(rng.randint(1, 2))], movers)
        if with_still:
            shapes(rng, grid, [rng.randint(1, 2)], [still], 2, 2)
        answer = [[cell if cell == still else 0 for cell in row] for row in grid]
        for colour, cells in found:
            target = moved(cells, down, over)
            if not inside(target, h, w) or any(answer[r][c] for r, c in target):
                raise Rejected("moves out")
            paint(answer, target, colour)
        return grid, answer

    return pair


def move_until_contact(rng: random.Random) -> GridDraw:
    """Slide the mover straight towards the fixed object until they touch."""
    size, (mover, fixed) = sizes(rng, 6, 9), palette(rng, 2)
    any_direction = rng.random() < 0.5
    turns = rng.randrange(4)

    def pair() -> GridPair:
        h, w = size()
        turn = rng.randrange(4) if any_direction else turns
        a, b = shape(rng, 2, 3), rectangle(rng.randint(1, 3), rng.randint(1, 2))
        _, _, bottom, right = box(a)
        row = rng.randint(0, h - bottom - 1)
        if row + bottom >= h or right + 4 > w:
            raise Rejected("too small")
        tall, wide = box(b)[2], box(b)[3]
        left = rng.randint(right + 2, w - wide - 1)
        gap_left = rng.randint(0, left - right - 2)
        body = moved(a, row, gap_left)
        target = moved(b, min(max(0, row - rng.randint(0, tall)), h - 1 - tall), left)
        wall = set(target)
        if not inside(target, h, w):
            raise Rejected("wall outside")
        step = 0
        while not any((r, c + step + 1) in wall for r, c in body):
            step += 1
            if step > w:
                raise Rejected("not aligned")
        grid, answer = blank(h, w), blank(h, w)
        paint(grid, target, fixed)
        paint(answer, target, fixed)
        paint(grid, body, mover)
        paint(answer, moved(body, 0, step), mover)
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def gravity(rng: random.Random) -> GridDraw:
    """Let every cell fall to one side of the grid."""
    size, colours, turn = sizes(rng, 3, 7), palette(rng, rng.randint(1, 4)), rng.randrange(4)
    density = rng.choice((0.2, 0.35, 0.5))

    def pair() -> GridPair:
        grid = speckled(rng, *size(), colours, density)
        return rotate(grid, turn), rotate(fall(grid), turn)

    return pair


def gravity_of_objects(rng: random.Random) -> GridDraw:
    """Let rigid objects fall to one side until they rest on the edge or on another object."""
    size, colours, turn = sizes(rng, 5, 8), palette(rng, rng.randint(1, 3)), rng.randrange(4)

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        found = shapes(rng, grid, [rng.randint(2, 4) for _ in range(rng.randint(1, 3))], colours)
        moving = True
        while moving:
            moving = False
            for k, (colour, cells) in enumerate(found):
                others = {cell for i, (_, taken) in enumerate(found) if i != k for cell in taken}
                lower = moved(cells, 1, 0)
                if all(r < h and (r, c) not in others for r, c in lower):
                    found[k], moving = (colour, lower), True
        for colour, cells in found:
            paint(answer, cells, colour)
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def slide_to_wall(rng: random.Random) -> GridDraw:
    """Let every cell slide towards the coloured wall, whichever side it is on."""
    size, (wall, *colours) = sizes(rng, 4, 7), palette(rng, rng.randint(2, 4))

    def pair() -> GridPair:
        h, w = size()
        grid = speckled(rng, h, w, colours, 0.25)
        turn = rng.randrange(4)
        floor = [[wall] * w]
        return rotate(grid + floor, turn), rotate(fall(grid) + floor, turn)

    return pair


def repair_rectangles(rng: random.Random) -> GridDraw:
    """Fill the missing or miscoloured cells inside rectangles."""
    size, (noise, *colours) = sizes(rng, 6, 9), palette(rng, rng.randint(2, 4))
    hole = rng.choice((0, noise))
    also_outside = hole and rng.random() < 0.4

    def pair() -> GridPair:
        h, w = size()
        answer = blank(h, w)
        found = [
            place(rng, answer, rectangle(rng.randint(3, 4), rng.randint(3, 5)), rng.choice(colours))
            for _ in range(rng.randint(1, 2))
        ]
        grid = copy(answer)
        for cells in found:
            top, left, bottom, right = box(cells)
            inner = [(r, c) for r, c in cells if top < r < bottom and left < c < right]
            paint(grid, rng.sample(inner, rng.randint(1, (len(inner) + 1) // 2)), hole)
        if also_outside:
            scatter(rng, grid, rng.randint(1, 2), [noise], gap=1)
        return grid, answer

    return pair


def trail(rng: random.Random) -> GridDraw:
    """Let the object leave a trail of its own (or another) colour to the edge, in one direction."""
    size, colours, turn = sizes(rng, 5, 8), palette(rng, rng.randint(1, 3)), rng.randrange(4)
    tail = rng.choice((0, *palette(rng, 1, colours)))

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        found = shapes(rng, grid, [rng.randint(1, 4) for _ in range(rng.randint(1, 2))], colours)
        answer = copy(grid)
        for colour, cells in found:
            for r, c in cells:
                for column in range(c + 1, w):
                    if not answer[r][column]:
                        answer[r][column] = tail or colour
                    elif grid[r][column] and (r, column) not in cells:
                        raise Rejected("trail meets an object")
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def flip_each(rng: random.Random) -> GridDraw:
    """Mirror or turn each object inside its own box."""
    size, colours = sizes(rng, 6, 9), palette(rng, rng.randint(2, 5))
    change: Callable[[RawGrid], RawGrid] = rng.choice((flip_horizontal, flip_vertical, lambda g: rotate(g, 2)))
    side, mixed = rng.choice((2, 3)), rng.random() < 0.6

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        for _ in range(rng.randint(1, 3)):
            cells = place(rng, grid, rectangle(side, rng.randint(2, 3)), 1)
            top, left, bottom, right = box(cells)
            two = rng.sample(colours, 2) if mixed else [rng.choice(colours), 0]
            piece = [[rng.choice(two) for _ in range(left, right + 1)] for _ in range(top, bottom + 1)]
            if not mixed:
                piece[0][0] = piece[-1][-1] = two[0]
            for r, (before, after) in enumerate(zip(piece, change(piece), strict=True)):
                grid[top + r][left : right + 1] = before
                answer[top + r][left : right + 1] = after
        return grid, answer

    return pair


def repeat_object(rng: random.Random) -> GridDraw:
    """Repeat the object in one direction, at equal distances, up to the edge."""
    size, colours, turn, gap = sizes(rng, 6, 10), palette(rng, rng.randint(1, 4)), rng.randrange(4), rng.randint(0, 1)

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        colour, cells = rng.choice(colours), shape(rng, 3, 2)
        step = box(cells)[3] + 1 + gap
        start = moved(cells, rng.randint(0, h - box(cells)[2] - 1), rng.randint(0, 1))
        paint(grid, start, colour)
        answer = copy(grid)
        for k in range(1, w):
            paint(answer, moved(start, 0, k * step), colour)
        return rotate(grid, turn), rotate(answer, turn)

    return pair


OBJECTS = families_of(
    move_objects,
    move_until_contact,
    gravity,
    gravity_of_objects,
    slide_to_wall,
    repair_rectangles,
    trail,
    flip_each,
    repeat_object,
)
