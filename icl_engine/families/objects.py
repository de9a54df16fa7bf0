"""Small fast functions on raw grids for building scenes: sizes, colours, random objects, components, crops, symmetries.

Everything is plain lists; randomness comes in as `rng`; nothing here knows a rule.
"""

import random
from collections.abc import Callable, Iterable
from typing import TypeAlias

from icl_engine.families.family import RawGrid, Rejected

Cell: TypeAlias = tuple[int, int]
Cells: TypeAlias = list[Cell]

NEIGHBOURS: tuple[Cell, ...] = ((-1, 0), (0, -1), (0, 1), (1, 0))
DIAGONALS: tuple[Cell, ...] = ((-1, -1), (-1, 1), (1, -1), (1, 1))
AROUND: tuple[Cell, ...] = NEIGHBOURS + DIAGONALS


def sizes(rng: random.Random, low: int = 4, high: int = 8) -> Callable[[], tuple[int, int]]:
    """Draw how a task's grids are sized: one size for all pairs, a size for each pair, or a square for each pair."""
    mode = rng.random()

    def side() -> int:
        # the smaller of two draws now and then: short tasks train faster
        value = rng.randint(low, high)
        return min(value, rng.randint(low, high)) if rng.random() < 0.6 else value

    if mode < 0.5:
        fixed = (side(), side())
        return lambda: fixed
    if mode < 0.6:
        square = side()
        return lambda: (square, square)
    return lambda: (side(), side())


def palette(rng: random.Random, n: int, without: Iterable[int] = ()) -> list[int]:
    """Draw `n` distinct colours other than black and `without`."""
    banned = set(without)
    return rng.sample([colour for colour in range(1, 10) if colour not in banned], n)


def blank(height: int, width: int, colour: int = 0) -> RawGrid:
    """Return a grid of one colour."""
    return [[colour] * width for _ in range(height)]


def copy(grid: RawGrid) -> RawGrid:
    """Return a copy that shares no row."""
    return [row[:] for row in grid]


def speckled(rng: random.Random, height: int, width: int, colours: list[int], density: float) -> RawGrid:
    """Draw a grid where each cell takes one of `colours` with probability `density` and is black otherwise."""
    return [[rng.choice(colours) if rng.random() < density else 0 for _ in range(width)] for _ in range(height)]


def shape(rng: random.Random, max_height: int, max_width: int, n_cells: int | None = None) -> Cells:
    """Draw a connected shape inside a box, its cells normalised to start at row 0 and column 0."""
    n = n_cells or rng.randint(2, max(2, (max_height * max_width * 3) // 4))
    cells = [(rng.randrange(max_height), rng.randrange(max_width))]
    taken = set(cells)
    for _ in range(n * 8):
        if len(cells) >= n:
            break
        row, column = rng.choice(cells)
        down, right = rng.choice(NEIGHBOURS)
        cell = (row + down, column + right)
        if 0 <= cell[0] < max_height and 0 <= cell[1] < max_width and cell not in taken:
            taken.add(cell)
            cells.append(cell)
    return normalised(cells)


def rectangle(height: int, width: int) -> Cells:
    """Return the cells of a full rectangle at the origin."""
    return [(row, column) for row in range(height) for column in range(width)]


def frame(height: int, width: int) -> Cells:
    """Return the border cells of a rectangle at the origin."""
    return [(r, c) for r in range(height) for c in range(width) if r in (0, height - 1) or c in (0, width - 1)]


def normalised(cells: Cells) -> Cells:
    """Shift cells so that their box starts at the origin, in reading order."""
    top, left = min(row for row, _ in cells), min(column for _, column in cells)
    return sorted((row - top, column - left) for row, column in cells)


def moved(cells: Iterable[Cell], down: int, right: int) -> Cells:
    """Shift cells."""
    return [(row + down, column + right) for row, column in cells]


def box(cells: Cells) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of cells, all inclusive."""
    rows, columns = [row for row, _ in cells], [column for _, column in cells]
    return min(rows), min(columns), max(rows), max(columns)


def paint(grid: RawGrid, cells: Iterable[Cell], colour: int) -> None:
    """Colour the cells that lie inside the grid, in place."""
    height, width = len(grid), len(grid[0])
    for row, column in cells:
        if 0 <= row < height and 0 <= column < width:
            grid[row][column] = colour


def place(rng: random.Random, grid: RawGrid, cells: Cells, colour: int, gap: int = 1, margin: int = 0) -> Cells:
    """Paint `cells` at a random free place, `gap` cells away from all that is there; return where they went.

    Raises:
        Rejected: no free place was found in a few tries.
    """
    height, width = len(grid), len(grid[0])
    _, _, bottom, right = box(cells)
    free_rows, free_columns = height - bottom - 1 - 2 * margin, width - right - 1 - 2 * margin
    if free_rows < 0 or free_columns < 0:
        raise Rejected("object larger than the grid")
    for _ in range(12):
        down, over = margin + rng.randint(0, free_rows), margin + rng.randint(0, free_columns)
        if all(_is_clear(grid, row + down, column + over, gap) for row, column in cells):
            placed = moved(cells, down, over)
            paint(grid, placed, colour)
            return placed
    raise Rejected("no room for the object")


def _is_clear(grid: RawGrid, row: int, column: int, gap: int) -> bool:
    left = column - gap if column > gap else 0
    return not any(any(line[left : column + gap + 1]) for line in grid[max(0, row - gap) : row + gap + 1])


def components(grid: RawGrid, diagonal: bool = False, by_colour: bool = True) -> list[tuple[int, Cells]]:
    """Return (colour, cells) of the connected non-black objects in reading order of their first cell."""
    steps = AROUND if diagonal else NEIGHBOURS
    height, width = len(grid), len(grid[0])
    seen = [[False] * width for _ in range(height)]
    found: list[tuple[int, Cells]] = []
    for top in range(height):
        for left in range(width):
            colour = grid[top][left]
            if not colour or seen[top][left]:
                continue
            seen[top][left] = True
            cells = [(top, left)]
            for row, column in cells:
                for down, over in steps:
                    r, c = row + down, column + over
                    if 0 <= r < height and 0 <= c < width and not seen[r][c]:
                        other = grid[r][c]
                        if other == colour or (other and not by_colour):
                            seen[r][c] = True
                            cells.append((r, c))
            found.append((colour, cells))
    return found


def enclosed(grid: RawGrid) -> Cells:
    """Return the black cells from which no path over black cells (4 directions) reaches the grid's edge."""
    height, width = len(grid), len(grid[0])
    edge = [(r, c) for r in range(height) for c in range(width) if r in (0, height - 1) or c in (0, width - 1)]
    outside = [cell for cell in edge if not grid[cell[0]][cell[1]]]
    seen = set(outside)
    for row, column in outside:
        for down, over in NEIGHBOURS:
            cell = (row + down, column + over)
            if cell not in seen and 0 <= cell[0] < height and 0 <= cell[1] < width and not grid[cell[0]][cell[1]]:
                seen.add(cell)
                outside.append(cell)
    return [(r, c) for r in range(height) for c in range(width) if not grid[r][c] and (r, c) not in seen]


def crop(grid: RawGrid, top: int, left: int, bottom: int, right: int) -> RawGrid:
    """Return the part between two corners, both inclusive."""
    return [row[left : right + 1] for row in grid[top : bottom + 1]]


def count(grid: RawGrid, colour: int) -> int:
    """Count the cells of one colour."""
    return sum(row.count(colour) for row in grid)


def flip_horizontal(grid: RawGrid) -> RawGrid:
    """Mirror left and right."""
    return [row[::-1] for row in grid]


def flip_vertical(grid: RawGrid) -> RawGrid:
    """Mirror top and bottom."""
    return [row[:] for row in grid[::-1]]


def transpose(grid: RawGrid) -> RawGrid:
    """Exchange rows and columns."""
    return [list(column) for column in zip(*grid, strict=True)]


def rotate(grid: RawGrid, quarter_turns: int = 1) -> RawGrid:
    """Turn clockwise."""
    for _ in range(quarter_turns % 4):
        grid = [list(column) for column in zip(*grid[::-1], strict=True)]
    return grid


def anti_transpose(grid: RawGrid) -> RawGrid:
    """Mirror at the other diagonal."""
    return rotate(transpose(grid), 2)


def recoloured(grid: RawGrid, mapping: dict[int, int]) -> RawGrid:
    """Replace colours; those not in `mapping` stay."""
    return [[mapping.get(cell, cell) for cell in row] for row in grid]


def scaled(grid: RawGrid, down: int, across: int) -> RawGrid:
    """Make every cell a block of `down` by `across` cells."""
    return [[cell for cell in row for _ in range(across)] for row in grid for _ in range(down)]


def beside(*grids: RawGrid) -> RawGrid:
    """Join grids of one height from left to right."""
    return [[cell for row in rows for cell in row] for rows in zip(*grids, strict=True)]


def stacked(*grids: RawGrid) -> RawGrid:
    """Join grids of one width from top to bottom."""
    return [row[:] for grid in grids for row in grid]


def scatter(
    rng: random.Random, grid: RawGrid, n: int, colours: list[int], gap: int = 0, margin: int = 0
) -> list[tuple[int, Cell]]:
    """Place `n` single pixels; return their colours and cells."""
    found = []
    for _ in range(n):
        colour = rng.choice(colours)
        found.append((colour, place(rng, grid, [(0, 0)], colour, gap, margin)[0]))
    return found


def shapes(
    rng: random.Random,
    grid: RawGrid,
    counts: list[int],
    colours: list[int],
    side: int = 3,
    gap: int = 1,
    margin: int = 0,
) -> list[tuple[int, Cells]]:
    """Place one random shape per entry of `counts` (its number of cells); return their colours and cells.

    Raises:
        Rejected: no room, or a shape did not grow to its number of cells.
    """
    found = []
    for n in counts:
        cells = shape(rng, side, side, n)
        if len(cells) != n:
            raise Rejected("shape did not grow")
        colour = rng.choice(colours)
        found.append((colour, place(rng, grid, cells, colour, gap, margin)))
    return found


def fall(grid: RawGrid) -> RawGrid:
    """Let every cell drop down in its column, order kept."""
    height = len(grid)
    columns = []
    for column in zip(*grid, strict=True):
        cells = [cell for cell in column if cell]
        columns.append([0] * (height - len(cells)) + cells)
    return transpose(columns)
