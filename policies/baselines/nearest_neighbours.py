"""Nearest neighbours: an arm is worth what it was worth on the tasks most like this one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from policies.baselines.standardising import Standardising
from policies.decision import Arm, Decision, certain, drawn
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable, PolicySettingRefused
from policies.exploration import best_arm

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix
    from policies.pricing import Pricing

    Floats = npt.NDArray[np.float64]

_UNSEEN = 0.5  # quality of an arm that was never seen


class NearestNeighbours:
    """Take the arm with the highest mean quality among the k nearest tasks it was seen on, less price * cost.

    Certain given what it has seen, so its logs say nothing of what another policy would have got.

    Args:
        scale: of the features, between which the distance is Euclidean.
        k: neighbours; all of them where an arm was seen on fewer tasks.
    """

    def __init__(self, scale: Standardising, pricing: Pricing, *, k: int = 25) -> None:
        if k < 1:
            raise PolicySettingRefused("k", f"got {k}", remedy="Give a count from 1.")
        self._scale = scale
        self._pricing = pricing
        self._k = k
        self._tasks: dict[str, _Seen] = {}
        self._seen = hashlib.sha256()

    @classmethod
    def of(cls, matrix: OutcomeMatrix, names: Sequence[str], pricing: Pricing, *, k: int = 25) -> Self:
        """Take every measured answer of a matrix for seen."""
        made = cls(Standardising.of(matrix, names), pricing, k=k)
        for row in range(len(matrix)):
            features = matrix.features_at(row)
            for arm, quality in zip(matrix.arms, matrix.quality[row].tolist(), strict=True):
                if quality == quality:
                    made.update(features, arm, quality)
        return made

    @property
    def name(self) -> str:
        return "nearest_neighbours"

    @property
    def version(self) -> str:
        settings = f"k={self._k},{self._pricing.described()},{self._scale.described()}"
        return f"1:{settings},seen={self._seen.hexdigest()[:8]}"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return 1 for the best arm and 0 for every other."""
        return certain(self._rule(features, arms)[0], arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        arm, reason = self._rule(features, arms)
        difficulty = 1.0 - p_icl_correct(features)
        return drawn(self, certain(arm, arms), rng, arms, favourite=arm, reason=reason, difficulty=difficulty)

    def update(self, features: FeatureValues, arm: str, quality: float) -> None:
        """Learn that `arm` gave an answer of this quality, in [0, 1]."""
        x = self._scale.row(features)
        self._tasks.setdefault(arm, _Seen(len(x))).add(x, quality)
        self._seen.update(x.tobytes() + f"{arm}={quality}".encode())

    def score(self, features: FeatureValues) -> float:
        """Return the expected gain of `ttt` over `icl`."""
        x = self._scale.row(features)
        return self._expected(x, Arm.TTT) - self._expected(x, Arm.ICL)

    def scores(self, matrix: OutcomeMatrix) -> Floats:
        """Return the expected gain of `ttt` over `icl` in each row."""
        return np.array([self.score(matrix.features_at(row)) for row in range(len(matrix))])

    def _rule(self, features: FeatureValues, arms: Sequence[str]) -> tuple[str, str]:
        if not arms:
            raise ArmUnavailable(Arm.ICL, arms)
        x = self._scale.row(features)
        costs = self._pricing.costs(features, arms).tolist()
        expected = [self._expected(x, arm) for arm in arms]
        utilities = [mean - self._pricing.price * cost for mean, cost in zip(expected, costs, strict=True)]
        arm = best_arm(arms, utilities, costs)
        i = list(arms).index(arm)
        priced = f"{self._pricing.price:g} * {costs[i]:.2f}"
        return arm, f"{arm}: quality {expected[i]:.2f} on the {self._k} nearest tasks - {priced}, the most of all arms"

    def _expected(self, x: Floats, arm: str) -> float:
        return self._tasks[arm].mean_near(x, self._k) if arm in self._tasks else _UNSEEN


class _Seen:
    """The tasks one arm was seen on, in arrays that double when they are full."""

    def __init__(self, n_features: int) -> None:
        self._n = 0
        self._x = np.empty((64, n_features))
        self._quality = np.empty(64)

    def add(self, x: Floats, quality: float) -> None:
        if self._n == len(self._quality):
            self._x = np.concatenate([self._x, np.empty_like(self._x)])
            self._quality = np.concatenate([self._quality, np.empty_like(self._quality)])
        self._x[self._n], self._quality[self._n] = x, quality
        self._n += 1

    def mean_near(self, x: Floats, k: int) -> float:
        """Return the mean quality of the k nearest; of equally near ones the first seen."""
        distances = np.square(self._x[: self._n] - x).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[:k]
        return float(self._quality[nearest].mean())
