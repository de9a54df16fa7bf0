"""The control that costs the same: another policy's shares of arms, given out without a look at the task.

A policy that does not beat it has found no task in which an arm is worth more than in any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from policies.decision import CAREFUL, Decision, Policy, certain, draw, first_available, paired, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable, PolicySettingRefused
from policies.replay import ReplayPolicy, choices_of

if TYPE_CHECKING:
    import numpy as np

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix


@dataclass(frozen=True, slots=True)
class CostMatchedShuffle:
    """Draw each arm with its share. Where an arm is not available, the others keep their proportions."""

    shares: tuple[tuple[str, float], ...]  # (arm, share of tasks), sorted by arm
    of_policy: str  # name@version of the policy whose shares they are

    def __post_init__(self) -> None:
        if any(not share >= 0.0 for _, share in self.shares) or not sum(share for _, share in self.shares) > 0.0:
            raise PolicySettingRefused("shares", f"got {self.shares}", remedy="Give shares from 0, one of them above.")

    @classmethod
    def of(cls, policy: Policy | ReplayPolicy, matrix: OutcomeMatrix) -> Self:
        """Take the shares that `policy` has on a matrix."""
        shares = choices_of(policy, matrix).mean(axis=0).tolist()
        return cls(tuple(sorted(zip(matrix.arms, shares, strict=True))), policy_id(policy))

    @property
    def name(self) -> str:
        return "cost_matched_shuffle"

    @property
    def version(self) -> str:
        shares = ",".join(f"{arm}={share}" for arm, share in self.shares)
        return f"1:{shares},of=({self.of_policy})"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the shares among those of `arms`; it takes no notice of `features`."""
        if not arms:
            raise ArmUnavailable(self.shares[0][0], arms)
        shares = dict(self.shares)
        total = sum(shares[arm] for arm in sorted(arms) if arm in shares)
        if not total:
            return certain(first_available(CAREFUL, arms), arms)
        return tuple(shares.get(arm, 0.0) / total for arm in arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        propensities = self.propensities(features, arms)
        arm, propensity = draw(rng, arms, propensities)
        reason = f"drawn with {propensity:.3f}, the share of {arm} under {self.of_policy}, whatever the task"
        difficulty = 1.0 - p_icl_correct(features)
        return Decision(arm, propensity, paired(arms, propensities), reason, policy_id(self), difficulty)
