"""Looks at a demonstration held out meanwhile: is the task learned, or training in vain? Knows nothing of models.

Which demonstration is held out goes round, so that none is lost to training: each is left out for a few steps, looked
at, and trained on again. A look is thus at what was not trained on of late, not at what was never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Verdict = Literal["", "learned", "gave up", "worse"]
LEAST_DEMONSTRATIONS = 3  # one held out, and two to make a leave-one-out task of
_MOST_IN_A_ROW = 3  # right looks that are enough
_LEARNED = 0.01  # nats per token; what is below is learned, however little it gained
_LEAST_GAIN = 0.01  # share of the nats before training; less is rounding


@dataclass(frozen=True, slots=True)
class Check:
    """One look."""

    step: int  # steps taken before
    demonstration: int
    nll: float  # nats per token of its output, given all others
    exact: bool  # greedy decoding would have written it
    untrained_nll: float  # the same before training


def held_out_at(step: int, n_demonstrations: int, check_every: int | None) -> int | None:
    """Return which demonstration is held out in a step, counted from 0; None where none is."""
    if check_every is None or n_demonstrations < LEAST_DEMONSTRATIONS:
        return None
    return (step // check_every) % n_demonstrations


def early_verdict(checks: Sequence[Check], n_demonstrations: int) -> Verdict:
    """Say whether training may stop: "learned" after three right looks in a row, "gave up" where a whole round of looks
    is no better than before training; else "".
    """
    row = checks[-min(n_demonstrations, _MOST_IN_A_ROW) :]
    if len(row) == min(n_demonstrations, _MOST_IN_A_ROW) and all(check.exact for check in row):
        return "learned"
    if len(checks) >= n_demonstrations and _is_worse(checks[-n_demonstrations:]):
        return "gave up"
    return ""


def final_verdict(checks: Sequence[Check], n_demonstrations: int) -> Verdict:
    """Say whether what came of all steps is worse than no training, by the last round of looks."""
    return "worse" if len(checks) >= n_demonstrations and _is_worse(checks[-n_demonstrations:]) else ""


def helps(verdict: str) -> bool:
    """Say whether answers after training are worth more than those before, as far as it looked."""
    return verdict not in ("gave up", "worse")


def _is_worse(checks: Sequence[Check]) -> bool:
    before = fmean(check.untrained_nll for check in checks)
    after = fmean(check.nll for check in checks)
    return after > _LEARNED and after >= (1.0 - _LEAST_GAIN) * before
