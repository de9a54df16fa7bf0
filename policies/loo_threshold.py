"""The first policy: a stated rule on the leave-one-out score, with a little exploration.

Nothing is learned here. A task whose demonstrations the model answers when they are held out is answered in context;
any other is trained on. That an adapter is at hand makes training free, but does not change the arm: the same task is
answered the same way, whichever tasks with the same demonstrations came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import CAREFUL, CHEAP, TRAINED, TRAINING, Arm, Decision, drawn, first_available
from policies.difficulty import held_out, p_icl_correct
from policies.features import stage_wanted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix
    from policies.stages import Stage


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

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return epsilon / n for every arm, and 1 - epsilon more for the one the rule takes."""
        favourite, _ = self._rule(features, arms)
        return self._spread(favourite, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        favourite, reason = self._rule(features, arms)
        return drawn(
            self,
            self._spread(favourite, arms),
            rng,
            arms,
            favourite=favourite,
            reason=reason,
            difficulty=1.0 - p_icl_correct(features),
        )

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        """Ask for the demonstrations held out."""
        return stage_wanted(("n_held_out",), features)

    def score(self, features: FeatureValues) -> float:
        """Return the difficulty, 1 - P(icl correct)."""
        return 1.0 - p_icl_correct(features)

    def scores(self, matrix: OutcomeMatrix) -> npt.NDArray[np.float64]:
        """Return the difficulty of each row."""
        import numpy as np  # here, so that naming the rule does not load it

        return np.array([self.score(matrix.features_at(row)) for row in range(len(matrix))])

    def _spread(self, favourite: str, arms: Sequence[str]) -> tuple[float, ...]:
        floor = self.epsilon / len(arms)
        return tuple(floor + (1.0 - self.epsilon) * (arm == favourite) for arm in arms)

    def _rule(self, features: FeatureValues, arms: Sequence[str]) -> tuple[str, str]:
        """Return the arm the rule takes, and why."""
        (k, n), p = held_out(features), p_icl_correct(features)
        if n == 0:
            return first_available(CAREFUL, arms), f"{_nothing_held_out(features)}: answering in context"
        said = f"{k:g} of {n:g} demonstrations answered when held out"
        if k / n >= self.threshold:
            return first_available(CHEAP, arms), f"{said}, at least {self.threshold:.2f}: no training needed"
        if p >= self.sure_at:
            sure = f"P(icl correct) {p:.2f}, at least {self.sure_at:.2f}"
            return first_available(CHEAP, arms), f"{said}, {sure}: no training needed"
        arm = first_available(TRAINED, arms)
        if arm == Arm.TTT and features.value("adapter_cached"):
            verdict = "its adapter is at hand"
        else:
            verdict = "training" if arm in TRAINING else f"training is not available, so {arm}"
        return arm, f"{said}, below {self.threshold:.2f}: {verdict}"


def _nothing_held_out(features: FeatureValues) -> str:
    n = features.value("n_demonstrations")
    if n is None:
        return "nothing is known of held-out demonstrations"
    few = "leave-one-out needs 2 demonstrations" if n < 2 else "none was held out"
    return f"{n:g} demonstration{'' if n == 1 else 's'}, {few}"
