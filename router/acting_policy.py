"""Who decides while the router learns: the champion and, for a share of the tasks, a canary.

They may be replaced at any time. Every decision carries the probabilities of the mixture, with which it was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from policies.decision import Decision, Policy, at_price, paired, policy_id

if TYPE_CHECKING:
    import numpy as np

    from policies.feature_values import FeatureValues


@dataclass(frozen=True, slots=True)
class InCharge:
    """Who decides at one moment; replaced as a whole, so that no decision sees half a change."""

    champion: Policy
    canary: Policy | None = None
    share: float = 0.0  # of the tasks, decided by the canary

    @property
    def name(self) -> str:
        return self.champion.name

    @property
    def version(self) -> str:
        if self.canary is None:
            return self.champion.version
        return f"{self.champion.version}+canary:{self.share}:{policy_id(self.canary)}"

    @property
    def goes_by(self) -> tuple[Policy, ...]:
        """The champion and, where there is one, the canary: it decides its share, and has no say beyond that."""
        return (self.champion,) if self.canary is None else (self.champion, self.canary)

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the mixture's probability of each arm."""
        champion = self.champion.propensities(features, arms)
        if self.canary is None:
            return champion
        canary = self.canary.propensities(features, arms)
        return tuple((1 - self.share) * a + self.share * b for a, b in zip(champion, canary, strict=True))

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        if self.canary is None:
            return self.champion.decide(features, rng, arms)
        decides = self.canary if rng.random() < self.share else self.champion
        decision = decides.decide(features, rng, arms)
        mixed = self.propensities(features, arms)
        p = mixed[list(arms).index(decision.arm)]
        return replace(decision, propensity=p, propensities=paired(arms, mixed), policy=policy_id(self))

    def at_price(self, price: float) -> InCharge:
        """Return the same at another price, each of them that knows one."""
        return self.changed(lambda policy: at_price(policy, price))

    def changed(self, change: Callable[[Policy], Policy]) -> InCharge:
        """Return the same with each of the two changed."""
        canary = None if self.canary is None else change(self.canary)
        return InCharge(change(self.champion), canary, self.share)


class ActingPolicy:
    """The policy that a router uses while the loop learns."""

    def __init__(self, champion: Policy) -> None:
        self._in_charge = InCharge(champion)

    def now(self) -> InCharge:
        """Return who decides."""
        return self._in_charge

    @property
    def name(self) -> str:
        return self._in_charge.name

    @property
    def version(self) -> str:
        return self._in_charge.version

    def use(self, champion: Policy, canary: Policy | None = None, share: float = 0.0) -> None:
        """Decide by these from now on."""
        self._in_charge = InCharge(champion, canary, share if canary is not None else 0.0)

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the mixture's probability of each arm."""
        return self._in_charge.propensities(features, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        return self._in_charge.decide(features, rng, arms)
