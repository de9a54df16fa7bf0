"""The paper's views of a task: each demonstration left out in turn, other orders of those, and five turned ones.

Beside `augmentations.views`, which shows every demonstration in every view. Knows nothing of prompts, models or votes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from random import Random

from icl_engine.augmentations import Augmentation, transforms_for
from icl_engine.task import Task, Value

PAPER_TRANSFORMS = ("transpose", "flip_vertical", "flip_horizontal", "rotate90", "rotate180")
_ORDERS = 2  # further ones of each choice of demonstrations


@dataclass(frozen=True, slots=True)
class LeaveOutView:
    """A task with some of its demonstrations only, turned as a whole: what is answered under it can be turned back."""

    shown: tuple[int, ...]  # which demonstrations, in the order in which they are shown
    transform: str = "identity"  # a name in `augmentations.TRANSFORMS`

    def apply(self, task: Task) -> Task:
        """Return the task as this view shows it.

        Raises:
            TaskRefused: a text task would be turned.
        """
        shown = tuple(task.demonstrations[i] for i in self.shown)
        return Augmentation(self.transform).apply(task.replace(demonstrations=shown))

    def apply_value(self, value: Value) -> Value:
        """Return one grid as this view shows it; a text is returned as it is."""
        return Augmentation(self.transform).apply_value(value)

    def undo_value(self, value: Value) -> Value:
        """Return the grid, such as an answer under this view, as it is in the task's own terms."""
        return Augmentation(self.transform).undo_value(value)


def paper_views(task: Task, seed: int, *, n_left_out: int = 1) -> tuple[LeaveOutView, ...]:
    """Return the paper's views: 3n + 5 of n demonstrations, where n is 4 or more.

    These are every choice of demonstrations with one left out, as they are; then, for each of five transforms, one such
    prompt at random; then two further orders of each choice. So the first n + 5 show the most different things. Fewer
    come where choices have fewer orders (3 demonstrations: 11) and where a transform does not fit the task (see
    `transforms_for`; text is not turned at all). A task with too few demonstrations keeps one: a single demonstration
    is left in. The same content and seed give the same views on every machine.

    Args:
        n_left_out: how many demonstrations are left out: the paper goes on to two where with one nothing fits.

    Source: Akyürek et al. 2024 (arXiv 2411.07279), augmented inference; one prompt per transform, as in its code.
    """
    rng = Random(f"paper-views/1:{task.demonstrations_fingerprint}:{seed}:{n_left_out}")
    n = len(task.demonstrations)
    choices = [
        tuple(i for i in range(n) if i not in left_out) for left_out in combinations(range(n), min(n_left_out, n - 1))
    ]
    reordered = [order for shown in choices for order in _other_orders(shown, rng)]
    fitting = transforms_for(task)
    turned = [
        LeaveOutView(rng.choice(choices + reordered), transform)
        for transform in PAPER_TRANSFORMS
        if transform in fitting
    ]
    return (*map(LeaveOutView, choices), *turned, *map(LeaveOutView, reordered))


def _other_orders(shown: tuple[int, ...], rng: Random) -> list[tuple[int, ...]]:
    """Return two different orders of `shown` that are not its own, or as many as there are."""
    orders = [shown]
    while len(orders) < min(1 + _ORDERS, math.factorial(len(shown))):
        order = tuple(rng.sample(shown, len(shown)))
        if order not in orders:
            orders.append(order)
    return orders[1:]
