"""Heads of one kind learn from each other where all were tried, and go apart where outcomes say so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policies.gain_models.linear_heads import LinearFit, fit_linear_heads
from policies.gain_models.newton import sigmoid

Floats = npt.NDArray[np.float64]

L2 = 12.5
SAME = np.array([[-1.0, 2.0, -1.0, 0.0], [0.0, 2.0, -1.0, 0.0], [0.5, 2.0, -1.0, 0.0]])  # intercepts differ, slopes not
APART = np.array([[-1.0, 2.0, 0.0, 0.0], [0.0, -2.0, 0.0, 0.0], [0.5, 0.0, 2.0, 0.0]])


def outcomes(n: int, coef: Floats, seed: int = 0) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    design = np.hstack([np.ones((n, 1)), rng.normal(size=(n, coef.shape[1] - 1))])
    right = rng.random((n, len(coef))) < sigmoid(design @ coef.T)
    return design, right.astype(np.float64), rng.integers(0, 5, n)


def fitted(n: int, coef: Floats, *, kinds: str = "aaa", weights: Floats | None = None) -> LinearFit:
    design, targets, folds = outcomes(n, coef)
    weights = np.ones_like(targets) if weights is None else weights
    return fit_linear_heads(design, targets, weights, folds, kinds=tuple(kinds), believed=np.zeros_like(coef), l2=L2)


def test_few_outcomes_do_not_set_apart_arms_that_are_alike() -> None:
    together, alone = fitted(200, SAME), fitted(200, SAME, kinds="abc")

    def apart(fit: LinearFit) -> float:
        return float(np.ptp(fit.coef[:, 1:], axis=0).mean())

    assert apart(together) < apart(alone)
    assert np.abs(together.coef - SAME).mean() < np.abs(alone.coef - SAME).mean()


def test_many_outcomes_of_arms_that_are_not_alike_set_them_apart() -> None:
    fit = fitted(3_000, APART)

    assert np.abs(fit.coef - APART).max() < 0.3


def test_what_others_fail_at_says_nothing_of_an_arm_that_was_not_tried_there() -> None:
    design, targets, folds = outcomes(400, SAME)
    targets[100:, :2], weights = 0.0, np.ones((400, 3))
    weights[100:, 2] = 0.0

    def of_last_arm(rows: slice) -> Floats:
        fit = fit_linear_heads(
            design[rows], targets[rows], weights[rows], folds[rows], kinds="aaa", believed=np.zeros((3, 4)), l2=L2
        )
        coef: Floats = fit.coef[2]
        return coef

    np.testing.assert_allclose(of_last_arm(slice(400)), of_last_arm(slice(100)), atol=1e-6)


def test_what_a_row_says_of_several_heads_counts_as_one_outcome() -> None:
    """Three arms that are always right and wrong together are no more sure of the slopes than one of them."""
    design, targets, folds = outcomes(200, SAME[:1])
    one = fit_linear_heads(design, targets, np.ones_like(targets), folds, kinds="a", believed=np.zeros((1, 4)), l2=L2)
    thrice = fit_linear_heads(
        design, np.tile(targets, 3), np.ones((200, 3)), folds, kinds="aaa", believed=np.zeros((3, 4)), l2=L2
    )

    np.testing.assert_allclose(thrice.coef[0], one.coef[0], atol=0.35)


def test_without_outcomes_everything_stays_as_believed_and_as_sure() -> None:
    believed = np.array([[0.3, 1.0], [0.1, -1.0]])

    fit = fit_linear_heads(
        np.ones((0, 2)), np.ones((0, 2)), np.ones((0, 2)), np.zeros(0, np.int64), kinds="aa", believed=believed, l2=L2
    )

    np.testing.assert_array_equal(fit.coef, believed)
    np.testing.assert_allclose(fit.covariance, np.tile(np.eye(2) / L2, (2, 1, 1)))


def test_the_more_outcomes_the_surer() -> None:
    fewer, more = fitted(1_000, SAME), fitted(4_000, SAME)

    assert np.all(np.diagonal(more.covariance, axis1=1, axis2=2) < np.diagonal(fewer.covariance, axis1=1, axis2=2))


def test_a_score_of_an_unseen_family_hangs_on_no_outcome_of_it() -> None:
    design, targets, folds = outcomes(200, SAME)
    other = np.where(folds[:, None] == 0, 1.0 - targets, targets)

    one, flipped = (
        fit_linear_heads(design, each, np.ones((200, 3)), folds, kinds="aaa", believed=np.zeros((3, 4)), l2=L2)
        for each in (targets, other)
    )

    chosen_alike = one.unseen[folds == 0]
    assert not np.allclose(one.coef, flipped.coef)
    assert np.isfinite(chosen_alike).all()
    # which penalty is chosen does hang on all outcomes, so the scores agree only for one and the same penalty
    assert np.corrcoef(chosen_alike.ravel(), flipped.unseen[folds == 0].ravel())[0, 1] > 0.9
