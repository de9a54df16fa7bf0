"""What a policy would have been worth on logged decisions that another one made.

Every estimator rests on one number per row and arm: the probability with which that arm's outcome came to be known. For
the arm drawn it is its propensity; for `icl`, whose answer is there whichever arm is drawn, it is 1 where the right
answer came back; an audit, which runs a second arm at a known rate, raises it. So a log of one outcome a row, one-sided
feedback and paired audits are the same case, and a candidate that only takes `ttt` away is scored without exploration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Predict = Callable[[Floats], Floats]  # features (n, n_features) -> expected values (n,)
    FitOutcome = Callable[[Floats, Floats, Floats], Predict]  # features, values (n,), weights (n,)

MIN_EFFECTIVE_ROWS = 100.0
MAX_WEIGHT_SHARE = 0.1  # of all rows, that one row may stand for
_N_FOLDS = 5
_RIDGE = 1.0  # rows of pull towards the mean


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """n decisions with what is known of their outcomes; the columns of every array are the arms."""

    arms: tuple[str, ...]
    families: tuple[str, ...]  # kind of task of each row
    feature_names: tuple[str, ...]
    features: Floats  # (n, n_features); NaN: not known
    quality: Floats  # (n, n_arms), in [0, 1]; NaN: not known
    cost: Floats  # (n, n_arms), in mean costs of `ttt`: as predicted before the draw; 0: not offered
    known_p: Floats  # (n, n_arms), probability with which the arm's quality came to be known; 0: it never could

    def __len__(self) -> int:
        return len(self.families)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Self:
        """Return these rows alone (indices or a mask)."""
        picked = np.arange(len(self))[np.asarray(rows) if len(rows) else slice(0)]
        return replace(
            self,
            families=tuple(self.families[i] for i in picked),
            features=self.features[picked],
            quality=self.quality[picked],
            cost=self.cost[picked],
            known_p=self.known_p[picked],
        )

    def utility(self, price: float, *, most_cost: float = 3.0) -> Floats:
        """Return quality - price * cost, (n, n_arms), NaN where the quality is not known.

        Args:
            most_cost: a cost above this counts as this, so that utility lies in [-price * most_cost, 1].
        """
        return self.quality - price * np.clip(self.cost, 0.0, most_cost)


def known_probability(
    propensities: Floats, *, sunk: int, sunk_known: npt.NDArray[np.bool_], audited: int, audit_rate: Floats
) -> Floats:
    """Return the probability with which each arm's quality came to be known, (n, n_arms).

    Args:
        propensities: (n, n_arms), of the policy that decided.
        sunk: column of the arm that has always run, `icl`.
        sunk_known: (n,), whether its quality would be known whichever arm was drawn: the right answer came back.
        audited: column of the arm that an audit runs as well where the sunk arm was drawn.
        audit_rate: (n,), probability of an audit there.
    """
    known = propensities.copy()
    known[:, audited] += propensities[:, sunk] * audit_rate
    known[sunk_known, sunk] = 1.0
    return known


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, and how much of the log it rests on."""

    value: float
    std_error: float
    n: int
    effective_n: float  # (sum w)^2 / sum w^2 over the rows' weights
    max_weight_share: float  # largest weight over n

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided normal interval; holds for one look at a log of fixed length."""
        half = NormalDist().inv_cdf(0.5 + level / 2) * self.std_error
        return self.value - half, self.value + half

    def lower(self, alpha: float = 0.05) -> float:
        """Return the one-sided normal lower bound at 1 - alpha; holds for one look at a log of fixed length."""
        return self.value - NormalDist().inv_cdf(1 - alpha) * self.std_error

    def upper(self, alpha: float = 0.05) -> float:
        """Return the one-sided normal upper bound at 1 - alpha; holds for one look at a log of fixed length."""
        return self.value + NormalDist().inv_cdf(1 - alpha) * self.std_error

    @property
    def refusal(self) -> str | None:
        """Why no verdict may rest on this; None where one may."""
        if self.effective_n < MIN_EFFECTIVE_ROWS:
            return f"effective sample size {self.effective_n:.0f} of {self.n} rows, below {MIN_EFFECTIVE_ROWS:.0f}"
        if self.max_weight_share > MAX_WEIGHT_SHARE:
            return f"one row has {self.max_weight_share:.0%} of the weight, above {MAX_WEIGHT_SHARE:.0%}"
        return None


def weights_of(rows: LoggedRows, target: Floats, values: Floats) -> Floats:
    """Return target / known_p where a value is known, 0 elsewhere, (n, n_arms).

    `target` holds the probabilities of a policy, or the differences between those of two.
    """
    known = ~np.isnan(values)
    possible = np.where(rows.known_p > 0, rows.known_p, 1.0)  # a known value has a probability above 0
    return np.where(known, target / possible, 0.0)


def ips(rows: LoggedRows, target: Floats, values: Floats) -> Estimate:
    """Estimate by inverse propensity scores: unbiased, with the variance of the weights. Horvitz & Thompson 1952."""
    weights = weights_of(rows, target, values)
    return _estimate(np.sum(weights * np.nan_to_num(values), axis=1), weights)


def snips(rows: LoggedRows, target: Floats, values: Floats) -> Estimate:
    """Estimate by weights that are made to sum to one: a little biased, steadier. Swaminathan & Joachims 2015."""
    weights = weights_of(rows, target, values)
    mean, influence = _self_normalised(weights, values)
    return _estimate(mean + influence, weights)


def snips_difference(rows: LoggedRows, candidate: Floats, incumbent: Floats, values: Floats) -> Estimate:
    """Estimate the difference of two policies, each by `snips`; paired, so that what they share cancels out."""
    weights = weights_of(rows, candidate, values)
    first, first_influence = _self_normalised(weights, values)
    second, second_influence = _self_normalised(weights_of(rows, incumbent, values), values)
    return _estimate(first - second + first_influence - second_influence, weights)


def direct(rows: LoggedRows, target: Floats, predictions: Floats) -> Estimate:
    """Estimate by the outcome model alone: as biased as it is. The standard error says nothing of that."""
    return _estimate(np.sum(target * predictions, axis=1), target)


def doubly_robust(
    rows: LoggedRows, target: Floats, values: Floats, predictions: Floats, *, weighed: Floats | None = None
) -> Estimate:
    """Estimate by the outcome model, corrected by weighted residuals: unbiased whatever the model. Dudík et al. 2011.

    Args:
        predictions: (n, n_arms), of a model that has not seen its own row: see `cross_fitted`.
        weighed: the policy whose weights say how much of the log the estimate rests on; `target` by default. For a
            difference of two policies, the candidate.
    """
    weights = weights_of(rows, target if weighed is None else weighed, values)
    return _estimate(pseudo_outcomes(rows, target, values, predictions), weights)


def pseudo_outcomes(rows: LoggedRows, target: Floats, values: Floats, predictions: Floats) -> Floats:
    """Return sum_a target * q + w (value - q) for each row, (n,): their mean is the doubly robust estimate."""
    residuals = np.where(np.isnan(values), 0.0, values - predictions)
    outcomes: Floats = np.sum(target * predictions + weights_of(rows, target, values) * residuals, axis=1)
    return outcomes


def switch_doubly_robust(
    rows: LoggedRows, target: Floats, values: Floats, predictions: Floats, *, most: float = 1.0
) -> Estimate:
    """Estimate as `doubly_robust`, by the model alone where a weight would exceed a threshold that is chosen by
    estimated mean squared error.

    Args:
        most: largest size of a value, which bounds what leaving out a weight may cost.

    Source: Wang, Agarwal, Dudík 2017, sec. 4.
    """
    possible = np.where(rows.known_p > 0, rows.known_p, np.nan)
    ratio = np.nan_to_num(np.abs(target) / possible, nan=np.inf, posinf=np.inf) * (target != 0)
    finite = ratio[np.isfinite(ratio) & (ratio > 0)]
    thresholds = np.unique(np.quantile(finite, np.linspace(0.5, 1.0, 11))) if finite.size else np.array([np.inf])
    residuals = np.where(np.isnan(values), 0.0, values - predictions)
    weights = weights_of(rows, target, values)
    best: tuple[float, Estimate] | None = None
    for threshold in thresholds:
        kept = np.where(ratio <= threshold, weights, 0.0)
        estimate = _estimate(np.sum(target * predictions + kept * residuals, axis=1), kept)
        bias = most * float(np.mean(np.sum(np.abs(target) * (ratio > threshold), axis=1)))
        error = estimate.std_error**2 + bias**2
        if best is None or error < best[0]:
            best = (error, estimate)
    assert best is not None
    return best[1]


def by_every_estimator(rows: LoggedRows, target: Floats, values: Floats, predictions: Floats) -> dict[str, Estimate]:
    """Return what each estimator makes of the same rows, by its name: where they disagree, none is to be trusted."""
    return {
        "inverse propensity": ips(rows, target, values),
        "self-normalised": snips(rows, target, values),
        "outcome model": direct(rows, target, predictions),
        "doubly robust": doubly_robust(rows, target, values, predictions),
        "switched": switch_doubly_robust(rows, target, values, predictions),
    }


def cross_fitted(rows: LoggedRows, values: Floats, *, fit: FitOutcome | None = None) -> Floats:
    """Return predicted values, (n, n_arms), of models fitted on the other folds; whole families share a fold."""
    folds = _folds(rows.families)
    predictions = np.empty_like(values)
    for fold in range(int(folds.max()) + 1):
        inside = folds == fold
        outside = ~inside if (~inside).any() else inside
        predictions[inside] = fitted_on(rows.take(outside), values[outside], fit=fit)(rows.features[inside])
    return predictions


def fitted_on(rows: LoggedRows, values: Floats, *, fit: FitOutcome | None = None) -> Predict:
    """Return a model of every arm's values, features (m, n_features) -> (m, n_arms), fitted where they are known."""
    models: list[Predict] = []
    for column in range(values.shape[1]):
        known = ~np.isnan(values[:, column]) & (rows.known_p[:, column] > 0)
        weights = 1.0 / rows.known_p[known, column]
        models.append((fit or fit_ridge)(rows.features[known], values[known, column], weights))
    return lambda features: np.stack([model(features) for model in models], axis=1)


def fit_ridge(features: Floats, values: Floats, weights: Floats) -> Predict:
    """Fit ridge regression on standardised features, each with a column for whether it is known; predictions stay in
    the range of the values.
    """
    if not len(values):
        return lambda rows: np.zeros(len(rows))
    share = weights / weights.sum()
    known = ~np.isnan(features)
    total = np.maximum(share @ known, 1e-12)
    mean = share @ np.nan_to_num(features) / total
    spread = np.sqrt(share @ np.where(known, (features - mean) ** 2, 0.0) / total)
    spread = np.where(spread > 1e-9, spread, np.inf)  # a constant says nothing
    shown = share @ known

    def columns(rows: Floats) -> Floats:
        there = ~np.isnan(rows)
        return np.hstack([np.where(there, (rows - mean) / spread, 0.0), there - shown])

    x, centre = columns(features), float(share @ values)
    scaled = x * (share * len(values))[:, None]
    slopes = np.linalg.solve(scaled.T @ x + _RIDGE * np.eye(x.shape[1]), scaled.T @ (values - centre))
    offset = centre - float((share @ x) @ slopes)
    low, high = float(values.min()), float(values.max())
    return lambda rows: np.clip(offset + columns(rows) @ slopes, low, high)


def _self_normalised(weights: Floats, values: Floats) -> tuple[float, Floats]:
    """Return the self-normalised mean and each row's influence on it, (n,)."""
    total = weights.sum()
    if total <= 0:
        return 0.0, np.full(len(weights), np.nan)
    mean = float(np.sum(weights * np.nan_to_num(values)) / total)
    return mean, np.sum(weights * (np.nan_to_num(values) - mean), axis=1) * len(weights) / total


def _estimate(terms: Floats, weights: Floats) -> Estimate:
    n, of_row = len(terms), np.abs(weights.sum(axis=1))
    if not n:
        return Estimate(0.0, float("inf"), 0, 0.0, 1.0)
    squares = float(np.sum(of_row**2))
    error = float(np.std(terms, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Estimate(
        value=float(terms.mean()),
        std_error=error,
        n=n,
        effective_n=float(of_row.sum()) ** 2 / squares if squares > 0 else 0.0,
        max_weight_share=float(of_row.max()) / n,
    )


def _folds(families: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return each row's fold: families whole, the largest first into the smallest fold; rows in turn where there is
    one family only.
    """
    counts = Counter(families)
    if len(counts) < 2:
        return np.arange(len(families)) % min(_N_FOLDS, max(len(families), 1))
    sizes = [0] * min(_N_FOLDS, len(counts))
    fold_of = {}
    for family, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        fold_of[family] = sizes.index(min(sizes))
        sizes[fold_of[family]] += count
    return np.array([fold_of[family] for family in families])
