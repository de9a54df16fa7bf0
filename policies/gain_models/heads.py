"""Heads: the chances a gain model estimates, what a row of a matrix says of each, and how a gain is made of them.

For every arm a head `correct`: its expected quality. For every arm but `icl` two more, `only` and `only_icl`: by how
much the arm is better than `icl`, and by how much worse, each counted as 0 where it is the other way round. With
qualities of 0 and 1 these are the chances that only the arm is right, and that only `icl` is. Their difference is the
gain, learned directly; the difference of two `correct` heads estimates the same, but the errors of its two halves do
not cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Arm

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]

FLOOR = Arm.ICL.value  # the arm that every gain is counted from


class HeadKind(StrEnum):
    """What a head is a chance of."""

    CORRECT = "correct"
    ONLY = "only"
    ONLY_ICL = "only_icl"


@dataclass(frozen=True, slots=True)
class Head:
    """One chance, in [0, 1], that is estimated for each task."""

    kind: HeadKind
    arm: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.arm}"


def heads_of(arms: Sequence[str]) -> tuple[Head, ...]:
    """Return the heads of a model over `arms`: `correct` of each, then `only` and `only_icl` of each but `icl`."""
    correct = [Head(HeadKind.CORRECT, arm) for arm in arms]
    direct = [Head(kind, arm) for arm in arms if arm != FLOOR for kind in (HeadKind.ONLY, HeadKind.ONLY_ICL)]
    return (*correct, *direct)


def targets_of(matrix: OutcomeMatrix) -> Floats:
    """Return what each row says of each head, shape (n_rows, n_heads), in [0, 1]; NaN: not measured."""
    floor = matrix.quality[:, matrix.column(FLOOR)]

    def target(head: Head) -> Floats:
        quality = matrix.quality[:, matrix.column(head.arm)]
        if head.kind is HeadKind.CORRECT:
            return quality
        gain = quality - floor
        return np.maximum(gain if head.kind is HeadKind.ONLY else -gain, 0.0)

    return np.column_stack([target(head) for head in heads_of(matrix.arms)])


def mixtures_of(arms: Sequence[str]) -> tuple[Floats, Floats]:
    """Return how the gain of each arm is made of the heads: directly, and as a difference of `correct` heads.

    Both have shape (n_heads, n_arms), so that chances (n_tasks, n_heads) times either are gains.
    """
    heads = heads_of(arms)
    direct, indirect = np.zeros((2, len(heads), len(arms)))
    for j, arm in enumerate(arms):
        if arm == FLOOR:
            continue
        direct[heads.index(Head(HeadKind.ONLY, arm)), j] = 1.0
        direct[heads.index(Head(HeadKind.ONLY_ICL, arm)), j] = -1.0
        indirect[heads.index(Head(HeadKind.CORRECT, arm)), j] = 1.0
        indirect[heads.index(Head(HeadKind.CORRECT, FLOOR)), j] = -1.0
    return direct, indirect
