"""Outcome matrices whose truth is known: qualities are drawn from stated chances of named features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.gain_models.newton import sigmoid
from policies.outcome_matrix import OutcomeMatrix

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ARMS = ("icl", "icl_vote", "ttt")
SIGNALS = ("loo_exact_share", "answer_confidence")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A matrix and the chances its qualities were drawn from, (n_rows, n_arms)."""

    matrix: OutcomeMatrix
    chances: Floats

    @property
    def gains(self) -> Floats:
        return self.chances - self.chances[:, :1]


def matrix_of(
    quality: Floats, features: Floats, *, names: tuple[str, ...], arms: tuple[str, ...] = ARMS, n_families: int = 24
) -> OutcomeMatrix:
    n = len(quality)
    return OutcomeMatrix(
        tasks=tuple(f"task {i}" for i in range(n)),
        families=tuple(f"family {i % n_families}" for i in range(n)),
        sets=("made up",) * n,
        seeds=(0,) * n,
        arms=arms,
        quality=quality,
        cost_s=np.ones_like(quality),
        feature_names=names,
        features=features,
        feature_cost_s=np.zeros(n),
    )


def drawn(n: int, *, seed: int = 0, n_noise: int = 4, missing: float = 0.0) -> Drawn:
    """Draw tasks whose chances follow two signals: `icl` rises with both, and training helps where leave-one-out fails.

    Of most arms one number a task decides, as the same answer often comes of each.
    """
    rng = np.random.default_rng(seed)
    loo, confidence = rng.integers(0, 5, n) / 4.0, rng.random(n)
    features = np.column_stack([loo, confidence, rng.normal(size=(n, n_noise))])
    icl = sigmoid(3.0 * loo + 2.0 * confidence - 2.5)
    chances = np.column_stack([icl, np.minimum(icl + 0.03, 1.0), np.minimum(icl + 0.35 * (1.0 - loo), 1.0)])
    luck = np.where(rng.random((n, 3)) < 0.1, rng.random((n, 3)), rng.random((n, 1)))
    quality = (luck < chances).astype(np.float64)
    features[rng.random(features.shape) < missing] = np.nan
    names = SIGNALS + tuple(f"noise_{i}" for i in range(n_noise))
    return Drawn(matrix_of(quality, features, names=names), chances)
