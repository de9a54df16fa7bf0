"""Thompson sampling without features: each arm as often as it may be the best one, given how it fared so far."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Arm, Decision, drawn
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable, PolicySettingRefused

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.pricing import Pricing

    Floats = npt.NDArray[np.float64]


class BetaThompson:
    """Draw each arm with the probability that its quality, less price * cost, is the highest.

    That probability has no closed form. It is estimated with draws that hang on the state alone, and the arm is drawn
    from the estimate: so the propensities are exact, for the policy that this is.

    Args:
        n_draws: of each arm's quality, from Beta(1 + sum of qualities, 1 + sum of what was missing to 1).
    """

    def __init__(self, pricing: Pricing, *, n_draws: int = 2000) -> None:
        if n_draws < 1:
            raise PolicySettingRefused("n_draws", f"got {n_draws}", remedy="Give a count from 1.")
        self._pricing = pricing
        self._n_draws = n_draws
        self._counts: dict[str, tuple[float, float]] = {}  # arm -> quality seen, quality missed
        self._draws: dict[str, Floats] = {}  # of the state as it is

    @property
    def name(self) -> str:
        return "beta_thompson"

    @property
    def version(self) -> str:
        seen = ",".join(f"{arm}={good:g}/{bad:g}" for arm, (good, bad) in sorted(self._counts.items()))
        return f"1:draws={self._n_draws},{self._pricing.described()},seen=({seen})"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the share of draws in which each arm is the best; of `features` only predicted costs count."""
        if not arms:
            raise ArmUnavailable(Arm.ICL, arms)
        costs = dict(zip(arms, self._pricing.costs(features, arms).tolist(), strict=True))
        names = sorted(arms)  # so that the order of arms breaks no tie
        utilities = np.stack([self._drawn(arm) - self._pricing.price * costs[arm] for arm in names])
        wins = np.bincount(utilities.argmax(axis=0), minlength=len(names)) / self._n_draws
        by_arm = dict(zip(names, wins.tolist(), strict=True))
        return tuple(by_arm[arm] for arm in arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        propensities = self.propensities(features, arms)
        p, likeliest = max(zip(propensities, arms, strict=True))
        good, bad = self._counts.get(likeliest, (0.0, 0.0))
        reason = f"{likeliest}: right {good:g} times, wrong {bad:g} times, and the best arm with probability {p:.3f}"
        difficulty = 1.0 - p_icl_correct(features)
        return drawn(self, propensities, rng, arms, favourite=str(likeliest), reason=reason, difficulty=difficulty)

    def update(self, features: FeatureValues, arm: str, quality: float) -> None:
        """Learn that `arm` gave an answer of this quality, in [0, 1]; on which task does not matter."""
        good, bad = self._counts.get(arm, (0.0, 0.0))
        self._counts[arm] = (good + quality, bad + 1.0 - quality)
        self._draws.pop(arm, None)

    def _drawn(self, arm: str) -> Floats:
        if arm not in self._draws:
            good, bad = self._counts.get(arm, (0.0, 0.0))
            seed = int.from_bytes(hashlib.sha256(f"{arm}:{good!r}:{bad!r}".encode()).digest()[:8], "big")
            self._draws[arm] = np.random.default_rng(seed).beta(1.0 + good, 1.0 + bad, size=self._n_draws)
        return self._draws[arm]
