"""Add an arm of your own: a search for a short program that explains every demonstration of a grid task."""

import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np

from router import Answer, Router, Task

Array = np.ndarray[tuple[int, int], np.dtype[np.int64]]
STEPS: dict[str, Callable[[Array], Array]] = {
    "mirror": np.fliplr,
    "turn": np.rot90,
    "transpose": np.transpose,
    "beside itself": lambda grid: np.hstack([grid, grid]),
    "twice as large": lambda grid: grid.repeat(2, axis=0).repeat(2, axis=1),
}


class ProgramSearch:
    """Tries programs of at most three steps, the shortest first; a colour may stand for another at the end."""

    expected_s = 0.01
    kinds = ("grid",)

    def answer(self, task: Task, *, deadline: float | None) -> Sequence[Answer]:
        """Run the first program that is right on all demonstrations."""
        pairs = [(np.array(each.input), np.array(each.output)) for each in task.demonstrations]
        for length in range(1, 4):
            for program in itertools.product(STEPS.values(), repeat=length):
                if deadline is not None and time.monotonic() > deadline:
                    return [Answer.of(confidence=0.0)] * len(task.queries)
                if (colours := recolouring([(run(program, given), wanted) for given, wanted in pairs])) is not None:
                    found = [run(program, np.array(query)) for query in task.queries]
                    return [Answer.of(recoloured(grid, colours), confidence=0.9) for grid in found]
        return [Answer.of(confidence=0.0)] * len(task.queries)  # nothing found: it is answered in context

    def close(self) -> None:
        """Hold nothing."""


def run(program: Sequence[Callable[[Array], Array]], grid: Array) -> Array:
    """Take the steps of a program in turn."""
    for step in program:
        grid = step(grid)
    return grid


def recolouring(pairs: Sequence[tuple[Array, Array]]) -> dict[int, int] | None:
    """Return which colour stands for which, or None where grids differ by more than that."""
    colours: dict[int, int] = {}
    for got, wanted in pairs:
        if got.shape != wanted.shape:
            return None
        for a, b in zip(got.flat, wanted.flat, strict=True):
            if colours.setdefault(int(a), int(b)) != b:
                return None
    return colours


def recoloured(grid: Array, colours: dict[int, int]) -> tuple[tuple[int, ...], ...]:
    """Put one colour for another; those that no demonstration shows stay."""
    return tuple(tuple(colours.get(cell, cell) for cell in row) for row in grid.tolist())


turned = Task.from_pairs([([[1, 2], [0, 3]], [[5, 1], [3, 0]]), ([[2, 2], [1, 0]], [[5, 0], [5, 3]])], [[3, 1], [2, 2]])
unknown = Task.from_pairs([([[1, 0, 2]], [[3]]), ([[4, 4, 0]], [[8]])], [[2, 1, 5]])

with Router(arms={"program_search": ProgramSearch()}) as router:
    for task in (turned, unknown):
        solution = router.solve(task, arm="program_search")
        print(solution.answered_by, solution.answer, *solution.degraded)
