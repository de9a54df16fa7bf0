"""Grid rules on colours themselves: maps, exchanges, keys and sources of colour."""

import random

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    blank,
    count,
    palette,
    recoloured,
    rotate,
    shapes,
    sizes,
    speckled,
    transpose,
)
from icl_engine.families.scenes import scene


def colour_map(rng: random.Random) -> GridDraw:
    """Replace each colour by another one, the same map in all pairs."""
    size, n = sizes(rng, 3, 5), rng.randint(2, 5)
    colours, targets = palette(rng, n), palette(rng, n)
    mapping, density = dict(zip(colours, targets, strict=True)), rng.choice((0.6, 1.0))

    def pair() -> GridPair:
        h, w = size()
        grid = speckled(rng, h, w, colours, density)
        for colour in colours:  # every colour is seen in every pair, so the map can be read off
            grid[rng.randrange(h)][rng.randrange(w)] = colour
        return grid, recoloured(grid, mapping)

    return pair


def replace_colour(rng: random.Random) -> GridDraw:
    """Replace one colour by another, all others staying."""
    draw_size, (old, new, *others) = sizes(rng, 3, 7), palette(rng, rng.randint(2, 6))
    density = rng.choice((0.3, 0.6, 1.0))

    def pair() -> GridPair:
        grid = speckled(rng, *draw_size(), [old, old, *others], density)
        return grid, recoloured(grid, {old: new})

    return pair


def swap_two_colours(rng: random.Random) -> GridDraw:
    """Exchange two colours (black may be one), all others staying."""
    size, (a, b, *others) = sizes(rng, 3, 6), palette(rng, rng.randint(2, 5))
    b = 0 if rng.random() < 0.3 else b
    density = rng.choice((0.5, 0.8))

    def pair() -> GridPair:
        grid = speckled(rng, *size(), [a, a, b, b, *others], density)
        return grid, recoloured(grid, {a: b, b: a})

    return pair


def swap_present_colours(rng: random.Random) -> GridDraw:
    """Exchange the two colours of the grid, whichever they are in each pair."""
    size, colours = sizes(rng, 3, 6), palette(rng, 7)

    def pair() -> GridPair:
        two = rng.sample(colours, 2)
        grid = speckled(rng, *size(), two, rng.choice((0.6, 1.0)))
        if not all(count(grid, colour) for colour in two):
            raise Rejected("one colour only")
        return grid, recoloured(grid, {two[0]: two[1], two[1]: two[0]})

    return pair


def colour_key(rng: random.Random) -> GridDraw:
    """Recolour by the key in the first rows, where each row says old colour, new colour; the key differs by pair."""
    size, n_keys, cut = sizes(rng, 3, 5), rng.randint(1, 2), rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        colours = palette(rng, 2 * n_keys)
        old, new = colours[:n_keys], colours[n_keys:]
        grid = speckled(rng, h, w, old, 0.6)
        for colour in old:
            grid[rng.randrange(h)][rng.randrange(w)] = colour
        key = [[a, b] + [0] * (w - 2) for a, b in zip(old, new, strict=True)]
        answer = recoloured(grid, dict(zip(old, new, strict=True)))
        gap = [[0] * w]
        return key + gap + grid, answer if cut else key + gap + answer

    return pair


def colour_from_corner(rng: random.Random) -> GridDraw:
    """Give the objects the colour of the pixel in one corner."""
    size, old, turn, keep = sizes(rng, 5, 8), rng.randint(1, 9), rng.randrange(4), rng.random() < 0.5
    new = palette(rng, 5, [old])

    def pair() -> GridPair:
        h, w = size()
        colour = rng.choice(new)
        grid = blank(h, w)
        grid[0][0] = colour
        shapes(rng, grid, [rng.randint(3, 6) for _ in range(rng.randint(1, 2))], [old])
        answer = recoloured(grid, {old: colour})
        if not keep:
            answer[0][0] = 0
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def colour_lines_alternately(rng: random.Random) -> GridDraw:
    """Recolour every second (or third) column or row, counted from the first."""
    draw, (old, new), step = sizes(rng, 4, 8), palette(rng, 2), rng.choice((2, 2, 3))
    first, turned, full = rng.randrange(step), rng.random() < 0.5, rng.random() < 0.4

    def pair() -> GridPair:
        h, w = draw()
        if full:
            grid = blank(h, w)
            shapes(rng, grid, [min(h, w) + 4], [old], min(h, w))
        else:
            grid = speckled(rng, h, w, [old], 0.6)
        answer = [[new if cell and c % step == first else cell for c, cell in enumerate(row)] for row in grid]
        return (transpose(grid), transpose(answer)) if turned else (grid, answer)

    return pair


def fill_background(rng: random.Random) -> GridDraw:
    """Colour the black cells, or all coloured cells, with one colour."""
    draw, colour, background = scene(rng, 3, 7), rng.randint(1, 9), rng.random() < 0.6

    def pair() -> GridPair:
        grid = draw()
        return grid, [[cell or colour if background else colour if cell else 0 for cell in row] for row in grid]

    return pair


COLOUR = families_of(
    colour_map,
    replace_colour,
    swap_two_colours,
    swap_present_colours,
    colour_key,
    colour_from_corner,
    colour_lines_alternately,
    fill_background,
)
