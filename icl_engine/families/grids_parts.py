"""Grid rules that compare or combine parts of a grid: halves, layers, panels and cells between lines."""

import random
from collections.abc import Callable

from icl_engine.families.family import GridDraw, GridPair, RawGrid, Rejected, families_of
from icl_engine.families.objects import beside, blank, count, palette, sizes, speckled, stacked, transpose

BOOLEAN: dict[str, Callable[[bool, bool], bool]] = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "nor": lambda a, b: not (a or b),
    "nand": lambda a, b: not (a and b),
    "equal": lambda a, b: a == b,
    "only first": lambda a, b: a and not b,
    "only second": lambda a, b: b and not a,
}


def joined(parts: list[RawGrid], line: int, turned: bool) -> RawGrid:
    """Join parts of one size in a row (or a column), with separating lines of colour `line` unless 0."""
    if turned:
        separator = [[line] * len(parts[0][0])] if line else []
        return stacked(*(piece for i, part in enumerate(parts) for piece in ((separator, part) if i else (part,))))
    wall = [[line]] * len(parts[0])
    return beside(*(piece for i, part in enumerate(parts) for piece in ((wall, part) if i and line else (part,))))


def boolean_halves(rng: random.Random) -> GridDraw:
    """Compare the two halves cell by cell with one logical operation."""
    size, (first, second, line, new) = sizes(rng, 2, 5), palette(rng, 4)
    operation = BOOLEAN[rng.choice(list(BOOLEAN))]
    second = rng.choice((first, second))
    line, turned = rng.choice((0, line, line)), rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        a, b = speckled(rng, h, w, [first], 0.5), speckled(rng, h, w, [second], 0.5)
        answer = [
            [new if operation(bool(x), bool(y)) else 0 for x, y in zip(left, right, strict=True)]
            for left, right in zip(a, b, strict=True)
        ]
        if not any(map(any, answer)):
            raise Rejected("empty")
        return joined([a, b], line, turned), answer

    return pair


def overlay(rng: random.Random) -> GridDraw:
    """Lay the parts over each other, in a fixed order of priority."""
    n = rng.choice((2, 2, 3))
    size, (line, *colours) = sizes(rng, 2, 4), palette(rng, n + 1)
    order, turned = rng.sample(range(n), n), rng.random() < 0.5
    line = rng.choice((0, line))

    def pair() -> GridPair:
        h, w = size()
        parts = [speckled(rng, h, w, [colour], 0.5) for colour in colours]
        answer = blank(h, w)
        for i in order:
            answer = [[b or a for a, b in zip(x, y, strict=True)] for x, y in zip(answer, parts[i], strict=True)]
        return joined(parts, line, turned), answer

    return pair


def choose_panel(rng: random.Random) -> GridDraw:
    """Keep the panel with the most (or fewest) coloured cells."""
    n = rng.choice((2, 3))
    size, (line, *colours) = sizes(rng, 2, 4), palette(rng, 4)
    most, turned, one_colour = rng.random() < 0.6, rng.random() < 0.5, rng.random() < 0.5

    def pair() -> GridPair:
        h, w = size()
        parts = []
        for _ in range(n):
            inks = [colours[0] if one_colour else rng.choice(colours)]
            parts.append(speckled(rng, h, w, inks, rng.choice((0.3, 0.5, 0.7))))
        counts = [h * w - count(part, 0) for part in parts]
        best = max(counts) if most else min(counts)
        if counts.count(best) != 1:
            raise Rejected("tie")
        return joined(parts, line, turned), parts[counts.index(best)]

    return pair


def odd_panel(rng: random.Random) -> GridDraw:
    """Keep the panel that differs from the others, which are all alike."""
    size, (line, *colours) = sizes(rng, 2, 4), palette(rng, 4)
    turned, mode = rng.random() < 0.5, rng.choice(("pattern", "colour"))

    def pair() -> GridPair:
        h, w = size()
        usual, odd = rng.sample(colours, 2)
        base = speckled(rng, h, w, [usual], 0.5)
        if mode == "colour":
            other = [[odd if cell else 0 for cell in row] for row in base]
        else:
            other = speckled(rng, h, w, [usual], 0.5)
        if other == base or not any(map(any, base)) or not any(map(any, other)):
            raise Rejected("no odd panel")
        parts = [base, base, base]
        parts[rng.randrange(3)] = other
        return joined(parts, line, turned), other

    return pair


def symmetric_panel(rng: random.Random) -> GridDraw:
    """Keep the panel that is symmetric left to right (or the one that is not)."""
    size, (line, *colours) = sizes(rng, 3, 4), palette(rng, 4)
    turned, wanted = rng.random() < 0.5, rng.random() < 0.75

    def pair() -> GridPair:
        h, w = size()
        parts, n = [], rng.choice((2, 3))
        for i in range(n):
            part = speckled(rng, h, w, [rng.choice(colours)], 0.5)
            if (i == 0) == wanted:
                part = [row[: (w + 1) // 2] + row[: w // 2][::-1] for row in part]
            symmetric = all(row == row[::-1] for row in part)
            if symmetric != ((i == 0) == wanted) or not any(map(any, part)):
                raise Rejected("panel of the wrong kind")
            parts.append(part)
        chosen = parts[0]
        rng.shuffle(parts)
        return joined(parts, line, turned), chosen

    return pair


def summarise_cells(rng: random.Random) -> GridDraw:
    """Give one cell for each block between the lines: the colour in it."""
    (line, *colours), block = palette(rng, 5), rng.randint(1, 3)
    single = rng.random() < 0.5

    def pair() -> GridPair:
        h, w = rng.randint(2, 3 if block > 1 else 4), rng.randint(2, 3 if block > 1 else 4)
        answer = speckled(rng, h, w, colours, 0.6)
        grid = blank(h * (block + 1) - 1, w * (block + 1) - 1, line)
        for r in range(h):
            for c in range(w):
                spot = rng.randrange(block * block)
                for i in range(block * block):
                    cell = answer[r][c] if not single or i == spot else 0
                    grid[r * (block + 1) + i // block][c * (block + 1) + i % block] = cell
        return grid, answer

    return pair


def fullest_block(rng: random.Random) -> GridDraw:
    """Give one cell for each block between the lines, coloured where the block has the most coloured cells."""
    (line, ink, new), side = palette(rng, 3), 2
    n = rng.randint(2, 3)

    def pair() -> GridPair:
        counts = [rng.randint(0, 3) for _ in range(n * n)]
        best = max(counts)
        grid = blank(n * (side + 1) - 1, n * (side + 1) - 1, line)
        for k, number in enumerate(counts):
            spots = rng.sample(range(side * side), number)
            for i in range(side * side):
                row, column = k // n * (side + 1) + i // side, k % n * (side + 1) + i % side
                grid[row][column] = ink if i in spots else 0
        answer = [[new if counts[r * n + c] == best else 0 for c in range(n)] for r in range(n)]
        return grid, answer

    return pair


def mask_selects(rng: random.Random) -> GridDraw:
    """Use the left part as a mask: keep the cells of the right part where the mask is coloured (or black)."""
    size, (mask_colour, line, *colours) = sizes(rng, 2, 5), palette(rng, 6)
    turned, inverted = rng.random() < 0.5, rng.random() < 0.3

    def pair() -> GridPair:
        h, w = size()
        mask, picture = speckled(rng, h, w, [mask_colour], 0.5), speckled(rng, h, w, colours, 0.9)
        answer = [
            [cell if bool(m) != inverted else 0 for m, cell in zip(x, y, strict=True)]
            for x, y in zip(mask, picture, strict=True)
        ]
        return joined([mask, picture], line, turned), answer

    return pair


def uniform_rows(rng: random.Random) -> GridDraw:
    """Mark the rows (or columns) that are of one colour throughout."""
    size, (mark, *colours) = sizes(rng, 3, 6), palette(rng, 4)
    turned, others = rng.random() < 0.5, rng.choice((0, None))

    def pair() -> GridPair:
        h, w = size()
        grid, answer = [], []
        for _ in range(h):
            same = rng.random() < 0.45
            row = [rng.choice(colours)] * w if same else [rng.choice(colours) for _ in range(w)]
            uniform = len(set(row)) == 1
            grid.append(row)
            answer.append([mark] * w if uniform else [others] * w if others is not None else row[:])
        return (transpose(grid), transpose(answer)) if turned else (grid, answer)

    return pair


PARTS = families_of(
    boolean_halves,
    overlay,
    choose_panel,
    odd_panel,
    symmetric_panel,
    summarise_cells,
    fullest_block,
    mask_selects,
    uniform_rows,
)
