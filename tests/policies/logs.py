"""Logs with a known truth for the off-policy tests: what every task gives under both arms is there to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.off_policy import LoggedRows, known_probability

Floats = npt.NDArray[np.float64]
ARMS = ("icl", "ttt")


@dataclass(frozen=True, slots=True)
class World:
    """Every task's outcome under both arms; what a log shows of it is drawn from it."""

    features: Floats  # (n, 1)
    quality: Floats  # (n, 2), 0 or 1
    families: tuple[str, ...]

    @property
    def cost(self) -> Floats:
        return np.tile([0.05, 1.05], (len(self.quality), 1))

    def true_value(self, target: Floats, price: float) -> float:
        return float(np.mean(np.sum(target * (self.quality - price * self.cost), axis=1)))

    def logged(
        self, rng: np.random.Generator, p_ttt: Floats, *, one_sided: bool = False, audit_rate: float = 0.0
    ) -> LoggedRows:
        n = len(self.quality)
        propensities = np.stack([1 - p_ttt, p_ttt], axis=1)
        taken = (rng.random(n) < p_ttt).astype(int)
        audited = (taken == 0) & (rng.random(n) < audit_rate)
        seen = np.zeros((n, 2), dtype=bool)
        seen[np.arange(n), taken] = True
        seen[audited, 1] = True
        seen[:, 0] |= one_sided
        known_p = known_probability(
            propensities, sunk=0, sunk_known=np.full(n, one_sided), audited=1, audit_rate=np.full(n, audit_rate)
        )
        quality = np.where(seen, self.quality, np.nan)
        return LoggedRows(ARMS, self.families, ("score",), self.features, quality, self.cost, known_p)


def world(n: int = 1000, seed: int = 0, *, n_families: int = 10) -> World:
    """A score that says which tasks only `ttt` solves, in about a third of the tasks."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    p_icl = 1 / (1 + np.exp(-(0.3 - 1.5 * score)))
    icl = rng.random(n) < p_icl
    ttt = np.where(icl, rng.random(n) < 0.95, rng.random(n) < 0.5)
    families = tuple(f"family_{i % n_families}" for i in range(n))
    return World(score[:, None], np.stack([icl, ttt], axis=1).astype(float), families)


def policy(p_ttt: Floats) -> Floats:
    return np.stack([1 - p_ttt, p_ttt], axis=1)
