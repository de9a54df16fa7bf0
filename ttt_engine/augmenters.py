"""Augmentations of training sequences: which rewriting each one is drawn under.

Unlike those voted over (`icl_engine.augmentations`), some here cannot be undone: nothing that is trained on has to be
read back. A rewriting is the same for the input and the output of every pair, so what holds between them before it
holds after it where the rewriting allows; text is only ever reordered. Knows nothing of how sequences come of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

from icl_engine.augmentations import TRANSFORMS, Augmentation, random_augmentation
from icl_engine.task import Demonstration, Grid, Task, Value
from icl_engine.values import DEFAULT_LIMITS
from ttt_engine.config import AugmentationForm

Example = tuple[Task, Value]  # a task with one query, and the answer to it
Change = Callable[[Grid], Grid]
Augmenter = Callable[[Random], Change]  # draws what the change leaves open, once for all grids of a sequence

_FURTHEST = 3  # cells a grid is translated by, at most


def augmented(
    example: Example,
    augmentation: AugmentationForm,
    rng: Random,
    fits: Callable[[Task, Value], bool] = lambda task, answer: True,
) -> Example:
    """Return a training sequence under a random rewriting of one of these forms.

    - `invertible`: a symmetry that makes sense for the task, colours but 0 exchanged, demonstrations reordered.
    - `order`: demonstrations reordered, nothing else (the paper's `no_transform`).
    - `none`: as it is.
    - `paper`: one of `PAPER`, drawn evenly from those that fit; then colours and order as in `invertible`.
    - `visual`: one of `VISUAL`, drawn in the same way; then as `invertible`. Grids that all have one row keep it.

    Text has an order alone to change.

    Args:
        fits: says whether the model's context holds a task with its answer. A change that makes a grid larger than a
            task may have, or a sequence longer than the context, is passed over; where none is left to try, the
            sequence stays as it is.

    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 3.1 and the augmenters of the published code (`paper`); Hu et
        al. 2025 (VARC: integer scaling and translation, for `visual`).
    """
    if augmentation == "none":
        return example
    shown, answer = example
    view = _view(shown, augmentation, rng)
    for change in _changes(example, augmentation, rng):
        changed, target = _changed(shown, change), _changed_value(answer, change)
        rewritten = view.apply(changed), view.apply_value(target)
        if fits(*rewritten):
            return rewritten
    return example


def changes_length(augmentation: AugmentationForm) -> bool:
    """Say whether sequences may become several times longer under the augmentation."""
    return augmentation in ("paper", "visual")


def _beside(left: Grid, right: Grid) -> Grid:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _scaled(grid: Grid, down: int, along: int) -> Grid:
    return tuple(tuple(cell for cell in row for _ in range(along)) for row in grid for _ in range(down))


def _rolled(grid: Grid, down: int, along: int) -> Grid:
    """Shift cells down and to the right; what leaves the grid comes back in on the other side."""
    down, along = down % len(grid), along % len(grid[0])
    rows = grid[len(grid) - down :] + grid[: len(grid) - down]
    return tuple(row[len(row) - along :] + row[: len(row) - along] for row in rows)


def _padded(grid: Grid, above: int, below: int, left: int, right: int) -> Grid:
    blank = ((0,) * (left + len(grid[0]) + right),)
    return blank * above + tuple((0,) * left + row + (0,) * right for row in grid) + blank * below


def _fixed(change: Change) -> Augmenter:
    return lambda rng: change


def _scaling(down: int, along: int) -> Augmenter:
    return _fixed(lambda grid: _scaled(grid, down, along))


def _then_enlarged(change: Change) -> Augmenter:
    return lambda rng: lambda grid: _scaled(change(grid), 2, 2)


def _random_roll(rng: Random) -> Change:
    down, along = rng.randint(0, _FURTHEST), rng.randint(0, _FURTHEST)
    return lambda grid: _rolled(grid, down, along)


def _random_margins(rng: Random) -> Change:
    (above, below), (left, right) = _split(rng), _split(rng)
    return lambda grid: _padded(grid, above, below, left, right)


def _random_side_margins(rng: Random) -> Change:
    left, right = _split(rng)
    return lambda grid: _padded(grid, 0, 0, left, right)


def _split(rng: Random) -> tuple[int, int]:
    total = rng.randint(0, _FURTHEST)
    before = rng.randint(0, total)
    return before, total - before


_SYMMETRIES = ("rotate90", "rotate180", "rotate270", "flip_horizontal", "flip_vertical", "transpose")
_IDENTITY = {"identity": _fixed(TRANSFORMS["identity"])}

# The identity and the 23 augmenters of the published code. There, by reading, inputs and outputs are rolled by
# different distances; here by one, so that a rule such as "the output is the input" survives.
PAPER: Mapping[str, Augmenter] = MappingProxyType(
    _IDENTITY
    | {name: _fixed(TRANSFORMS[name]) for name in _SYMMETRIES}
    | {
        "mirrored_below": _fixed(lambda grid: grid + grid[::-1]),
        "mirrored_above": _fixed(lambda grid: grid[::-1] + grid),
        "mirrored_right": _fixed(lambda grid: _beside(grid, TRANSFORMS["flip_horizontal"](grid))),
        "mirrored_left": _fixed(lambda grid: _beside(TRANSFORMS["flip_horizontal"](grid), grid)),
        "rolled": _random_roll,
        "enlarged": _scaling(2, 2),
        "heightened": _scaling(2, 1),
        "widened": _scaling(1, 2),
    }
    | {f"{name}_enlarged": _then_enlarged(TRANSFORMS[name]) for name in _SYMMETRIES}
    | {
        "repeated_below": _fixed(lambda grid: grid + grid),
        "repeated_right": _fixed(lambda grid: _beside(grid, grid)),
        "repeated_both": _fixed(lambda grid: _beside(grid, grid) * 2),
    }
)

# Translation on a larger canvas, nothing wrapped round, and whole-number scaling.
VISUAL: Mapping[str, Augmenter] = MappingProxyType(
    _IDENTITY | {"translated": _random_margins, "doubled": _scaling(2, 2), "tripled": _scaling(3, 3)}
)
VISUAL_ROW: Mapping[str, Augmenter] = MappingProxyType(
    _IDENTITY | {"translated": _random_side_margins, "doubled": _scaling(1, 2), "tripled": _scaling(1, 3)}
)


def _view(shown: Task, augmentation: AugmentationForm, rng: Random) -> Augmentation:
    """Draw what can be undone of a rewriting."""
    view = random_augmentation(shown, rng)
    if augmentation == "paper":
        return replace(view, transform="identity")
    return replace(view, transform="identity", colours=None) if augmentation == "order" else view


def _changes(example: Example, augmentation: AugmentationForm, rng: Random) -> Iterator[Change]:
    """Yield, in random order, the changes of grids to try: those that keep every grid within a task's limits."""
    if not changes_length(augmentation) or example[0].kind == "text":
        yield TRANSFORMS["identity"]
        return
    grids = [value for value in _values(example) if not isinstance(value, str)]
    is_row = all(len(grid) == 1 for grid in grids)
    augmenters = PAPER if augmentation == "paper" else VISUAL_ROW if is_row else VISUAL
    for name in rng.sample(tuple(augmenters), len(augmenters)):
        change = augmenters[name](rng)
        # a task let in under wider limits than these stays as large as it is
        if name == "identity" or all(_is_within_limits(change(grid)) for grid in grids):
            yield change


def _is_within_limits(grid: Grid) -> bool:
    return DEFAULT_LIMITS.hold(len(grid), len(grid[0]))


def _changed(task: Task, change: Change) -> Task:
    return task.replace(
        demonstrations=tuple(
            Demonstration.model_construct(
                input=_changed_value(pair.input, change), output=_changed_value(pair.output, change)
            )
            for pair in task.demonstrations
        ),
        queries=tuple(_changed_value(query, change) for query in task.queries),
    )


def _changed_value(value: Value, change: Change) -> Value:
    return value if isinstance(value, str) else change(value)


def _values(example: Example) -> Iterator[Value]:
    shown, answer = example
    for pair in shown.demonstrations:
        yield pair.input
        yield pair.output
    yield from shown.queries
    yield answer
