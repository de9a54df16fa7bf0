"""Difficulty before anything has been learned: one formula for P(icl correct), no fitted number in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.features import Features


def p_icl_correct(features: Features) -> float:
    """Estimate the probability that the answer in context is right, in [0, 1].

    With k of n demonstrations answered when held out and confidence c in the answer, (k + c) / (n + 1): the answer
    counts as one more held-out demonstration, right with its own confidence. Without leave-one-out, c alone.
    """
    return (features.n_held_out_exact + features.answer_confidence) / (features.n_held_out + 1)
