"""Generated tasks: families of grid, one-row and text rules, and the sampler that draws tasks from them.

`HELD_OUT` names families kept for evaluation: they are never trained on, and no composed family builds on them.
"""

import random

from icl_engine.families.compositions import composed_families
from icl_engine.families.family import Family, Pair, Raw, RawGrid, Rejected, is_allowed_size
from icl_engine.families.grids_colour import COLOUR
from icl_engine.families.grids_completing import COMPLETING
from icl_engine.families.grids_counting import COUNTING
from icl_engine.families.grids_cropping import CROPPING
from icl_engine.families.grids_filling import FILLING
from icl_engine.families.grids_geometry import GEOMETRY
from icl_engine.families.grids_lines import LINES
from icl_engine.families.grids_objects import OBJECTS
from icl_engine.families.grids_parts import PARTS
from icl_engine.families.grids_patterns import PATTERNS
from icl_engine.families.grids_recolouring import RECOLOURING
from icl_engine.families.grids_resizing import RESIZING
from icl_engine.families.grids_rooms import ROOMS
from icl_engine.families.grids_stamps import STAMPS
from icl_engine.families.rows import ROW_FAMILIES
from icl_engine.families.texts import TEXT_FAMILIES

HELD_OUT: tuple[str, ...] = (
    "brackets_depth",
    "calendar_step",
    "count_on_diagonal",
    "crossing_colour",
    "fill_room_by_size",
    "flip_each",
    "full_lines",
    "letter_analogy",
    "level_of_bars",
    "list_interleave",
    "mask_selects",
    "price_format",
    "recolour_by_orientation",
    "record_column",
    "repeat_edge",
    "row_bounce",
    "row_group_colours",
    "row_join_same",
    "row_recolour_cells_in_turn",
    "row_repair",
    "row_shift_around",
    "string_between_marks",
    "string_move_letters",
    "uncover_rectangle",
    "world_queue",
    "world_walk_end",
)

_PRIMITIVES = (
    GEOMETRY
    + RESIZING
    + OBJECTS
    + CROPPING
    + COLOUR
    + RECOLOURING
    + LINES
    + STAMPS
    + FILLING
    + ROOMS
    + PATTERNS
    + COMPLETING
    + PARTS
    + COUNTING
)
_COMPOSED = composed_families(
    tuple(family for family in _PRIMITIVES if family.name not in HELD_OUT),
    tuple(family for family in ROW_FAMILIES if family.name not in HELD_OUT),
)

GRID_FAMILIES: tuple[Family, ...] = _PRIMITIVES + tuple(family for family in _COMPOSED if family.kind == "grid")
FAMILIES: tuple[Family, ...] = (
    GRID_FAMILIES + ROW_FAMILIES + tuple(family for family in _COMPOSED if family.kind == "row") + TEXT_FAMILIES
)

_TRIES = 50


def sample_task(rng: random.Random, family: Family, n_pairs: int) -> list[Pair]:
    """Draw one task of `family`: `n_pairs` pairs under one hidden rule, drawn again while trivial.

    Raises:
        Rejected: no usable draw in many tries.
    """
    for _ in range(_TRIES):
        try:
            pairs = family.make(rng, n_pairs)
        except Rejected:
            continue
        if _is_usable(pairs):
            return pairs
    raise Rejected(f"{family.name}: no usable draw")


def _is_usable(pairs: list[Pair]) -> bool:
    """Tell whether sizes are allowed, inputs differ, and outputs are neither all the inputs nor all the same."""
    if not all(_fits(value) for pair in pairs for value in pair):
        return False
    inputs = [given for given, _ in pairs]
    if any(given in inputs[:i] for i, given in enumerate(inputs)):
        return False
    if all(given == answer for given, answer in pairs):
        return False
    return len(pairs) < 3 or any(answer != pairs[0][1] for _, answer in pairs)


def _fits(value: Raw) -> bool:
    return isinstance(value, str) or is_allowed_size(value)


__all__ = [
    "FAMILIES",
    "GRID_FAMILIES",
    "HELD_OUT",
    "ROW_FAMILIES",
    "TEXT_FAMILIES",
    "Family",
    "Pair",
    "Raw",
    "RawGrid",
    "Rejected",
    "sample_task",
]
