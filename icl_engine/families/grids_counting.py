"""Grid rules on numbers and order: counting cells, objects and colours, comparing and sorting."""

import random

from icl_engine.families.family import GridDraw, GridPair, Rejected, families_of
from icl_engine.families.objects import (
    blank,
    count,
    palette,
    place,
    rectangle,
    rotate,
    scaled,
    scatter,
    shapes,
    sizes,
    speckled,
    transpose,
)


def count_pixels(rng: random.Random) -> GridDraw:
    """Give a bar with one cell for each pixel of the counted colour (sometimes in a row of fixed width)."""
    size, (counted, *others) = sizes(rng, 3, 6), palette(rng, rng.randint(1, 3))
    fixed, upright, new = rng.choice((0, 6)), rng.random() < 0.4, rng.choice((counted, *palette(rng, 1)))

    def pair() -> GridPair:
        grid, n = blank(*size()), rng.randint(1, 5)
        scatter(rng, grid, n, [counted])
        if others:
            scatter(rng, grid, rng.randint(1, 3), others)
        answer = [[new] * n + [0] * (fixed - n)]
        return grid, transpose(answer) if upright else answer

    return pair


def count_objects(rng: random.Random) -> GridDraw:
    """Give a bar with one cell for each object."""
    size, (colour, new) = sizes(rng, 5, 8), palette(rng, 2)
    fixed, upright, new = rng.choice((0, 5)), rng.random() < 0.4, rng.choice((colour, new))
    squares = rng.random() < 0.3

    def pair() -> GridPair:
        grid, n = blank(*size()), rng.randint(1, 4)
        if squares:
            for _ in range(n):
                place(rng, grid, rectangle(2, 2), colour)
        else:
            shapes(rng, grid, [rng.randint(1, 4) for _ in range(n)], [colour])
        answer = [[new] * n + [0] * (fixed - n)]
        return grid, transpose(answer) if upright else answer

    return pair


def count_on_diagonal(rng: random.Random) -> GridDraw:
    """Give a square with as many diagonal cells as there are pixels."""
    size, colours, whole = sizes(rng, 3, 6), palette(rng, 3), rng.random() < 0.3

    def pair() -> GridPair:
        grid, n, colour = blank(*size()), rng.randint(1, 5), rng.choice(colours)
        scatter(rng, grid, n, [colour])
        return grid, [[colour if whole or r == c else 0 for c in range(n)] for r in range(n)]

    return pair


def commonest_colour(rng: random.Random) -> GridDraw:
    """Give the most (or least) frequent colour: as one cell, or filling the whole grid."""
    size, colours = sizes(rng, 3, 5), palette(rng, rng.randint(3, 5))
    most, one_cell = rng.random() < 0.65, rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid = speckled(rng, h, w, rng.sample(colours, 3), rng.choice((0.7, 1.0)))
        counts = {colour: count(grid, colour) for colour in colours if count(grid, colour)}
        if len(counts) < 2:
            raise Rejected("one colour")
        best = (max if most else min)(counts.values())
        winners = [colour for colour, n in counts.items() if n == best]
        if len(winners) > 1 or (most and count(grid, 0) >= best):
            raise Rejected("tie")
        return grid, [[winners[0]]] if one_cell else blank(h, w, winners[0])

    return pair


def keep_commonest(rng: random.Random) -> GridDraw:
    """Keep only the cells of the most (or least) frequent colour."""
    size, colours, most = sizes(rng, 3, 6), palette(rng, 4), rng.random() < 0.6

    def pair() -> GridPair:
        grid = speckled(rng, *size(), rng.sample(colours, rng.randint(2, 3)), rng.choice((0.5, 0.8)))
        counts = {colour: count(grid, colour) for colour in colours if count(grid, colour)}
        if len(counts) < 2:
            raise Rejected("one colour")
        best = (max if most else min)(counts.values())
        winners = [colour for colour, n in counts.items() if n == best]
        if len(winners) > 1:
            raise Rejected("tie")
        return grid, [[cell if cell == winners[0] else 0 for cell in row] for row in grid]

    return pair


def colours_by_count(rng: random.Random) -> GridDraw:
    """List the colours by falling (or rising) number of cells, in a column or a row."""
    size, colours, falling = sizes(rng, 4, 6), palette(rng, 6), rng.random() < 0.6
    upright, n = rng.random() < 0.6, rng.randint(2, 3)

    def pair() -> GridPair:
        grid = blank(*size())
        inks = rng.sample(colours, n)
        counts = rng.sample(range(1, 3 + n), n)
        for ink, number in zip(inks, counts, strict=True):
            scatter(rng, grid, number, [ink])
        ordered = [ink for _, ink in sorted(zip(counts, inks, strict=True), reverse=falling)]
        return grid, [[ink] for ink in ordered] if upright else [ordered]

    return pair


def histogram(rng: random.Random) -> GridDraw:
    """Draw one bar for each colour, as long as its number of cells, longest first."""
    size, colours, turn, n = sizes(rng, 3, 5), palette(rng, 6), rng.randrange(4), rng.randint(2, 3)
    largest = rng.randint(n, 5)

    def pair() -> GridPair:
        grid = blank(*size())
        inks, counts = rng.sample(colours, n), sorted(rng.sample(range(1, largest + 1), n), reverse=True)
        for ink, number in zip(inks, counts, strict=True):
            scatter(rng, grid, number, [ink])
        width = counts[0]
        answer = [[ink] * number + [0] * (width - number) for ink, number in zip(inks, counts, strict=True)]
        return grid, rotate(answer, turn)

    return pair


def sort_bars(rng: random.Random) -> GridDraw:
    """Sort the bars standing on one side by length, keeping their colours."""
    colours, turn = palette(rng, rng.randint(1, 5)), rng.randrange(4)
    n, height, rising, gaps = rng.randint(3, 5), rng.randint(3, 6), rng.random() < 0.5, rng.random() < 0.4

    def pair() -> GridPair:
        bars = [(length, rng.choice(colours)) for length in rng.sample(range(1, height + 1), min(n, height))]

        def drawn(order: list[tuple[int, int]]) -> list[list[int]]:
            rows = []
            for length, ink in order:
                rows.append([ink] * length + [0] * (height - length))
                if gaps:
                    rows.append([0] * height)
            return rows

        return rotate(drawn(bars), turn), rotate(drawn(sorted(bars, reverse=not rising)), turn)

    return pair


def sort_rows(rng: random.Random) -> GridDraw:
    """Sort the rows (or columns) by their number of coloured cells."""
    colours, turned, rising = palette(rng, 5), rng.random() < 0.5, rng.random() < 0.5
    height, width = rng.randint(3, 5), rng.randint(4, 6)

    def pair() -> GridPair:
        rows = []
        for n in rng.sample(range(width + 1), min(height, width + 1)):
            places, ink = rng.sample(range(width), n), rng.choice(colours)
            rows.append([ink if c in places else 0 for c in range(width)])
        answer = sorted(rows, key=lambda row: row.count(0), reverse=rising)
        return (transpose(rows), transpose(answer)) if turned else (rows, answer)

    return pair


def colours_in_order(rng: random.Random) -> GridDraw:
    """List the colours of the lines in their order from left to right (or top to bottom)."""
    size, colours, turned, as_column = sizes(rng, 6, 9), palette(rng, 7), rng.random() < 0.5, rng.random() < 0.5
    lines = rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        grid = blank(h, w)
        n = rng.randint(2, min(4, w // 2))
        columns = sorted(rng.sample(range(0, w, 2), n))
        inks = rng.sample(colours, n)
        for column, ink in zip(columns, inks, strict=True):
            for r in range(h) if lines else [rng.randrange(h)]:
                grid[r][column] = ink
        answer = [[ink] for ink in inks] if as_column else [inks]
        return (transpose(grid) if turned else grid), answer

    return pair


def scale_by_colours(rng: random.Random) -> GridDraw:
    """Enlarge the grid by its number of colours."""
    colours, height, width = palette(rng, 6), rng.randint(2, 3), rng.randint(2, 3)

    def pair() -> GridPair:
        n = rng.randint(1, 3)
        grid = speckled(rng, height, width, rng.sample(colours, n), 0.7)
        if len({cell for row in grid for cell in row if cell}) != n:
            raise Rejected("a colour is missing")
        return grid, scaled(grid, n, n)

    return pair


def more_of_two(rng: random.Random) -> GridDraw:
    """Recolour all cells with the more (or less) frequent of the two colours."""
    size, colours, more = sizes(rng, 3, 6), palette(rng, rng.randint(2, 6)), rng.random() < 0.7

    def pair() -> GridPair:
        a, b = rng.sample(colours, 2)
        grid = speckled(rng, *size(), [a, a, b], rng.choice((0.4, 0.7)))
        n, m = count(grid, a), count(grid, b)
        if n == m or not n or not m:
            raise Rejected("tie")
        ink = a if (n > m) == more else b
        return grid, [[ink if cell else 0 for cell in row] for row in grid]

    return pair


def level_of_bars(rng: random.Random) -> GridDraw:
    """Recolour every bar up to the length of the shortest (or only the cells above it)."""
    (old, new), turn, below = palette(rng, 2), rng.randrange(4), rng.random() < 0.5
    n, height = rng.randint(3, 5), rng.randint(4, 7)

    def pair() -> GridPair:
        lengths = [rng.randint(1, height) for _ in range(n)]
        level = min(lengths)
        grid = [[old] * length + [0] * (height - length) for length in lengths]
        answer = [[new if cell and (c < level) == below else cell for c, cell in enumerate(row)] for row in grid]
        return rotate(grid, turn), rotate(answer, turn)

    return pair


def draw_to_height(rng: random.Random) -> GridDraw:
    """Raise a column over each pixel of the bottom row by the number of pixels of its colour."""
    colours, turn, height = palette(rng, 4), rng.randrange(4), rng.randint(4, 5)
    width = rng.randint(4, 7)

    def pair() -> GridPair:
        base = [rng.choice([*colours, 0]) for _ in range(width)]
        counts = {ink: base.count(ink) for ink in colours}
        if max(counts.values()) > height or not any(base):
            raise Rejected("too tall")
        grid = [[0] * width for _ in range(height - 1)] + [base]
        answer = [[ink if ink and height - r <= counts[ink] else 0 for ink in base] for r in range(height)]
        return rotate(grid, turn), rotate(answer, turn)

    return pair


COUNTING = families_of(
    count_pixels,
    count_objects,
    count_on_diagonal,
    commonest_colour,
    keep_commonest,
    colours_by_count,
    histogram,
    sort_bars,
    sort_rows,
    colours_in_order,
    scale_by_colours,
    more_of_two,
    level_of_bars,
    draw_to_height,
)
