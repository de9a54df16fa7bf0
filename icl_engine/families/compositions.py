"""Families that apply a second rule to the outputs of a first one, or two whole-grid rules in a row."""

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

from icl_engine.families.family import Family, Make, Pair, RawGrid, Rejected, is_allowed_size
from icl_engine.families.grids_geometry import SYMMETRIES
from icl_engine.families.objects import (
    beside,
    copy,
    fall,
    flip_horizontal,
    flip_vertical,
    recoloured,
    rotate,
    scaled,
    stacked,
)
from icl_engine.families.scenes import scene

Change: TypeAlias = Callable[[RawGrid], RawGrid]
ChangeRule: TypeAlias = Callable[[random.Random, list[RawGrid]], Change]

_MAX_CELLS = 120


def compose(name: str, kind: Literal["grid", "row"], bases: tuple[Family, ...], second: ChangeRule) -> Family:
    """Build the family that draws one of `bases` for each task and changes its outputs by a second rule."""
    return Family(name, kind, _composed(bases, second))


def _composed(bases: tuple[Family, ...], second: ChangeRule) -> Make:
    def make(rng: random.Random, n_pairs: int) -> list[Pair]:
        pairs = rng.choice(bases).make(rng, n_pairs)
        outputs = [answer for _, answer in pairs if not isinstance(answer, str)]
        change = second(rng, outputs)
        changed = [change(answer) for answer in outputs]
        if any(len(grid) * len(grid[0]) > _MAX_CELLS or not is_allowed_size(grid) for grid in changed):
            raise Rejected("output too large")
        if all(before == after for before, after in zip(outputs, changed, strict=True)):
            raise Rejected("the second rule shows nowhere")
        return [(given, answer) for (given, _), answer in zip(pairs, changed, strict=True)]

    return make


def then_symmetry(rng: random.Random, outputs: list[RawGrid]) -> Change:
    """Turn or mirror the output."""
    return rng.choice(SYMMETRIES)


def then_recolour(rng: random.Random, outputs: list[RawGrid]) -> Change:
    """Replace one colour that every output has by a colour that none has (sometimes by black)."""
    present = [{cell for row in grid for cell in row} for grid in outputs]
    everywhere = [colour for colour in range(1, 10) if all(colour in colours for colours in present)]
    nowhere = [colour for colour in range(1, 10) if not any(colour in colours for colours in present)]
    if not everywhere or not nowhere:
        raise Rejected("no colour to replace")
    old, new = rng.choice(everywhere), rng.choice([rng.choice(nowhere), rng.choice(nowhere), 0])
    return lambda grid: recoloured(grid, {old: new})


def then_gravity(rng: random.Random, outputs: list[RawGrid]) -> Change:
    """Let the cells of the output fall to one side."""
    turn = rng.randrange(4)
    return lambda grid: rotate(fall(rotate(grid, turn)), -turn)


def then_enlarge(rng: random.Random, outputs: list[RawGrid]) -> Change:
    """Double the output: every cell, or the grid beside or above its copy or mirror image."""
    mirror = rng.choice((copy, flip_horizontal, flip_vertical))
    return rng.choice(
        (
            lambda grid: scaled(grid, 2, 2),
            lambda grid: beside(grid, mirror(grid)),
            lambda grid: beside(mirror(grid), grid),
            lambda grid: stacked(grid, mirror(grid)),
            lambda grid: stacked(mirror(grid), grid),
        )
    )


def then_frame(rng: random.Random, outputs: list[RawGrid]) -> Change:
    """Put the output into a frame of one colour."""
    colour = rng.randint(1, 9)

    def change(grid: RawGrid) -> RawGrid:
        edge = [colour] * (len(grid[0]) + 2)
        return [edge, *([colour, *row, colour] for row in grid), edge[:]]

    return change


def then_turn_around(rng: random.Random, outputs: list[RawGrid]) -> Change:
    """Turn the row around."""
    return flip_horizontal


def _two_changes(rng: random.Random, n_pairs: int) -> list[Pair]:
    """Apply two different whole-grid rules to free scenes."""
    draw = scene(rng, 2, 5)
    grids = [draw() for _ in range(n_pairs)]
    first, second = rng.sample((then_recolour, then_gravity, then_enlarge, then_frame, then_symmetry), 2)
    once = first(rng, grids)
    middle = [once(grid) for grid in grids]
    twice = second(rng, middle)
    outputs = [twice(grid) for grid in middle]
    if any(a in (b, c) for a, b, c in zip(outputs, middle, grids, strict=True)):
        raise Rejected("one rule shows nowhere")
    return list(zip(grids, outputs, strict=True))


def composed_families(grids: tuple[Family, ...], rows: tuple[Family, ...]) -> tuple[Family, ...]:
    """Build the composed families over the given first rules."""
    return (
        compose("composed_symmetry", "grid", grids, then_symmetry),
        compose("composed_recolour", "grid", grids, then_recolour),
        compose("composed_gravity", "grid", grids, then_gravity),
        compose("composed_enlarge", "grid", grids, then_enlarge),
        compose("composed_frame", "grid", grids, then_frame),
        Family("composed_two_changes", "grid", _two_changes),
        compose("composed_row_reverse", "row", rows, then_turn_around),
        compose("composed_row_recolour", "row", rows, then_recolour),
    )
