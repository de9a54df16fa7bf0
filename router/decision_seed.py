"""The random numbers of a decision: the same task and seed draw the same, in a solve as in a replay."""

from __future__ import annotations

import hashlib

import numpy as np


def entropy(purpose: str, task_fingerprint: str, seed: int) -> int:
    """Return 64 bits that depend on nothing else."""
    return int(hashlib.sha256(f"{purpose}:{task_fingerprint}:{seed}".encode()).hexdigest()[:16], 16)


def decision_rng(task_fingerprint: str, seed: int) -> np.random.Generator:
    """Return what the draw of an arm draws from."""
    return np.random.default_rng(entropy("decide", task_fingerprint, seed))
