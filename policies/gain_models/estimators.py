"""The learners as scikit-learn estimators: logistic regression towards a prior, and boosted trees.

Each comes for two classes and for numbers within bounds.

`fitting` uses the same code on all heads at once. Targets anywhere between the bounds are fitted by cross-entropy: a
quality of 0.3 is three tenths of a success. Values may be missing (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from policies.gain_models.forest import Nodes
from policies.gain_models.newton import fit_logistic, log_odds_of, sigmoid
from policies.gain_models.scaling import Scaler

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.generic]

N_TREES = 40
MAX_LEAVES = 8
MAX_DEPTH = 5
LEAST_IN_LEAF = 20
LEARNING_RATE = 0.1
MAX_BINS = 63


class _Fractions(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What all four share: a score in log-odds for each row."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _rows(self, X: npt.ArrayLike) -> Floats:  # noqa: N803  # scikit-learn's name
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan"))

    def log_odds(self, rows: Floats) -> Floats:
        """Return the score of each row (n, n_features), which is taken as it is."""
        raise NotImplementedError

    def _fit_fractions(self, rows: Floats, fractions: Floats, weights: Floats) -> None:
        raise NotImplementedError


class _Classifier(ClassifierMixin, _Fractions):  # type: ignore[misc]
    """Two classes."""

    classes_: Labels

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit to rows (n, n_features), NaN where a value is not known, and two classes (n,)."""
        rows, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(labels)
        kind = type_of_target(labels, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        weights = np.asarray(_check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True))
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}.")
        self._fit_fractions(rows, (labels == self.classes_[1]).astype(np.float64), weights)
        return self

    def decision_function(self, X: npt.ArrayLike) -> Floats:  # noqa: N803
        """Return the log-odds of the second class, (n,)."""
        return self.log_odds(self._rows(X))

    def predict_proba(self, X: npt.ArrayLike) -> Floats:  # noqa: N803
        """Return the chance of each class, (n, 2)."""
        chance = sigmoid(self.decision_function(X))
        return np.column_stack([1.0 - chance, chance])

    def predict(self, X: npt.ArrayLike) -> Labels:  # noqa: N803
        """Return the likelier class of each row."""
        second = self.decision_function(X) > 0.0
        return self.classes_[second.astype(np.intp)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class _Regressor(RegressorMixin, _Fractions):  # type: ignore[misc]
    """A number within bounds."""

    bounds: Sequence[float] | None
    bounds_: tuple[float, float]

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit to rows (n, n_features), NaN where a value is not known, and numbers (n,) within the bounds."""
        rows, targets = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", y_numeric=True)
        targets = np.asarray(targets, dtype=np.float64)
        weights = np.asarray(_check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True))
        counted = targets[weights > 0.0] if np.any(weights > 0.0) else targets
        low, high = (counted.min(), counted.max()) if self.bounds is None else self.bounds
        self.bounds_ = (float(low), float(high))
        if counted.min() < low or counted.max() > high:
            raise ValueError(f"y must lie within bounds={self.bounds}; got {counted.min()} to {counted.max()}")
        width = self.bounds_[1] - self.bounds_[0]
        fractions = np.clip((targets - low) / width, 0.0, 1.0) if width > 0.0 else np.full(len(targets), 0.5)
        self._fit_fractions(rows, fractions, weights)
        return self

    def predict(self, X: npt.ArrayLike) -> Floats:  # noqa: N803
        """Return the expected number of each row, (n,)."""
        chance = sigmoid(self.log_odds(self._rows(X)))
        low, high = self.bounds_
        return low + (high - low) * chance


class _ShrunkenLogistic(_Fractions):
    """Missing values take the mean and a flag of their own; features are standardised."""

    l2: float
    intercept_l2: float
    prior_coef: npt.ArrayLike | None
    prior_intercept: float
    scaler_: Scaler
    coef_: Floats
    covariance_: Floats
    n_features_in_: int

    def _fit_fractions(self, rows: Floats, fractions: Floats, weights: Floats) -> None:
        self.scaler_ = Scaler.of(rows, weights)
        n = self.n_features_in_
        raw = np.zeros(n) if self.prior_coef is None else np.asarray(self.prior_coef, dtype=np.float64)
        if raw.shape != (n,):
            raise ValueError(f"prior_coef must have one number for each of {n} features; got shape {raw.shape}")
        prior = np.zeros(1 + 2 * n)
        prior[0] = self.prior_intercept + raw @ self.scaler_.center
        prior[1 : 1 + n] = raw * self.scaler_.scale
        precision = np.full(1 + 2 * n, float(self.l2))
        precision[0] = self.intercept_l2
        design = self.scaler_.design(rows)
        self.coef_, hessian = fit_logistic(design, fractions, weights, prior=prior, precision=precision)
        self.covariance_ = np.asarray(np.linalg.inv(hessian), dtype=np.float64)

    def log_odds(self, rows: Floats) -> Floats:
        """Return the score of each row (n, n_features), which is taken as it is."""
        return self.scaler_.design(rows) @ self.coef_


class ShrunkenLogisticClassifier(_Classifier, _ShrunkenLogistic):
    """Logistic regression of two classes, held towards given coefficients.

    Args:
        l2: precision of each standardised coefficient about its prior: n tasks are worth up to n / 4.
        intercept_l2: that of the intercept.
        prior_coef: coefficient of each feature in its own unit, in log-odds; None: 0.
        prior_intercept: log-odds where every feature is 0.
    """

    def __init__(
        self,
        *,
        l2: float = 1.0,
        intercept_l2: float = 1e-2,
        prior_coef: npt.ArrayLike | None = None,
        prior_intercept: float = 0.0,
    ) -> None:
        self.l2 = l2
        self.intercept_l2 = intercept_l2
        self.prior_coef = prior_coef
        self.prior_intercept = prior_intercept


class ShrunkenLogisticRegressor(_Regressor, _ShrunkenLogistic):
    """A number within bounds by logistic regression, held towards given coefficients.

    Args:
        bounds: lowest and highest number there can be, such as (0, 1) for a quality; None: those of the data.
        l2: precision of each standardised coefficient about its prior: n tasks are worth up to n / 4.
        intercept_l2: that of the intercept.
        prior_coef: coefficient of each feature in its own unit, in log-odds; None: 0.
        prior_intercept: log-odds where every feature is 0.

    Example:
        >>> model = ShrunkenLogisticRegressor(bounds=(0, 1), l2=0.1).fit([[0.0], [1.0]], [0.25, 0.75])
        >>> bool(model.predict([[0.0]])[0] < model.predict([[1.0]])[0])
        True
    """

    def __init__(
        self,
        *,
        bounds: Sequence[float] | None = None,
        l2: float = 1.0,
        intercept_l2: float = 1e-2,
        prior_coef: npt.ArrayLike | None = None,
        prior_intercept: float = 0.0,
    ) -> None:
        self.bounds = bounds
        self.l2 = l2
        self.intercept_l2 = intercept_l2
        self.prior_coef = prior_coef
        self.prior_intercept = prior_intercept


class _BoostedTrees(_Fractions):
    """Trees of scikit-learn's histogram boosting, kept as arrays of our own."""

    n_trees: int
    least_in_leaf: int
    monotonic: Sequence[int] | None
    nodes_: Nodes
    intercept_: float
    depth_: int

    def _fit_fractions(self, rows: Floats, fractions: Floats, weights: Floats) -> None:
        mass = float(weights.sum())
        mean = float(weights @ fractions) / mass if mass > 0.0 else 0.5
        if mass <= 0.0 or not 0.0 < mean < 1.0:  # nothing to tell apart
            self.nodes_, self.depth_ = Nodes.joined([]), 0
            self.intercept_ = log_odds_of((mean * mass + 0.5) / (mass + 1.0))
            return
        boosting = HistGradientBoostingClassifier(
            learning_rate=LEARNING_RATE,
            max_iter=self.n_trees,
            max_leaf_nodes=MAX_LEAVES,
            max_depth=MAX_DEPTH,
            min_samples_leaf=self.least_in_leaf,
            max_bins=MAX_BINS,
            l2_regularization=1.0,
            monotonic_cst=self.monotonic,
            early_stopping=False,
        )
        rows = np.where(np.isnan(rows).all(axis=0), 0.0, rows)  # where no row knows a value there are no edges of bins
        edges = [_edges(column) for column in rows.T]
        bins, classes, shares = _as_classes(_bins(rows, edges), fractions, weights)
        boosting.fit(bins, classes, sample_weight=None if np.all(shares == 1.0) else shares)
        self.intercept_ = float(boosting._baseline_prediction.item())
        self.nodes_ = Nodes.joined([_nodes_of(trees[0].nodes, edges) for trees in boosting._predictors])
        self.depth_ = self.nodes_.depth()

    def log_odds(self, rows: Floats) -> Floats:
        """Return the score of each row (n, n_features), which is taken as it is."""
        return np.asarray(self.nodes_.leaf_values(rows, self.depth_).sum(axis=1) + self.intercept_, dtype=np.float64)


class BoostedTreesClassifier(_Classifier, _BoostedTrees):
    """Boosted trees of two classes.

    Args:
        n_trees: how many are added up.
        least_in_leaf: rows below which no leaf is made.
        monotonic: for each feature 1 where the chance may only rise with it, -1 where it may only fall, else 0.
    """

    def __init__(
        self, *, n_trees: int = N_TREES, least_in_leaf: int = LEAST_IN_LEAF, monotonic: Sequence[int] | None = None
    ) -> None:
        self.n_trees = n_trees
        self.least_in_leaf = least_in_leaf
        self.monotonic = monotonic


class BoostedTreesRegressor(_Regressor, _BoostedTrees):
    """A number within bounds by boosted trees, as log-odds between the two.

    Args:
        bounds: lowest and highest number there can be, such as (0, 1) for a quality; None: those of the data.
        n_trees: how many are added up.
        least_in_leaf: rows below which no leaf is made; one with a fraction for its target counts twice.
        monotonic: for each feature 1 where the number may only rise with it, -1 where it may only fall, else 0.
    """

    def __init__(
        self,
        *,
        bounds: Sequence[float] | None = None,
        n_trees: int = N_TREES,
        least_in_leaf: int = LEAST_IN_LEAF,
        monotonic: Sequence[int] | None = None,
    ) -> None:
        self.bounds = bounds
        self.n_trees = n_trees
        self.least_in_leaf = least_in_leaf
        self.monotonic = monotonic


def _as_classes(rows: Floats, fractions: Floats, weights: Floats) -> tuple[Floats, Labels, Floats]:
    """Return rows, classes and weights with the same cross-entropy: a row whose target is between 0 and 1 becomes one
    of each class, weighted by how much of each it is.
    """
    right, wrong = fractions > 0.0, fractions < 1.0
    classes = np.concatenate([np.ones(right.sum(), np.int64), np.zeros(wrong.sum(), np.int64)])
    shares = np.concatenate([(weights * fractions)[right], (weights * (1.0 - fractions))[wrong]])
    return np.concatenate([rows[right], rows[wrong]]), classes, shares


def _edges(column: Floats) -> Floats:
    """Return the edges of the bins of a feature, rising, at most MAX_BINS - 1.

    They are those of scikit-learn for rows that all weigh alike. For others it takes quantiles by weight, which takes
    five times as long as all the trees; so it is given bins (`_bins`), of which there are few enough.
    """
    known = column[~np.isnan(column)]
    distinct = np.unique(known)
    if len(distinct) <= MAX_BINS:
        return (distinct[1:] + distinct[:-1]) / 2.0
    within = np.linspace(0.0, 100.0, MAX_BINS + 1)[1:-1]
    return np.unique(np.percentile(known, within, method="averaged_inverted_cdf"))


def _bins(rows: Floats, edges: Sequence[Floats]) -> Floats:
    """Return the number of the bin that each value is in, NaN where it is not known."""
    found = [np.searchsorted(of_column, column) for of_column, column in zip(edges, rows.T, strict=True)]
    return np.where(np.isnan(rows), np.nan, np.column_stack(found))


def _nodes_of(found: npt.NDArray[np.void], edges: Sequence[Floats]) -> Nodes:
    """Return one of scikit-learn's trees over bins as a tree over values, in our arrays; the mean of a node is that of
    its leaves, by their rows.
    """

    def edge(feature: int, between: float) -> float:
        """Return the value at a place between two bins; where all that is known goes left there is none above it."""
        of_feature = edges[feature]
        return float(of_feature[int(between)]) if between < len(of_feature) else np.inf

    leaf = found["is_leaf"].astype(np.bool_)
    own = np.arange(len(found), dtype=np.int32)
    left = np.where(leaf, own, found["left"]).astype(np.int32)
    right = np.where(leaf, own, found["right"]).astype(np.int32)
    value, count = np.where(leaf, found["value"], 0.0), found["count"].astype(np.float64)
    for i in own[::-1][~leaf[::-1]]:  # children come after their parents
        value[i] = (value[[left[i], right[i]]] @ count[[left[i], right[i]]]) / count[[left[i], right[i]]].sum()
    return Nodes(
        feature=np.where(leaf, 0, found["feature_idx"]).astype(np.int32),
        threshold=np.where(leaf, 0.0, list(map(edge, found["feature_idx"], found["num_threshold"]))),
        missing_left=found["missing_go_to_left"].astype(np.bool_),
        left=left,
        right=right,
        value=value,
        roots=np.zeros(1, np.int32),
    )
