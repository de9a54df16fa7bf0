"""The learners are scikit-learn estimators, and fit fractions, priors, gaps and monotone curves as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from policies.gain_models.estimators import (
    LEARNING_RATE,
    MAX_BINS,
    MAX_DEPTH,
    MAX_LEAVES,
    BoostedTreesClassifier,
    BoostedTreesRegressor,
    ShrunkenLogisticClassifier,
    ShrunkenLogisticRegressor,
)

Floats = npt.NDArray[np.float64]

WEIGHTS_ARE_NOT_REPEATS = {
    "check_sample_weight_equivalence_on_dense_data": "as in the boosting of scikit-learn that is used: edges of bins "
    "and the least size of a leaf count rows, whatever they weigh"
}


def expected_failures(estimator: object) -> dict[str, str]:
    return WEIGHTS_ARE_NOT_REPEATS if isinstance(estimator, BoostedTreesClassifier | BoostedTreesRegressor) else {}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        ShrunkenLogisticClassifier(),
        ShrunkenLogisticRegressor(),
        BoostedTreesClassifier(n_trees=15, least_in_leaf=5),
        BoostedTreesRegressor(n_trees=15, least_in_leaf=5),
    ],
    expected_failed_checks=expected_failures,
)
def test_it_is_a_scikit_learn_estimator(estimator: object, check: Callable[[object], None]) -> None:
    check(estimator)


@pytest.fixture
def rows() -> Floats:
    return np.random.default_rng(1).normal(size=(400, 3))


@pytest.fixture
def labels(rows: Floats) -> Floats:
    chance = 1.0 / (1.0 + np.exp(-(1.5 * rows[:, 0] - rows[:, 1])))
    return (np.random.default_rng(2).random(400) < chance).astype(np.float64)


def test_without_a_prior_it_is_the_logistic_regression_everybody_knows(rows: Floats, labels: Floats) -> None:
    standardised = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(standardised, labels)

    ours = ShrunkenLogisticClassifier(l2=10.0, intercept_l2=1e-9).fit(rows, labels)

    np.testing.assert_allclose(ours.predict_proba(rows), theirs.predict_proba(standardised), atol=1e-6)


def test_a_strong_prior_stays_and_a_weak_one_goes(rows: Floats, labels: Floats) -> None:
    coef, intercept = np.array([-2.0, 0.0, 1.0]), 0.5

    def log_odds(strength: float) -> Floats:
        return (
            ShrunkenLogisticClassifier(l2=strength, intercept_l2=strength, prior_coef=coef, prior_intercept=intercept)
            .fit(rows, labels)
            .decision_function(rows)
        )

    free = ShrunkenLogisticClassifier(l2=1e-6, intercept_l2=1e-6).fit(rows, labels).decision_function(rows)
    np.testing.assert_allclose(log_odds(1e9), rows @ coef + intercept, atol=1e-4)
    np.testing.assert_allclose(log_odds(1e-6), free, atol=1e-4)


@pytest.mark.parametrize("regressor", [ShrunkenLogisticRegressor, BoostedTreesRegressor])
def test_a_fraction_counts_as_that_much_of_a_success(
    rows: Floats, labels: Floats, regressor: type[ShrunkenLogisticRegressor] | type[BoostedTreesRegressor]
) -> None:
    fractions = 0.25 + 0.5 * labels
    twice, both = np.vstack([rows, rows]), np.concatenate([np.ones(400), np.zeros(400)])
    shares = np.concatenate([fractions, 1.0 - fractions])

    as_fractions = regressor(bounds=(0.0, 1.0)).fit(rows, fractions).predict(rows)
    as_classes = regressor(bounds=(0.0, 1.0)).fit(twice, both, sample_weight=shares).predict(rows)

    np.testing.assert_allclose(as_fractions, as_classes, atol=1e-9)
    assert as_fractions.mean() == pytest.approx(fractions.mean(), abs=0.01)


def test_a_target_outside_its_bounds_is_refused(rows: Floats) -> None:
    with pytest.raises(ValueError, match="bounds"):
        ShrunkenLogisticRegressor(bounds=(0.0, 1.0)).fit(rows, np.full(400, 1.5))


def test_a_value_that_no_row_knows_says_nothing(rows: Floats) -> None:
    labels = (rows[:, 0] > 0.0).astype(np.float64)
    blank = np.column_stack([rows, np.full(len(rows), np.nan)])

    without, with_it = BoostedTreesRegressor().fit(rows, labels), BoostedTreesRegressor().fit(blank, labels)

    np.testing.assert_array_equal(with_it.predict(blank), without.predict(rows))


def test_that_a_value_is_missing_can_say_something(rows: Floats) -> None:
    gone = np.random.default_rng(3).random(400) < 0.5
    rows[gone, 2] = np.nan

    model = ShrunkenLogisticClassifier().fit(rows, gone)

    assert np.mean(model.predict(rows) == gone) == 1.0


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_our_trees_give_what_those_of_scikit_learn_give(rows: Floats, labels: Floats, missing: float) -> None:
    rows[np.random.default_rng(4).random(rows.shape) < missing] = np.nan
    unseen = np.random.default_rng(5).normal(scale=2.0, size=(500, 3))
    unseen[np.random.default_rng(6).random(unseen.shape) < 0.1] = np.nan
    theirs = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE,
        max_iter=25,
        max_leaf_nodes=MAX_LEAVES,
        max_depth=MAX_DEPTH,
        max_bins=MAX_BINS,
        l2_regularization=1.0,
        monotonic_cst=[1, 0, 0],
        early_stopping=False,
    ).fit(rows, labels)

    ours = BoostedTreesClassifier(n_trees=25, monotonic=[1, 0, 0]).fit(rows, labels)

    assert len(ours.nodes_.roots) == 25
    np.testing.assert_allclose(ours.decision_function(unseen), theirs.decision_function(unseen), rtol=0, atol=1e-12)


def test_a_monotone_chance_never_falls(rows: Floats, labels: Floats) -> None:
    model = BoostedTreesClassifier(monotonic=[1, 0, 0]).fit(rows, labels)
    line = np.tile(rows[:1], (200, 1))
    line[:, 0] = np.linspace(-4.0, 4.0, 200)

    chances = model.predict_proba(line)[:, 1]

    assert np.all(np.diff(chances) >= 0.0)
    assert chances[-1] > chances[0]
