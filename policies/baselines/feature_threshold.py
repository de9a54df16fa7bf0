"""One feature and one limit, nothing learned: the plain cascades that a learned policy has to beat.

`loo_exact_threshold`, `vote_cascade` and `entropy_threshold` are the three that matter; any other feature will do too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from policies.decision import CAREFUL, CHEAP, TRAINED, Decision, certain, drawn, first_available
from policies.difficulty import p_icl_correct
from policies.errors import PolicySettingRefused
from policies.features import stage_wanted
from policies.replay import feature_columns

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix
    from policies.stages import Stage

_LEAST = -1e9  # score of a task whose feature is not known: below all others, and finite


@dataclass(frozen=True, slots=True)
class FeatureThreshold:
    """Train where a feature lies on one side of a limit, else answer in context, as where it is not known.

    Example:
        >>> from policies.feature_values import NamedFeatures
        >>> policy = FeatureThreshold("answer_entropy", limit=0.7, trains="above")
        >>> policy.propensities(NamedFeatures(("answer_entropy",), (0.9,)), ("icl", "ttt"))
        (0.0, 1.0)
    """

    feature: str
    limit: float
    trains: Literal["above", "below"]
    kept: tuple[str, ...] = CHEAP  # arms that answer where nothing is trained, the first available one

    def __post_init__(self) -> None:
        if math.isnan(self.limit):
            raise PolicySettingRefused("limit", "got nan", remedy="Give a number.")

    @property
    def name(self) -> str:
        return f"{self.feature}_threshold"

    @property
    def version(self) -> str:
        return f"1:trains_{self.trains}={self.limit},kept={'+'.join(self.kept)}"

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return 1 for the arm the rule takes; says nothing off-policy about the others."""
        return certain(self._rule(features, arms)[0], arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        arm, reason = self._rule(features, arms)
        difficulty = 1.0 - p_icl_correct(features)
        return drawn(self, certain(arm, arms), rng, arms, favourite=arm, reason=reason, difficulty=difficulty)

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        """Ask for the stage that gives the feature."""
        return stage_wanted((self.feature,), features)

    def score(self, features: FeatureValues) -> float:
        """Return the feature, turned such that more of it speaks for training."""
        value = features.value(self.feature)
        return _LEAST if value is None else self._sign * value

    def scores(self, matrix: OutcomeMatrix) -> npt.NDArray[np.float64]:
        """Return the score of each row."""
        return np.nan_to_num(self._sign * feature_columns(matrix, (self.feature,))[:, 0], nan=_LEAST)

    @property
    def _sign(self) -> float:
        return 1.0 if self.trains == "above" else -1.0

    def _rule(self, features: FeatureValues, arms: Sequence[str]) -> tuple[str, str]:
        value = features.value(self.feature)
        if value is None:
            return first_available(self.kept, arms), f"{self.feature} is not known: nothing is trained"
        if self._sign * value > self._sign * self.limit:
            arm = first_available(TRAINED, arms)
            return arm, f"{self.feature} {value:.3g}, {self.trains} {self.limit:.3g}: {arm}"
        arm = first_available(self.kept, arms)
        return arm, f"{self.feature} {value:.3g}, not {self.trains} {self.limit:.3g}: {arm}"


def loo_exact_threshold(limit: float = 1.0) -> FeatureThreshold:
    """Return the leave-one-out threshold: train where less than `limit` of the held-out demonstrations are answered."""
    return FeatureThreshold("loo_exact_share", limit, "below")


def vote_cascade(limit: float = 1.0) -> FeatureThreshold:
    """Return the cascade of votes: take the vote where at least `limit` of its views agree, else train."""
    return FeatureThreshold("vote_agreement", limit, "below", kept=CAREFUL)


def entropy_threshold(limit: float) -> FeatureThreshold:
    """Return the entropy threshold: train where the answer's entropy is above `limit` nats."""
    return FeatureThreshold("answer_entropy", limit, "above")
