"""The first policy: a stated rule on the leave-one-out score, with a little exploration.

Nothing is learned here. A task whose demonstrations the model answers when they are held out is answered in context;
any other is trained on. That an adapter is at hand makes training free, but does not change the arm: the same task is
answered the same way, whichever tasks with the same demonstrations came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import Arm, Decision, draw, first_available, paired, policy_id
from policies.difficulty import p_icl_correct

if TYPE_CHECKING:
    import numpy as np

    from policies.features import Features

CHEAP = (Arm.ICL, Arm.ICL_VOTE)
CAREFUL = (Arm.ICL_VOTE, Arm.ICL)
TRAINED = (Arm.TTT, Arm.TTT_SHORT, Arm.ICL_VOTE, Arm.ICL)


@dataclass(frozen=True, slots=True)
class LooThreshold:
    """Answer in context where leave-one-out says it will do, else train.

    Example:
        >>> LooThreshold(threshold=0.5).version
        '1:threshold=0.5,sure_at=0.9,epsilon=0.05'
    """

    threshold: float = 1.0  # share of held-out demonstrations answered exactly that makes training needless
    sure_at: float = 0.9  # P(icl correct) that does so too: with many demonstrations one miss is no reason to train
    epsilon: float = 0.05  # probability spread evenly over the available arms

    def __post_init__(self) -> None:
        for name in ("threshold", "sure_at", "epsilon"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share, between 0 and 1; got {getattr(self, name)}")

    @property
    def name(self) -> str:
        return "loo_threshold"

    @property
    def version(self) -> str:
        return f"1:threshold={self.threshold},sure_at={self.sure_at},epsilon={self.epsilon}"

    def propensities(self, features: Features, arms: Sequence[str]) -> tuple[float, ...]:
        """Return epsilon / n for every arm, and 1 - epsilon more for the one the rule takes."""
        favourite, _ = self._rule(features, arms)
        floor = self.epsilon / len(arms)
        return tuple(floor + (1.0 - self.epsilon) * (arm == favourite) for arm in arms)

    def decide(self, features: Features, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        favourite, reason = self._rule(features, arms)
        propensities = self.propensities(features, arms)
        arm, propensity = draw(rng, arms, propensities)
        if arm != favourite:
            reason = f"exploring {arm}, drawn with {propensity:.3f}; the rule takes {favourite}: {reason}"
        return Decision(
            arm=arm,
            propensity=propensity,
            propensities=paired(arms, propensities),
            reason=reason,
            policy=policy_id(self),
            difficulty=1.0 - p_icl_correct(features),
        )

    def _rule(self, features: Features, arms: Sequence[str]) -> tuple[str, str]:
        """Return the arm the rule takes, and why."""
        n, k, p = features.n_held_out, features.n_held_out_exact, p_icl_correct(features)
        if n == 0:
            few = "leave-one-out needs 2 demonstrations" if features.n_demonstrations < 2 else "none was held out"
            return first_available(CAREFUL, arms), f"{_counted(features.n_demonstrations)}, {few}: answering in context"
        held_out = f"{k} of {n} demonstrations answered when held out"
        if k / n >= self.threshold:
            return first_available(CHEAP, arms), f"{held_out}, at least {self.threshold:.2f}: no training needed"
        if p >= self.sure_at:
            sure = f"P(icl correct) {p:.2f}, at least {self.sure_at:.2f}"
            return first_available(CHEAP, arms), f"{held_out}, {sure}: no training needed"
        arm = first_available(TRAINED, arms)
        if arm == Arm.TTT and features.adapter_cached:
            verdict = "its adapter is at hand"
        else:
            verdict = "training" if arm in (Arm.TTT, Arm.TTT_SHORT) else f"training is not available, so {arm}"
        return arm, f"{held_out}, below {self.threshold:.2f}: {verdict}"


def _counted(n_demonstrations: int) -> str:
    return f"{n_demonstrations} demonstration{'' if n_demonstrations == 1 else 's'}"
