"""Difficulty before anything has been learned: one formula for P(icl correct), no fitted number in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.feature_values import FeatureValues

_NO_IDEA = 0.5  # P(icl correct) of an answer that nothing is known of


def p_icl_correct(features: FeatureValues) -> float:
    """Estimate the probability that the answer in context is right, in [0, 1].

    With k of n demonstrations answered when held out and confidence c in the answer, (k + c) / (n + 1): the answer
    counts as one more held-out demonstration, right with its own confidence. Without leave-one-out, c alone.
    """
    n_exact, n_held_out = held_out(features)
    confidence = features.value("answer_confidence")
    return (n_exact + (_NO_IDEA if confidence is None else confidence)) / (n_held_out + 1)


def held_out(features: FeatureValues) -> tuple[float, float]:
    """Return how many demonstrations were answered when held out, and how many were held out.

    Where only the share is recorded, it counts as one demonstration that was answered in part.
    """
    n_held_out, n_exact = features.value("n_held_out"), features.value("n_held_out_exact")
    if n_held_out is not None and n_exact is not None:
        return n_exact, n_held_out
    share = features.value("loo_exact_share")
    return (0.0, 0.0) if share is None else (share, 1.0)
