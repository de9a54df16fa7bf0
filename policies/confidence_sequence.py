"""Lower bounds on a mean that hold at every moment at once, so that one may look after each new row and stop at will.

By betting: a gambler who bets that the mean lies above m starts with 1 and never owes. Where the mean is at most m, the
wealth exceeds 1/alpha at any time with probability alpha at most (Ville), so every m at which it does is ruled out.
Source: Waudby-Smith & Ramdas 2024 (arXiv 2010.09686), sec. 4; off-policy, where variables are bounded below alone:
Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro 2022 (arXiv 2210.10768), sec. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from policies.off_policy import pseudo_outcomes

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.off_policy import LoggedRows

    Floats = npt.NDArray[np.float64]

_STAKES = 0.97 * 0.5 ** np.arange(7)  # shares of the largest bet that cannot ruin; the wealth is spread over all
_HALVINGS = 30
_EFFECT = 0.05  # difference that the bound is set up to find soonest
EXCURSIONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def alpha_at(attempt: int, alpha: float = 0.05) -> float:
    """Return what attempt k = 1, 2, ... may spend of `alpha`: alpha / (k (k + 1)), which sums to alpha over all k."""
    if attempt < 1:
        raise ValueError(f"attempts are counted from 1, got {attempt}")
    return alpha / (attempt * (attempt + 1))


def log_wealth(values: Floats, mean: float, at_least: float) -> float:
    """Return the logarithm of what betting against "the mean is at most `mean`" has made of 1; falls with `mean`."""
    if mean <= at_least:
        return float("inf")
    returns = (values - mean) / (mean - at_least)
    each = np.log1p(_STAKES[:, None] * returns[None, :]).sum(axis=1)
    top = float(each.max())
    return top + float(np.log(np.mean(np.exp(each - top))))


def lower_bound(values: Floats, alpha: float, *, at_least: float) -> float:
    """Return a lower bound on the mean that holds at 1 - alpha for all lengths of `values` at once.

    Args:
        values: (n,), each with the same mean given those before; they may be large, but not below `at_least`.
        at_least: known before the values were.
    """
    if not len(values):
        return at_least
    if float(values.min()) < at_least - 1e-9:
        raise ValueError(f"a value of {values.min()} lies below {at_least}")
    low, high, wanted = at_least, float(values.mean()), float(np.log(1.0 / alpha))
    for _ in range(_HALVINGS):  # ruled out at `low`, not at `high`, where the bets have gained nothing
        middle = (low + high) / 2
        if log_wealth(values, middle, at_least) >= wanted:
            low = middle
        else:
            high = middle
    return low


def best_excursion(
    rows: LoggedRows, target: Floats, values: Floats, predictions: Floats, *, low: float, high: float
) -> float:
    """Return how far pseudo-outcomes should be let leave the range of differences, so that bets on them grow fastest.

    Far: predictions stay as they are and vary least, but one may only bet little. To be asked of rows from before those
    that the bound is for: it has to be known before they are.
    """
    if not len(rows):
        return EXCURSIONS[-1]

    def growth(excursion: float) -> float:
        kept = tamed(rows, target, predictions, low=low, high=high, excursion=excursion)
        variance = float(np.var(pseudo_outcomes(rows, target, values, kept)))
        stake = min(_EFFECT / max(variance, 1e-12), 1.0 / (high - low + excursion))
        return stake * _EFFECT - stake**2 * variance / 2

    return max(EXCURSIONS, key=growth)


def tamed(
    rows: LoggedRows, target: Floats, predictions: Floats, *, low: float, high: float, excursion: float
) -> Floats:
    """Return the predictions, moved where that is needed to keep every pseudo-outcome above (low - high) - excursion.

    Any prediction that does not look at the row's own outcome leaves the estimate unbiased: this costs variance alone.

    Args:
        target: (n, n_arms), differences between the probabilities of two policies.
        low, high: range of the values.
    """
    spare = _spare(rows, target)
    risky = np.maximum(np.sum(spare > 1e-12, axis=1, keepdims=True), 1)  # arms that share the excursion
    room = np.where(spare > 1e-12, excursion / np.maximum(spare, 1e-12) / risky, np.inf)
    lowest = np.where(target < 0, np.maximum(high - room, low), low)
    highest = np.where(target > 0, np.minimum(low + room, high), high)
    return np.clip(predictions, lowest, highest)


def _spare(rows: LoggedRows, target: Floats) -> Floats:
    """Return |target| / known_p - |target|: how much more a known residual weighs than the prediction it corrects."""
    possible = np.where(rows.known_p > 0, rows.known_p, np.inf)
    return np.where(rows.known_p > 0, np.abs(target) / possible - np.abs(target), 0.0)
