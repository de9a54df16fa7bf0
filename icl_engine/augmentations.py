"""Augmentations: invertible rewritings of a task by a symmetry, a colour permutation and an order of demonstrations.

Text has neither sides nor colours, so a text task can only be reordered. Knows nothing of prompts, models or votes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from icl_engine.errors import TaskRefused
from icl_engine.task import Demonstration, Grid, Task, Value

N_COLOURS = 10


def _transposed(grid: Grid) -> Grid:
    return tuple(zip(*grid, strict=True))


def _turned(grid: Grid) -> Grid:
    return tuple(zip(*reversed(grid), strict=True))


def _mirrored(grid: Grid) -> Grid:
    return tuple(row[::-1] for row in grid)


# The 8 symmetries of a rectangle's contents, by name. Turns are clockwise; a horizontal flip swaps left and right.
TRANSFORMS: Mapping[str, Callable[[Grid], Grid]] = MappingProxyType(
    {
        "identity": lambda grid: grid,
        "rotate90": _turned,
        "rotate180": lambda grid: _mirrored(grid[::-1]),
        "rotate270": lambda grid: _transposed(grid)[::-1],
        "flip_horizontal": _mirrored,
        "flip_vertical": lambda grid: grid[::-1],
        "transpose": _transposed,
        "anti_transpose": lambda grid: _turned(_mirrored(grid)),
    }
)
_INVERSE = {name: name for name in TRANSFORMS} | {"rotate90": "rotate270", "rotate270": "rotate90"}
_ONE_ROW = ("identity", "flip_horizontal")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A rewriting of a task that can be undone, on the task and on an answer to it.

    Args:
        transform: A name in `TRANSFORMS`.
        colours: What each colour 0-9 becomes, with 0 left alone; `None` leaves all alone.
        order: Which demonstration comes first, second, ...; `None` leaves them in order.

    Raises:
        TaskRefused: a part is not of this form.
    """

    transform: str = "identity"
    colours: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            known = ", ".join(TRANSFORMS)
            raise TaskRefused(f"got {self.transform!r}", field="transform", remedy=f"Known are {known}.")
        if self.colours is not None and (self.colours[:1] != (0,) or not _is_permutation(self.colours, N_COLOURS)):
            raise TaskRefused(f"got {self.colours}", field="colours", remedy="Give a permutation of 0-9 that keeps 0.")
        if self.order is not None and not _is_permutation(self.order, len(self.order)):
            raise TaskRefused(f"got {self.order}", field="order", remedy="Give a permutation of 0 ... n - 1.")

    def apply(self, task: Task) -> Task:
        """Return the task as rewritten: inputs, outputs and queries alike; id and instruction stay.

        Raises:
            TaskRefused: `order` is not for as many demonstrations, or a text task would be turned or recoloured.
        """
        self._check_fits(task)
        order = range(len(task.demonstrations)) if self.order is None else self.order
        return _mapped(task, [task.demonstrations[i] for i in order], self.apply_value)

    def undo(self, task: Task) -> Task:
        """Return the task that `apply` made this one of.

        Raises:
            TaskRefused: as for `apply`.
        """
        self._check_fits(task)
        order = self.order or range(len(task.demonstrations))
        restored = sorted(zip(order, task.demonstrations, strict=True), key=lambda placed: placed[0])
        return _mapped(task, [demonstration for _, demonstration in restored], self.undo_value)

    def apply_value(self, value: Value) -> Value:
        """Return one grid as rewritten; a text is returned as it is."""
        if isinstance(value, str):
            return value
        return TRANSFORMS[self.transform](value if self.colours is None else _recoloured(value, self.colours))

    def undo_value(self, value: Value) -> Value:
        """Return the grid, such as an answer to a rewritten task, as it is in the task's own terms."""
        if isinstance(value, str):
            return value
        grid = TRANSFORMS[_INVERSE[self.transform]](value)
        return grid if self.colours is None else _recoloured(grid, _inverse_permutation(self.colours))

    def _check_fits(self, task: Task) -> None:
        n = len(task.demonstrations)
        if self.order is not None and len(self.order) != n:
            got = f"an order of {len(self.order)} for {n} demonstrations"
            raise TaskRefused(got, field="order", remedy=f"Give an order of {n}.", task_id=task.id)
        if task.kind == "text" and (self.transform != "identity" or self.colours is not None):
            remedy = "Text can only be reordered: give `order` alone."
            raise TaskRefused(f"got {self.transform!r} for text", field="transform", remedy=remedy, task_id=task.id)


def views(task: Task, n: int, seed: int) -> tuple[Augmentation, ...]:
    """Return up to n different augmentations to answer the task under, the first of them changing nothing.

    They go round the transforms that fit the task in turn, each with random colours and a random order. The same task
    content, n and seed give the same views on every machine, and the first k of n views are the views for k. They are
    drawn by the demonstrations, so that tasks which share these are asked alike up to their queries. Views differ in
    transform, in order, or in what they make of a colour the task holds; where fewer than n exist, all are returned.

    Source: Akyürek et al. 2024 (arXiv 2411.07279), augmented inference (two orders per transform there).
    """
    rng = Random(
        f"views/2:{task.demonstrations_fingerprint}:{seed}"
    )  # a str seeds through SHA-512, whatever the hash seed
    used = _colours_used(task)
    transforms = transforms_for(task)
    n_per_transform = math.perm(N_COLOURS - 1, len(used)) * math.factorial(len(task.demonstrations))
    first = Augmentation()
    chosen, seen = [first], {name: set[_Effect]() for name in transforms}
    seen["identity"].add(_effect(first, task, used))
    for name in _going_round(transforms[1:] + transforms[:1]):
        if len(chosen) >= n or all(len(effects) == n_per_transform for effects in seen.values()):
            return tuple(chosen[: max(n, 0)])
        if len(seen[name]) == n_per_transform:
            continue
        view = _random(task, name, rng)
        while _effect(view, task, used) in seen[name]:  # ends: the transform has views left, and any may be drawn
            view = _random(task, name, rng)
        seen[name].add(_effect(view, task, used))
        chosen.append(view)
    raise AssertionError("going round does not end")


def random_augmentation(task: Task, rng: Random) -> Augmentation:
    """Return an augmentation drawn evenly from those that fit the task."""
    return _random(task, rng.choice(transforms_for(task)), rng)


def transforms_for(task: Task) -> tuple[str, ...]:
    """Name the transforms that make sense for the task, `identity` first.

    Text has none other; a task whose grids all have one row is only mirrored, because turned upright it would show a
    model something no one-row task looks like.
    """
    if task.kind == "text":
        return _ONE_ROW[:1]
    return _ONE_ROW if all(len(value) == 1 for value in _values(task)) else tuple(TRANSFORMS)


_Effect = tuple[tuple[int, ...], tuple[int, ...]]  # the order, and what becomes of the colours the task holds


def _effect(view: Augmentation, task: Task, used: tuple[int, ...]) -> _Effect:
    order = tuple(range(len(task.demonstrations))) if view.order is None else view.order
    return order, used if view.colours is None else tuple(view.colours[colour] for colour in used)


def _random(task: Task, transform: str, rng: Random) -> Augmentation:
    order = tuple(rng.sample(range(len(task.demonstrations)), len(task.demonstrations)))
    if task.kind == "text":
        return Augmentation(transform, None, order)
    return Augmentation(transform, (0, *rng.sample(range(1, N_COLOURS), N_COLOURS - 1)), order)


def _mapped(task: Task, demonstrations: list[Demonstration], change: Callable[[Value], Value]) -> Task:
    return task.replace(
        demonstrations=tuple(
            Demonstration.model_construct(input=change(pair.input), output=change(pair.output))
            for pair in demonstrations
        ),
        queries=tuple(change(query) for query in task.queries),
    )


def _recoloured(grid: Grid, colours: tuple[int, ...]) -> Grid:
    return tuple(tuple(colours[cell] for cell in row) for row in grid)


def _colours_used(task: Task) -> tuple[int, ...]:
    """The colours a permutation may change: those in the task's grids, without 0; none for text."""
    if task.kind == "text":
        return ()
    return tuple(sorted({cell for value in _values(task) for row in value for cell in row if cell != 0}))  # type: ignore[misc]


def _values(task: Task) -> Iterator[Value]:
    for demonstration in task.demonstrations:
        yield demonstration.input
        yield demonstration.output
    yield from task.queries


def _going_round(names: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from names


def _is_permutation(values: tuple[int, ...], n: int) -> bool:
    return sorted(values) == list(range(n))


def _inverse_permutation(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(values)), key=values.__getitem__))
