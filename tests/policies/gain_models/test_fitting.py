"""Fitted models find the chances that outcomes were drawn from, and come to them from the prior as outcomes come in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from policies import RecordRefused
from policies.gain_models.files import as_bytes
from policies.gain_models.fitting import FEW_ROWS, TREES_FROM, fit_gain_model, fit_to_log, make_prior
from policies.gain_models.newton import sigmoid
from policies.gain_models.prior import Prior
from policies.outcome_matrix import OutcomeMatrix
from tests.policies.gain_models.matrices import ARMS, SIGNALS, drawn, matrix_of
from tests.policies.gain_models.priors import fitted, two_signals

Floats = npt.NDArray[np.float64]


def calibration_error(said: Floats, right: Floats, n_bins: int = 10) -> float:
    """Expected calibration error over bins of equal mass."""
    bins = np.array_split(np.argsort(said, kind="stable"), n_bins)
    return float(sum(len(b) * abs(said[b].mean() - right[b].mean()) for b in bins) / len(said))


def error_of_gains(n: int, prior: Prior, *, seed: int = 0) -> float:
    """Mean error of the gain of `ttt` against the truth, after n outcomes."""
    unseen = drawn(600, seed=99)
    model = fitted("logistic", drawn(n, seed=seed).matrix, prior=prior)
    rows = unseen.matrix.features[:, [unseen.matrix.feature_names.index(name) for name in model.feature_names]]
    return float(np.abs(model.estimate(rows).gain[:, 2] - unseen.gains[:, 2]).mean())


@pytest.fixture(scope="module")
def right_prior() -> Prior:
    """One that public tasks of the same kind speak for."""
    return make_prior(drawn(3_000, seed=50).matrix, SIGNALS, source="made up")


@pytest.fixture(scope="module")
def wrong_prior(right_prior: Prior) -> Prior:
    return replace(right_prior, coef=-right_prior.coef)


def test_without_outcomes_the_prior_is_the_model(right_prior: Prior) -> None:
    rows = drawn(50, seed=99).matrix.features[:, :2]
    empty = drawn(10).matrix.take(np.zeros(10, dtype=np.bool_))

    said = fitted("logistic", empty, prior=right_prior).estimate(rows)

    believed = right_prior.model(ARMS).estimate(rows)
    np.testing.assert_allclose(said.gain, believed.gain, atol=1e-12)
    np.testing.assert_allclose(said.p_correct, believed.p_correct, atol=1e-12)
    np.testing.assert_allclose(said.gain_std, believed.gain_std, atol=1e-12)


def test_after_20_outcomes_a_right_prior_helps_and_a_wrong_one_harms(right_prior: Prior, wrong_prior: Prior) -> None:
    right, wrong = (np.mean([error_of_gains(20, p, seed=s) for s in range(5)]) for p in (right_prior, wrong_prior))

    assert right < 0.05
    assert wrong > 3.0 * right


def test_after_300_outcomes_a_wrong_prior_is_forgotten_for_the_most_part(wrong_prior: Prior) -> None:
    at_20, at_300 = (np.mean([error_of_gains(n, wrong_prior, seed=s) for s in range(3)]) for n in (20, 300))

    assert at_300 < 0.5 * at_20


def test_the_error_it_states_shrinks_with_outcomes(right_prior: Prior) -> None:
    row = np.array([[0.25, 0.5]])
    std = [fitted("logistic", drawn(n).matrix, prior=right_prior).estimate(row).gain_std[0, 2] for n in (0, 20, 290)]

    assert std[0] > std[1] > std[2] > 0.0


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_chances_on_unseen_tasks_come_true_as_often_as_said(kind: str) -> None:
    model = fitted(kind, drawn(3_000, missing=0.05).matrix)
    unseen = drawn(4_000, seed=1)

    said = model.estimate(unseen.matrix.features)

    assert np.all(said.gain_std[:, 1:] > 0.0)
    for j in range(3):
        assert calibration_error(said.p_correct[:, j], unseen.matrix.quality[:, j]) < 0.04
    gained = unseen.matrix.quality[:, 2] - unseen.matrix.quality[:, 0]
    assert calibration_error(said.gain[:, 2], gained) < 0.04
    assert np.corrcoef(said.gain[:, 2], unseen.gains[:, 2])[0, 1] > 0.85


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_heads_of_the_gain_find_who_gains_where_the_difference_of_chances_does_not(kind: str) -> None:
    """How hard a task is varies a lot, bends, and says nothing of the gain, which another feature decides: the errors
    that two heads make about the first drown the second.
    """

    def made(n: int, seed: int) -> tuple[Floats, Floats]:
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(n, 10))
        icl = 0.05 + 0.7 * sigmoid(4.0 * np.sin(2.0 * features[:, 0]) * features[:, 1] + 2.0 * features[:, 2])
        gain = 0.2 * sigmoid(3.0 * features[:, 3])
        u = rng.random(n)
        return np.column_stack([u < icl, u < icl + gain]).astype(np.float64), features

    names = tuple(f"x{i}" for i in range(10))
    quality, features = made(1_500, 0)
    model = fitted(kind, matrix_of(quality, features, names=names, arms=("icl", "ttt")))
    unseen, rows = made(4_000, 1)
    said = model.estimate(rows)

    only_ttt = unseen[:, 1] > unseen[:, 0]
    by_heads = roc_auc_score(only_ttt, said.gain[:, 1])
    by_difference = roc_auc_score(only_ttt, said.p_correct[:, 1] - said.p_correct[:, 0])
    assert model.direct_weight[1] > 0.5
    assert by_heads > by_difference + 0.01


def test_the_gain_falls_as_leave_one_out_rises() -> None:
    model = fitted("trees", drawn(1_500).matrix)
    model = replace(model, direct_weight=np.ones(3))
    line = np.tile(model.scaler.center, (50, 1))
    line[:, 0] = np.linspace(0.0, 1.0, 50)

    gain = model.estimate(line).gain[:, 2]

    assert np.all(np.diff(gain) <= 1e-12)
    assert gain[0] > gain[-1] + 0.1


def test_partial_credit_is_learned_as_such() -> None:
    whole = drawn(2_000)
    parts = replace(whole.matrix, quality=0.4 * whole.matrix.quality)

    said = fitted("logistic", parts).estimate(whole.matrix.features)

    np.testing.assert_allclose(said.p_correct.mean(axis=0), 0.4 * whole.matrix.quality.mean(axis=0), atol=0.01)
    assert said.gain[:, 2].mean() == pytest.approx(0.4 * whole.gains[:, 2].mean(), abs=0.02)


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_an_arm_that_was_never_measured_breaks_nothing(kind: str) -> None:
    matrix = drawn(400).matrix
    quality = matrix.quality.copy()
    quality[:, 1] = np.nan

    said = fitted(kind, replace(matrix, quality=quality)).estimate(matrix.features)

    assert np.all(np.isfinite(said.p_correct) & np.isfinite(said.gain) & np.isfinite(said.gain_std))


@pytest.mark.parametrize("kind", ["prior", "logistic", "trees"])
def test_the_same_rows_give_the_same_bytes(kind: str) -> None:
    first, second = (fitted(kind, drawn(400, missing=0.1).matrix, seed=3) for _ in range(2))

    assert as_bytes(first) == as_bytes(second)


def test_few_rows_are_fitted_on_the_features_of_the_prior_alone() -> None:
    few, more = (fitted("logistic", drawn(n).matrix) for n in (FEW_ROWS - 1, FEW_ROWS))

    assert set(few.feature_names) == set(two_signals().feature_names)
    assert more.feature_names == drawn(1).matrix.feature_names


@pytest.mark.parametrize("kind", ["prior", "logistic"])
def test_a_feature_that_no_row_knows_is_not_read_though_the_prior_does(right_prior: Prior, kind: str) -> None:
    matrix = drawn(FEW_ROWS - 1).matrix
    blank = replace(matrix, features=np.column_stack([np.full(len(matrix), np.nan), matrix.features[:, 1:]]))
    without = replace(matrix, feature_names=matrix.feature_names[1:], features=matrix.features[:, 1:])

    for blind in (blank, without):
        model = fitted(kind, blind, prior=right_prior)
        assert model.feature_names == ("answer_confidence",)

    usual = right_prior.scaler.center
    alone = right_prior.of_features(["answer_confidence"]).model().estimate(usual[None, 1:])
    np.testing.assert_allclose(alone.gain, right_prior.model().estimate(usual[None]).gain)


def test_it_says_what_it_was_fitted_on() -> None:
    matrix = drawn(100).matrix
    told = {"parent": "a" * 64, "feature_schema": "abc", "settings": {"price": 0.1}}

    model = fitted("logistic", matrix, parent="a" * 64, feature_schema="abc", settings={"price": 0.1})

    other = fitted("logistic", drawn(100, seed=1).matrix)
    made_from = model.provenance
    assert (made_from.n_rows, made_from.parent, made_from.feature_schema) == (100, told["parent"], "abc")
    assert made_from.settings == (("price", 0.1),)
    assert made_from.training_digest != other.provenance.training_digest


def test_what_cannot_be_fitted_to_is_refused_by_name() -> None:
    matrix = drawn(40).matrix
    no_icl = replace(matrix, arms=("zero_shot", "icl_vote", "ttt"))

    for kind, given, field in (
        ("forest", matrix, "kind"),
        ("logistic", no_icl, "matrix.arms"),
        ("trees", matrix, "matrix"),
    ):
        with pytest.raises(RecordRefused) as refused:
            fitted(kind, given)

        assert refused.value.field == field


def a_log(n: int, *, seed: int, crossed: bool) -> OutcomeMatrix:
    """Rows in which training helps where one signal is high or, crossed, where two are both high or both low."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(n, 2))
    chances = np.full((n, len(ARMS)), 0.5)
    chances[:, 2] = sigmoid(4.0 * (signals[:, 0] * signals[:, 1] if crossed else signals[:, 0]))
    return matrix_of((rng.random(chances.shape) < chances).astype(np.float64), signals, names=("one", "other"))


def test_a_log_is_fitted_by_what_predicts_the_rest_of_it_best() -> None:
    straight, crossed = (fit_to_log(a_log(600, seed=0, crossed=crossed)) for crossed in (False, True))

    assert (straight.name, crossed.name) == ("logistic", "trees")
    assert fit_to_log(a_log(TREES_FROM - 1, seed=0, crossed=True)).name == "logistic"


def test_what_tells_families_apart_counts_in_a_log_where_they_come_again() -> None:
    """Each family has a mark of its own, which says nothing of a family that is held out, and all of any other."""
    matrix = marked_families(400)

    of_log, of_families = (model.estimate(matrix.features).p_correct[:, 2] for model in (
        fit_to_log(matrix), fit_gain_model("logistic", matrix)
    ))  # fmt: skip

    right = matrix.quality[:, 2] > 0.5
    assert of_log[right].mean() - of_log[~right].mean() > of_families[right].mean() - of_families[~right].mean() + 0.1


def marked_families(n: int, n_families: int = 10) -> OutcomeMatrix:
    rng = np.random.default_rng(0)
    family = np.arange(n) % n_families
    chances = np.full((n, len(ARMS)), 0.5)
    chances[:, 2] = np.where(family % 2 == 0, 0.95, 0.05)
    marks = np.eye(n_families)[family]
    names = tuple(f"mark_{i}" for i in range(n_families))
    quality = (rng.random(chances.shape) < chances).astype(np.float64)
    return matrix_of(quality, marks, names=names, n_families=n_families)
