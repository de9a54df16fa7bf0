"""Route with a policy of your own: train where the model is surprised by a demonstration that is held out."""

from collections.abc import Sequence

import numpy as np

from policies import Decision, FeatureValues
from router import Router, Task


class Surprise:
    """Train where a held-out output costs more than `limit` nats per token on average; never explore."""

    name = "surprise"

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.version = f"1:limit={limit}"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Put all probability on one arm."""
        return tuple(float(arm == self._arm(features, arms)) for arm in arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        """Take that arm."""
        surprise = features.value("loo_nll_mean") or 0.0
        return Decision(
            arm=self._arm(features, arms),
            propensity=1.0,
            propensities=tuple(zip(arms, self.propensities(features, arms), strict=True)),
            reason=f"{surprise:.2f} nats per token on held-out demonstrations, limit {self.limit}",
            policy=f"{self.name}@{self.version}",
            difficulty=min(1.0, surprise),
        )

    def _arm(self, features: FeatureValues, arms: Sequence[str]) -> str:
        surprise = features.value("loo_nll_mean")
        return "ttt" if surprise is not None and surprise > self.limit and "ttt" in arms else "icl"


mirror = Task.from_pairs([([1, 2, 3], [3, 2, 1]), ([4, 4, 5], [5, 4, 4]), ([6, 0, 7], [7, 0, 6])], [8, 1, 1])

with Router(policy=Surprise(limit=0.05)) as router:
    decision = router.decide(mirror)
    print(f"{decision.arm}: {decision.reason}")
