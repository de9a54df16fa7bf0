"""Grid rules that keep, remove or crop whole objects."""

import random
from itertools import pairwise

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    beside,
    blank,
    box,
    copy,
    crop,
    frame,
    normalised,
    paint,
    palette,
    place,
    rectangle,
    scatter,
    shape,
    shapes,
    sizes,
    speckled,
    stacked,
)


def keep_extreme(rng: random.Random) -> GridDraw:
    """Keep only the largest (or only the smallest) object."""
    size, colours, largest = sizes(rng, 6, 9), palette(rng, rng.randint(1, 4)), rng.random() < 0.6

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        found = shapes(rng, grid, rng.sample(range(1, 8), rng.randint(2, 3)), colours)
        colour, cells = sorted(found, key=lambda item: len(item[1]))[-1 if largest else 0]
        answer = blank(h, w)
        paint(answer, cells, colour)
        return grid, answer

    return pair


def crop_extreme(rng: random.Random) -> GridDraw:
    """Crop the largest (or the smallest) object."""
    size, colours, largest = sizes(rng, 6, 9), palette(rng, rng.randint(1, 4)), rng.random() < 0.6

    def pair() -> GridPair:
        grid = blank(*size())
        found = shapes(rng, grid, rng.sample(range(2, 9), rng.randint(2, 3)), colours)
        _, cells = sorted(found, key=lambda item: len(item[1]))[-1 if largest else 0]
        top, left, bottom, right = box(cells)
        piece = crop(grid, top, left, bottom, right)
        inside_box = {(r - top, c - left) for r, c in cells}
        if any(cell and (r, c) not in inside_box for r, row in enumerate(piece) for c, cell in enumerate(row)):
            raise Rejected("boxes overlap")
        return grid, piece

    return pair


def crop_colour(rng: random.Random) -> GridDraw:
    """Crop the object of one colour, always the same."""
    size, (chosen, *others) = sizes(rng, 6, 9), palette(rng, rng.randint(2, 5))

    def pair() -> GridPair:
        grid = blank(*size())
        _, cells = shapes(rng, grid, [rng.randint(2, 7)], [chosen])[0]
        shapes(rng, grid, [rng.randint(1, 6) for _ in range(rng.randint(1, 2))], others)
        piece = crop(grid, *box(cells))
        return grid, [[cell if cell == chosen else 0 for cell in row] for row in piece]

    return pair


def keep_colour(rng: random.Random) -> GridDraw:
    """Keep the cells of one colour (or drop those of one colour)."""
    size, (chosen, *others) = sizes(rng, 3, 7), palette(rng, rng.randint(2, 5))
    drop, density = rng.random() < 0.5, rng.choice((0.4, 0.7))

    def pair() -> GridPair:
        grid = speckled(rng, *size(), [chosen, chosen, *others], density)
        return grid, [[cell if (cell == chosen) != drop else 0 for cell in row] for row in grid]

    return pair


def remove_touching_edge(rng: random.Random) -> GridDraw:
    """Remove (or keep only) the objects that touch the edge of the grid."""
    size, colours, keep = sizes(rng, 6, 9), palette(rng, rng.randint(1, 3)), rng.random() < 0.4

    def pair() -> GridPair:
        h, w = size()
        grid, answer = blank(h, w), blank(h, w)
        found = shapes(rng, grid, [rng.randint(1, 4)], colours, 2, margin=1)
        found += shapes(rng, grid, [rng.randint(1, 4) for _ in range(rng.randint(1, 3))], colours, 2)
        for colour, cells in found:
            top, left, bottom, right = box(cells)
            if (top == 0 or left == 0 or bottom == h - 1 or right == w - 1) == keep:
                paint(answer, cells, colour)
        if not any(map(any, answer)):
            raise Rejected("nothing left")
        return grid, answer

    return pair


def remove_noise(rng: random.Random) -> GridDraw:
    """Remove single pixels around larger rectangles."""
    size, colours = sizes(rng, 6, 10), palette(rng, rng.randint(1, 3))
    noise = [rng.choice(colours)] if rng.random() < 0.5 else palette(rng, 1)

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        for _ in range(rng.randint(1, 2)):
            place(rng, grid, rectangle(rng.randint(2, 3), rng.randint(2, 4)), rng.choice(colours))
        answer = copy(grid)
        scatter(rng, grid, rng.randint(1, 4), noise, gap=1)
        return grid, answer

    return pair


def crop_odd_one(rng: random.Random) -> GridDraw:
    """Crop the object whose shape (or colour) differs from that of all others."""
    size, colours, by_colour = sizes(rng, 7, 10), palette(rng, rng.randint(2, 4)), rng.random() < 0.4

    def pair() -> GridPair:
        grid = blank(*size())
        usual, odd = shape(rng, 2, 3, rng.randint(3, 5)), shape(rng, 3, 2, rng.randint(3, 5))
        if sorted(usual) == sorted(odd):
            raise Rejected("same shapes")
        a, b = rng.sample(colours, 2)
        answer_cells = place(rng, grid, odd, a)
        for _ in range(rng.randint(2, 3)):
            place(rng, grid, shape(rng, 2, 3, 3) if by_colour else usual, b if by_colour else rng.choice((a, b)))
        piece = crop(grid, *box(answer_cells))
        own = set(normalised(answer_cells))
        if any(cell and (r, c) not in own for r, row in enumerate(piece) for c, cell in enumerate(row)):
            raise Rejected("boxes overlap")
        return grid, piece

    return pair


def join_objects(rng: random.Random) -> GridDraw:
    """Cut out the objects (all in boxes of one size) and put them side by side in their order of appearance."""
    size, colours, side, vertical = sizes(rng, 6, 9), palette(rng, 4), rng.randint(2, 3), rng.random() < 0.5
    n_objects = rng.randint(2, 3)

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        boxes = []
        for colour in rng.sample(colours, n_objects):
            cells = shape(rng, side, side, side * side - rng.randint(0, 2))
            if box(cells)[2:] != (side - 1, side - 1):
                raise Rejected("not the full box")
            boxes.append(box(place(rng, grid, cells, colour)))
        key = 0 if vertical else 1
        if len({b[key] for b in boxes}) < n_objects:
            raise Rejected("no order")
        ordered = sorted(boxes, key=lambda b: b[key])
        if any(after[key] <= before[key + 2] for before, after in pairwise(ordered)):
            raise Rejected("boxes overlap in the reading direction")
        pieces = [crop(grid, *b) for b in ordered]
        return grid, (stacked(*pieces) if vertical else beside(*pieces))

    return pair


def crop_inside_frame(rng: random.Random) -> GridDraw:
    """Crop what is inside the frame, sometimes with the frame."""
    size, (colour, *others) = sizes(rng, 6, 9), palette(rng, rng.randint(2, 5))
    with_frame, noisy = rng.random() < 0.3, rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        cells = place(rng, grid, frame(rng.randint(4, min(5, h)), rng.randint(4, min(6, w))), colour)
        top, left, bottom, right = box(cells)
        for r in range(h):
            for c in range(w):
                in_frame = top < r < bottom and left < c < right
                if not grid[r][c] and rng.random() < (0.5 if in_frame else 0.25 if noisy else 0):
                    grid[r][c] = rng.choice(others)
        cut = 0 if with_frame else 1
        return grid, crop(grid, top + cut, left + cut, bottom - cut, right - cut)

    return pair


CROPPING = families_of(
    keep_extreme,
    crop_extreme,
    crop_colour,
    keep_colour,
    remove_touching_edge,
    remove_noise,
    crop_odd_one,
    join_objects,
    crop_inside_frame,
)
