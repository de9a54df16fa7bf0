"""A grid as SVG: coloured cells, digits for who cannot tell the colours apart, rings around cells that are wrong.

One path per colour and one text per row and ink, not one element per cell: a page may hold 24 grids of 900 cells.
"""

from __future__ import annotations

from markupsafe import Markup

from icl_engine.task import Grid
from router.ui.svg import drawing, element, words

_LIGHT_INK = (0, 1, 9)  # cells dark enough to need it
_WIDEST_PX = 300
_CELL_PX = 22  # of a small grid


def grid_svg(grid: Grid, name: str, wrong: frozenset[tuple[int, int]] = frozenset()) -> Markup:
    """Draw a grid.

    Args:
        name: what it is, for a screen reader, which then reads out the rows.
        wrong: (row, column) of cells to be ringed.
    """
    n_rows, n_columns = len(grid), len(grid[0])
    cell = min(float(_CELL_PX), _WIDEST_PX / max(n_rows, n_columns))
    rows = "; ".join(" ".join(map(str, row)) for row in grid)
    ringed = f" {len(wrong)} cells ringed." if wrong else ""
    return drawing(
        n_columns,
        n_rows,
        f"{name}, {n_rows} by {n_columns}: {rows}.{ringed}",
        *_colours(grid),
        _lines(n_rows, n_columns),
        *(text for i, row in enumerate(grid) for text in _digits(row, i)),
        *(_ring(row, column) for row, column in sorted(wrong)),
        kind="grid",
        size=(n_columns * cell, n_rows * cell),
    )


def wrong_cells(answer: Grid, right: Grid) -> frozenset[tuple[int, int]] | None:
    """Return the cells of an answer that differ from what is right; None where it has another shape."""
    if (len(answer), len(answer[0])) != (len(right), len(right[0])):
        return None
    return frozenset(
        (i, j)
        for i, (row, wanted) in enumerate(zip(answer, right, strict=True))
        for j, (cell, other) in enumerate(zip(row, wanted, strict=True))
        if cell != other
    )


def _colours(grid: Grid) -> list[Markup]:
    """One path per colour; neighbours in a row are drawn as one piece."""
    pieces: dict[int, list[str]] = {}
    for y, row in enumerate(grid):
        start = 0
        for x in range(1, len(row) + 1):
            if x == len(row) or row[x] != row[start]:
                pieces.setdefault(row[start], []).append(f"M{start} {y}h{x - start}v1h{start - x}z")
                start = x
    return [element("path", {"class": f"c{colour}", "d": "".join(path)}) for colour, path in sorted(pieces.items())]


def _lines(n_rows: int, n_columns: int) -> Markup:
    across = "".join(f"M0 {y}h{n_columns}" for y in range(n_rows + 1))
    down = "".join(f"M{x} 0v{n_rows}" for x in range(n_columns + 1))
    return element("path", {"class": "gridlines", "d": across + down})


def _digits(row: tuple[int, ...], y: int) -> list[Markup]:
    texts = []
    for ink, light in (("light-ink", True), ("dark-ink", False)):
        cells = [(x, cell) for x, cell in enumerate(row) if (cell in _LIGHT_INK) == light]
        if cells:
            places = " ".join(f"{x}.5" for x, _ in cells)
            digits = words("".join(str(cell) for _, cell in cells))
            texts.append(element("text", {"class": f"digit {ink}", "x": places, "y": y + 0.74}, digits))
    return texts


def _ring(row: int, column: int) -> Markup:
    box = {"x": column + 0.08, "y": row + 0.08, "width": 0.84, "height": 0.84, "rx": 0.2}
    return element("rect", {**box, "class": "ring-halo"}) + element("rect", {**box, "class": "ring"})
