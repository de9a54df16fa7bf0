"""From utilities to probabilities: chance where the margin is small, a floor everywhere, none at all if so wished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

_COLDEST = 1e-9  # utility; below it a quotient may overflow, and no margin is as small
_HALVED_AFTER = 300  # outcomes; what a model has seen decides how far its margins can be trusted


def annealed(temperature: float, n_outcomes: int) -> float:
    """Return the temperature once `n_outcomes` have been learned from: it falls with their square root, as the error
    of an estimate does.
    """
    return float(temperature / np.sqrt(1.0 + 3.0 * n_outcomes / _HALVED_AFTER))


def margin_shaped(
    utilities: Floats, available: Mask, favourite: npt.NDArray[np.int64], *, explore: float, temperature: float
) -> Floats:
    """Return a softmax over utilities with a floor, (n_tasks, n_arms); rows sum to 1.

    With two arms and a margin m this is sigmoid(m / temperature), kept within [explore, 1 - explore]. With n arms the
    floor of each is explore / (n - 1), so that the best one never falls below 1 - explore for their sake.

    Args:
        utilities: (n_tasks, n_arms); -inf for an arm that only the floor may bring up.
        available: (n_tasks, n_arms); every row has at least one, with a finite utility.
        favourite: (n_tasks,), columns; where `explore` or `temperature` is 0 only the floor is left to chance.
        explore: 0 to 0.5.
    """
    if explore == 0.0 or temperature < _COLDEST:
        soft = np.eye(utilities.shape[1])[favourite]
    else:
        scaled = np.where(available, utilities, -np.inf) / temperature
        soft = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        soft /= soft.sum(axis=1, keepdims=True)
    n_others = np.maximum(available.sum(axis=1, keepdims=True) - 1, 1)
    floors = np.where(available, explore / n_others, 0.0)
    floors[available.sum(axis=1) == 1] = 0.0
    return _raised(soft, floors)


def best(utilities: Floats, available: Mask, costs: Floats) -> npt.NDArray[np.int64]:
    """Return the column of the highest utility in each row; of equal ones the cheapest, and of those the first."""
    masked = np.where(available, utilities, -np.inf)
    tied = available & (masked == masked.max(axis=1, keepdims=True))
    columns: npt.NDArray[np.int64] = np.argmin(np.where(tied, costs, np.inf), axis=1)
    return columns


def best_arm(arms: Sequence[str], utilities: Sequence[float], costs: Sequence[float]) -> str:
    """Return the arm of the highest utility; of equal ones the cheapest, and of those the first by name."""
    return min((-utility, cost, str(arm)) for arm, utility, cost in zip(arms, utilities, costs, strict=True))[2]


def _raised(soft: Floats, floors: Floats) -> Floats:
    """Raise what lies below its floor to it, and scale the rest so that rows sum to 1 again."""
    raised = soft.copy()
    low = np.zeros(soft.shape, dtype=np.bool_)
    for _ in range(soft.shape[1]):  # scaling may bring another below its floor; each round fixes one at least
        low |= raised < floors
        left = 1.0 - np.where(low, floors, 0.0).sum(axis=1, keepdims=True)
        high = np.where(low, 0.0, soft)
        scaled = high / np.maximum(high.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        raised = np.where(low, floors, left * scaled)
    return raised
