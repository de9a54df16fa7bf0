"""Decisions: which arm answers a task, drawn with which probability, and why.

The record and the `Policy` protocol, and what every policy shares: the order of arms and the draw itself. How the
propensities come about is each policy's own business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from policies.errors import ArmUnavailable

if TYPE_CHECKING:
    import numpy as np

    from policies.feature_values import FeatureValues


class Arm(StrEnum):
    """The built-in arms. Arms are passed as plain strings, because users add their own."""

    ZERO_SHOT = "zero_shot"
    ICL = "icl"
    ICL_VOTE = "icl_vote"
    TTT_SHORT = "ttt_short"
    TTT = "ttt"


REMOTE = "remote"  # a model on a server: an added arm, there where one is set, and in no policy's own order
CHEAP = (Arm.ICL, Arm.ICL_VOTE)
CAREFUL = (Arm.ICL_VOTE, Arm.ICL)
TRAINING = (Arm.TTT, Arm.TTT_SHORT)  # those that train
TRAINED = (*TRAINING, *CAREFUL)


@dataclass(frozen=True, slots=True)
class Decision:
    """One draw of one policy for one task."""

    arm: str
    propensity: float  # probability with which `arm` was drawn, in (0, 1]
    propensities: tuple[tuple[str, float], ...]  # (arm, probability) of every available arm, sums to 1
    reason: str  # one sentence for a person, with the numbers it rests on
    policy: str  # name@version of the policy that decided
    difficulty: float  # 1 - P(icl correct) as estimated, in [0, 1]


class Named(Protocol):
    """What decisions and versions name: a policy, or what it rests on."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


class Policy(Protocol):
    """Maps features to a decision over the arms that are available. Any feature may be unknown."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes whenever the same features could lead to other propensities."""
        ...

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the probability of each of `arms`, in their order; sums to 1.

        Raises:
            ArmUnavailable: `arms` is empty, or lacks an arm the policy cannot do without.
        """
        ...

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        """Draw one of `arms` and say why.

        Raises:
            ArmUnavailable: as for `propensities`.
        """
        ...


class LearningPolicy(Policy, Protocol):
    """A policy that each outcome changes; its version changes with it."""

    def update(self, features: FeatureValues, arm: str, quality: float) -> None:
        """Learn that `arm` gave an answer of this quality, in [0, 1]. What it cost is priced when it is decided."""
        ...


class Changing(Protocol):
    """A policy that changes while it is used: whoever decides asks it once, and goes by what it was then."""

    def now(self) -> Policy:
        """Return the policy as it is, which nothing changes any more."""
        ...


def is_changing(policy: object) -> TypeGuard[Changing]:
    """Say whether a policy changes while it is used; for `isinstance` of the protocol, which is slow on Python 3.11."""
    return getattr(policy, "now", None) is not None


def as_it_is(policy: Policy) -> Policy:
    """Return a policy that nothing changes while one task is decided on."""
    return policy.now() if is_changing(policy) else policy


@runtime_checkable
class GoesByOthers(Protocol):
    """A policy that goes by others: it decides by what they weigh, and can do what they can (`policies.abilities`)."""

    @property
    def goes_by(self) -> tuple[object, ...]:
        """The others, first the one that has the say where only one can have it."""
        ...


def goes_by(policy: object) -> tuple[object, ...]:
    """Return the policies that a policy goes by; none where it decides by itself."""
    return getattr(policy, "goes_by", ())


@runtime_checkable
class Priced(Protocol):
    """A policy that can be had at any price of time; the higher it is, the less is spent."""

    def at_price(self, price: float) -> Policy:
        """Return the same policy at another price."""
        ...


def at_price(policy: Policy, price: float) -> Policy:
    """Return a policy at a price, one that knows none as it is."""
    return policy.at_price(price) if isinstance(policy, Priced) else policy


def policy_id(policy: Named) -> str:
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


def certain(arm: str, arms: Sequence[str]) -> tuple[float, ...]:
    """Return probability 1 for `arm` and 0 for every other."""
    return tuple(float(each == arm) for each in arms)


def draw(rng: np.random.Generator, arms: Sequence[str], propensities: Sequence[float]) -> tuple[str, float]:
    """Draw one arm with one number of `rng`; return it with the probability it was drawn with."""
    i = int(rng.choice(len(arms), p=propensities))
    return str(arms[i]), float(propensities[i])


def paired(arms: Sequence[str], propensities: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """Return `(arm, probability)` for each arm, the form in which a decision keeps them."""
    return tuple((str(arm), float(p)) for arm, p in zip(arms, propensities, strict=True))


def drawn(
    policy: Policy,
    propensities: Sequence[float],
    rng: np.random.Generator,
    arms: Sequence[str],
    *,
    favourite: str,
    reason: str,
    difficulty: float,
) -> Decision:
    """Draw the decision of `policy`; where another arm than its favourite comes up, the reason says so.

    Args:
        reason: why the policy prefers `favourite`.
    """
    arm, propensity = draw(rng, arms, propensities)
    if arm != favourite:
        reason = f"exploring {arm}, drawn with {propensity:.3f}, where {favourite} is the favourite; {reason}"
    return Decision(
        arm=arm,
        propensity=propensity,
        propensities=paired(arms, propensities),
        reason=reason,
        policy=policy_id(policy),
        difficulty=difficulty,
    )
