"""LinUCB with a model for each arm, and cost: the arm whose quality could be highest, less its price.

It takes one arm with certainty, given what it has seen; so its logs say nothing of what another policy would have got.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Arm, Decision, certain, drawn
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable, PolicySettingRefused
from policies.exploration import best_arm

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.baselines.standardising import Standardising
    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix
    from policies.pricing import Pricing

    Floats = npt.NDArray[np.float64]


class LinUcb:
    """Take the arm with the highest theta . x + alpha sqrt(x' A^-1 x) - price * cost.

    Args:
        scale: of the features; a constant is added to them.
        alpha: how much an arm is favoured for being unknown.
        ridge: pull of the weights towards 0.

    Source: Li et al. 2010, algorithm 1 (disjoint linear models), with the price of the arm subtracted.
    """

    def __init__(self, scale: Standardising, pricing: Pricing, *, alpha: float = 0.5, ridge: float = 1.0) -> None:
        if not alpha >= 0.0:
            raise PolicySettingRefused("alpha", f"got {alpha}", remedy="Give a number from 0.")
        if not ridge > 0.0:
            raise PolicySettingRefused("ridge", f"got {ridge}", remedy="Give a number above 0.")
        self._scale = scale
        self._pricing = pricing
        self._alpha = alpha
        self._ridge = ridge
        self._inverse: dict[str, Floats] = {}  # of A = ridge I + sum of x x', (n_features + 1, n_features + 1)
        self._rewarded: dict[str, Floats] = {}  # sum of quality * x, (n_features + 1,)
        self._seen = hashlib.sha256()

    @property
    def name(self) -> str:
        return "linucb"

    @property
    def version(self) -> str:
        settings = f"alpha={self._alpha},ridge={self._ridge},{self._pricing.described()},{self._scale.described()}"
        return f"1:{settings},seen={self._seen.hexdigest()[:8]}"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return 1 for the arm of the highest bound and 0 for every other."""
        return certain(self._rule(features, arms)[0], arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        arm, reason = self._rule(features, arms)
        difficulty = 1.0 - p_icl_correct(features)
        return drawn(self, certain(arm, arms), rng, arms, favourite=arm, reason=reason, difficulty=difficulty)

    def update(self, features: FeatureValues, arm: str, quality: float) -> None:
        """Learn that `arm` gave an answer of this quality, in [0, 1]."""
        x = self._x(features)
        inverse, rewarded = self._state(arm, len(x))
        ax = inverse @ x
        self._inverse[arm] = inverse - np.outer(ax, ax) / (1.0 + float(x @ ax))  # Sherman and Morrison
        self._rewarded[arm] = rewarded + quality * x
        self._seen.update(x.tobytes() + f"{arm}={quality}".encode())

    def score(self, features: FeatureValues) -> float:
        """Return the expected gain of `ttt` over `icl`, without what is favoured for being unknown."""
        x = self._x(features)
        (trained, _), (in_context, _) = self._expected(x, Arm.TTT), self._expected(x, Arm.ICL)
        return trained - in_context

    def scores(self, matrix: OutcomeMatrix) -> Floats:
        """Return the expected gain of `ttt` over `icl` in each row."""
        return np.array([self.score(matrix.features_at(row)) for row in range(len(matrix))])

    def _rule(self, features: FeatureValues, arms: Sequence[str]) -> tuple[str, str]:
        if not arms:
            raise ArmUnavailable(Arm.ICL, arms)
        x = self._x(features)
        costs = self._pricing.costs(features, arms).tolist()
        expected = [self._expected(x, arm) for arm in arms]
        bounds = [
            mean + self._alpha * spread - self._pricing.price * cost
            for (mean, spread), cost in zip(expected, costs, strict=True)
        ]
        arm = best_arm(arms, bounds, costs)
        i = list(arms).index(arm)
        mean, spread = expected[i]
        said = f"{arm}: quality {mean:.2f} + {self._alpha:g} * {spread:.2f}"
        said += f" - {self._pricing.price:g} * {costs[i]:.2f} = {bounds[i]:.2f}, the highest"
        return arm, f"{said}; certain given what it has seen, so not evaluable off-policy"

    def _expected(self, x: Floats, arm: str) -> tuple[float, float]:
        """Return the expected quality and how little is known of it."""
        inverse, rewarded = self._state(arm, len(x))
        ax = inverse @ x
        return float(ax @ rewarded), float(np.sqrt(x @ ax))

    def _state(self, arm: str, n: int) -> tuple[Floats, Floats]:
        if arm not in self._inverse:
            return np.eye(n) / self._ridge, np.zeros(n)
        return self._inverse[arm], self._rewarded[arm]

    def _x(self, features: FeatureValues) -> Floats:
        return np.append(self._scale.row(features), 1.0)
