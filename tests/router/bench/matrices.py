"""Outcome matrices whose answers are known."""

from __future__ import annotations

import numpy as np

from policies.outcome_matrix import OutcomeMatrix

ARMS = ("icl", "icl_vote", "ttt_short", "ttt")


def known_matrix(n_tasks: int = 120, n_seeds: int = 2, *, seed: int = 0, signal: float = 3.0) -> OutcomeMatrix:
    """Training helps where `hidden` is high, and `loo_nll_mean` tells of it, the more the larger `signal`.

    Four families in two sets; of one family training never helps, and of one it nearly always does.
    """
    rng = np.random.default_rng(seed)
    n = n_tasks * n_seeds
    task = np.repeat(np.arange(n_tasks), n_seeds)
    family = task % 4
    hidden = np.repeat(rng.normal(size=n_tasks), n_seeds) + np.array([-2.0, -0.5, 0.5, 2.0])[family]
    icl = (hidden + rng.normal(scale=0.3, size=n) < 0).astype(float)
    ttt = np.where(rng.random(n) < 0.06, 0.0, np.where(rng.random(n) < 0.8, 1.0, icl))
    vote = np.where(rng.random(n) < 0.1, 1.0, icl)
    short = np.where(rng.random(n) < 0.5, ttt, icl)
    features = np.stack(
        [
            signal * hidden + rng.normal(size=n),
            (hidden + rng.normal(size=n) < 0).astype(float),
            np.clip(0.5 - hidden / 4 + rng.normal(scale=0.1, size=n), 0, 1),
            rng.integers(50, 900, n).astype(float),
        ],
        axis=1,
    )
    cost = np.array([0.2, 1.0, 3.0, 10.0]) * rng.uniform(0.8, 1.2, (n, 4))
    return OutcomeMatrix(
        tasks=tuple(f"t{i}" for i in task),
        families=tuple(f"f{i}" for i in family),
        sets=tuple("one" if i < 2 else "two" for i in family),
        seeds=tuple(int(i) for i in np.arange(n) % n_seeds),
        arms=ARMS,
        quality=np.stack([icl, vote, short, ttt], axis=1),
        cost_s=cost,
        feature_names=("loo_nll_mean", "loo_exact_share", "vote_agreement", "prompt_tokens"),
        features=features,
        feature_cost_s=rng.uniform(0.3, 0.5, n),
        train_s=cost * np.array([0.0, 0.0, 0.6, 0.8]),
    )
