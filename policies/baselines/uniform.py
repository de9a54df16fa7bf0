"""Every arm alike: the policy that learns most about all of them, and what the rest is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import Arm, Decision, draw, paired, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable

if TYPE_CHECKING:
    import numpy as np

    from policies.feature_values import FeatureValues


@dataclass(frozen=True, slots=True)
class Uniform:
    """Draw each available arm with the same probability.

    Example:
        >>> from policies.feature_values import NamedFeatures
        >>> Uniform().propensities(NamedFeatures((), ()), ("icl", "ttt"))
        (0.5, 0.5)
    """

    @property
    def name(self) -> str:
        return "uniform"

    @property
    def version(self) -> str:
        return "1"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return 1 / n for each of n arms."""
        if not arms:
            raise ArmUnavailable(Arm.ICL, arms)
        return (1.0 / len(arms),) * len(arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        propensities = self.propensities(features, arms)
        arm, propensity = draw(rng, arms, propensities)
        reason = f"one of {len(arms)} arms, each with {propensity:.3f}, whatever the task"
        difficulty = 1.0 - p_icl_correct(features)
        return Decision(arm, propensity, paired(arms, propensities), reason, policy_id(self), difficulty)
