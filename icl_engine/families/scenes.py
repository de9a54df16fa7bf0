"""Free scenes for rules that act on any grid, whatever is drawn on it."""

import random
from collections.abc import Callable

from icl_engine.families.family import RawGrid, Rejected
from icl_engine.families.objects import blank, palette, place, shape, sizes, speckled


def scene(rng: random.Random, low: int = 3, high: int = 7) -> Callable[[], RawGrid]:
    """Draw how a task's free scenes look (speckled in few or many colours, or objects) and return a drawer of them."""
    size = sizes(rng, low, high)
    colours = palette(rng, rng.choice((1, 2, 3, 4, 6)))
    density = rng.choice((0.3, 0.5, 0.8, 1.0)) if len(colours) > 1 else 0.45
    as_objects = rng.random() < 0.45

    def draw() -> RawGrid:
        height, width = size()
        if not as_objects:
            return speckled(rng, height, width, colours, density)
        grid = blank(height, width)
        for _ in range(rng.randint(1, 3)):
            try:
                place(rng, grid, shape(rng, min(3, height), min(3, width)), rng.choice(colours), gap=rng.randint(0, 1))
            except Rejected:
                break
        return grid

    return draw
