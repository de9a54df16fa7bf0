"""The policy that always takes one arm: for arms a person asked for, and as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import Decision, certain, paired, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable

if TYPE_CHECKING:
    import numpy as np

    from policies.feature_values import FeatureValues


@dataclass(frozen=True, slots=True)
class AlwaysArm:
    """Take `arm` with probability 1; draws nothing from `rng`. Says nothing off-policy about the other arms.

    Example:
        >>> AlwaysArm("icl").name
        'always_icl'
    """

    arm: str

    @property
    def name(self) -> str:
        return f"always_{self.arm}"

    @property
    def version(self) -> str:
        return "1"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return 1 for the arm and 0 for every other; it takes no notice of `features`."""
        if self.arm not in arms:
            raise ArmUnavailable(self.arm, arms)
        return certain(self.arm, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        return Decision(
            arm=str(self.arm),
            propensity=1.0,
            propensities=paired(arms, self.propensities(features, arms)),
            reason="asked for",
            policy=policy_id(self),
            difficulty=1.0 - p_icl_correct(features),
        )
