"""Grid rules on rooms between walls: flooding and filling by size."""

import random
from itertools import pairwise

from icl_engine.families.family import GridDraw, GridPair, RawGrid, Rejected, families_of
from icl_engine.families.objects import (
    NEIGHBOURS,
    Cells,
    blank,
    copy,
    paint,
    palette,
    scatter,
    sizes,
    speckled,
    transpose,
)


def rooms(rng: random.Random, height: int, width: int, wall: int) -> tuple[RawGrid, list[Cells]]:
    """Draw a grid cut into rooms by full wall lines; return it with the cells of each room."""
    grid = blank(height, width)

    def cuts(side: int) -> list[int]:
        first = rng.randint(1, side - 2)
        second = first + rng.randint(2, 4)
        return [first] if second > side - 2 or rng.random() < 0.4 else [first, second]

    rows, columns = cuts(height), cuts(width)
    paint(grid, [(r, c) for r in rows for c in range(width)] + [(r, c) for c in columns for r in range(height)], wall)
    spans = []
    for lines, side in ((rows, height), (columns, width)):
        limits = [-1, *lines, side]
        spans.append([range(a + 1, b) for a, b in pairwise(limits)])
    return grid, [[(r, c) for r in tall for c in wide] for tall in spans[0] for wide in spans[1]]


def flood_rooms(rng: random.Random) -> GridDraw:
    """Fill each room that holds a pixel with the pixel's colour."""
    size, (wall, *colours) = sizes(rng, 5, 9), palette(rng, 5)

    def pair() -> GridPair:
        grid, places = rooms(rng, *size(), wall)
        answer = copy(grid)
        for cells in rng.sample(places, rng.randint(1, min(3, len(places)))):
            colour = rng.choice(colours)
            paint(grid, [rng.choice(cells)], colour)
            paint(answer, cells, colour)
        return grid, answer

    return pair


def fill_room_by_size(rng: random.Random) -> GridDraw:
    """Fill the largest room with one colour and the smallest with another."""
    size, (wall, large, small) = sizes(rng, 5, 9), palette(rng, 3)
    which = rng.choice(("both", "largest", "smallest"))

    def pair() -> GridPair:
        grid, places = rooms(rng, *size(), wall)
        places.sort(key=len)
        if len(places[0]) == len(places[1]) or len(places[-1]) == len(places[-2]):
            raise Rejected("tie")
        answer = copy(grid)
        if which != "largest":
            paint(answer, places[0], small)
        if which != "smallest":
            paint(answer, places[-1], large)
        return grid, answer

    return pair


def flood_from_seed(rng: random.Random) -> GridDraw:
    """Let the seed pixel flood all black cells it can reach."""
    size, (wall, seed) = sizes(rng, 5, 8), palette(rng, 2)

    def pair() -> GridPair:
        h, w = size()
        grid = speckled(rng, h, w, [wall], 0.42)
        start = (rng.randrange(h), rng.randrange(w))
        grid[start[0]][start[1]] = seed
        answer = copy(grid)
        reached = [start]
        for row, column in reached:
            for down, over in NEIGHBOURS:
                r, c = row + down, column + over
                if 0 <= r < h and 0 <= c < w and not answer[r][c]:
                    answer[r][c] = seed
                    reached.append((r, c))
        if len(reached) < 4:
            raise Rejected("nothing floods")
        return grid, answer

    return pair


def fill_strip(rng: random.Random) -> GridDraw:
    """Fill the strip between two parallel lines."""
    size, (line, new), turned = sizes(rng, 5, 9), palette(rng, 2), rng.random() < 0.5
    noise = rng.random() < 0.4

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        a, b = sorted(rng.sample(range(h), 2))
        if b - a < 2:
            raise Rejected("no strip")
        if noise:
            scatter(rng, grid, rng.randint(1, 3), [line])
        grid[a], grid[b] = [line] * w, [line] * w
        answer = [[cell or new for cell in row] if a < r < b else row[:] for r, row in enumerate(grid)]
        return (transpose(grid), transpose(answer)) if turned else (grid, answer)

    return pair


ROOMS = families_of(
    flood_rooms,
    fill_room_by_size,
    flood_from_seed,
    fill_strip,
)
