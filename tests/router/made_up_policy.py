"""A learned policy for tests: fitted to outcomes that are drawn, and kept in a ledger as any other."""

from __future__ import annotations

import numpy as np

from policies.features import SCHEMA_HASH
from policies.ledger import Ledger
from policies.outcome_matrix import OutcomeMatrix
from router.learned_policies import fit_with
from router.policy_seal import sealed_for


def publish_made_up_policy(ledger: Ledger, fingerprint: str) -> str:
    """Fit a policy to made-up outcomes and keep it; return its version."""
    rng = np.random.default_rng(0)
    n = 40
    matrix = OutcomeMatrix(
        tasks=tuple(f"t{i}" for i in range(n)),
        families=tuple(f"f{i % 4}" for i in range(n)),
        sets=("made up",) * n,
        seeds=(0,) * n,
        arms=("icl", "ttt"),
        quality=rng.integers(0, 2, (n, 2)).astype(float),
        cost_s=np.tile([0.1, 1.0], (n, 1)),
        feature_names=("loo_exact_share", "answer_confidence"),
        features=rng.random((n, 2)),
        feature_cost_s=np.full(n, 0.1),
    )
    content = fit_with(price=0.1, explore=0.05, temperature=0.05)(matrix)
    return ledger.policy_versions.publish(sealed_for(content, fingerprint, SCHEMA_HASH)).version_id
