"""Decisions: which arm answers a task, drawn with which probability, and why.

The record and the `Policy` protocol, and what every policy shares: the order of arms and the draw itself. How the
propensities come about is each policy's own business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from policies.errors import ArmUnavailable

if TYPE_CHECKING:
    import numpy as np

    from policies.features import Features


class Arm(StrEnum):
    """The built-in arms. Arms are passed as plain strings, because users add their own."""

    ZERO_SHOT = "zero_shot"
    ICL = "icl"
    ICL_VOTE = "icl_vote"
    TTT_SHORT = "ttt_short"
    TTT = "ttt"


@dataclass(frozen=True, slots=True)
class Decision:
    """One draw of one policy for one task."""

    arm: str
    propensity: float  # probability with which `arm` was drawn, in (0, 1]
    propensities: tuple[tuple[str, float], ...]  # (arm, probability) of every available arm, sums to 1
    reason: str  # one sentence for a person, with the numbers it rests on
    policy: str  # name@version of the policy that decided
    difficulty: float  # 1 - P(icl correct) as estimated, in [0, 1]


class Policy(Protocol):
    """Maps features to a decision over the arms that are available."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes whenever the same features could lead to other propensities."""
        ...

    def propensities(self, features: Features, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the probability of each of `arms`, in their order; sums to 1.

        Raises:
            ArmUnavailable: `arms` is empty, or lacks an arm the policy cannot do without.
        """
        ...

    def decide(self, features: Features, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        """Draw one of `arms` and say why.

        Raises:
            ArmUnavailable: as for `propensities`.
        """
        ...


def policy_id(policy: Policy) -> str:
    """Return `name@version`, the form in which a decision names its policy."""
    return f"{policy.name}@{policy.version}"


def first_available(preferred: Sequence[str], arms: Sequence[str]) -> str:
    """Return the first of `preferred` that is among `arms`, else the first of `arms`.

    Raises:
        ArmUnavailable: `arms` is empty.
    """
    if not arms:
        raise ArmUnavailable(preferred[0], arms)
    return str(next((arm for arm in preferred if arm in arms), arms[0]))


def draw(rng: np.random.Generator, arms: Sequence[str], propensities: Sequence[float]) -> tuple[str, float]:
    """Draw one arm with one number of `rng`; return it with the probability it was drawn with."""
    i = int(rng.choice(len(arms), p=propensities))
    return str(arms[i]), float(propensities[i])


def paired(arms: Sequence[str], propensities: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """Return `(arm, probability)` for each arm, the form in which a decision keeps them."""
    return tuple((str(arm), float(p)) for arm, p in zip(arms, propensities, strict=True))
