"""The learned policies see the features of the stages they pay for, and are judged like every other contender."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.cold_start import cold_start
from policies.outcome_files import read_outcomes
from policies.outcome_matrix import OutcomeMatrix
from policies.stages import Stage
from router.bench.contenders import Contender
from router.bench.replay import replay, transfer
from router.bench.shipped_contenders import EXPLORE, features_up_to, learned, shipped_contenders
from tests.router.bench.matrices import known_matrix


def staged(n_tasks: int = 60, seed: int = 0) -> OutcomeMatrix:
    matrix = known_matrix(n_tasks, 1, seed=seed)
    names = (*matrix.feature_names, "stage_cost_s.votes", "predicted_cost_s.ttt")
    more = np.tile([2.0, 10.0], (len(matrix), 1))
    return replace(matrix, feature_names=names, features=np.hstack([matrix.features, more]))


def test_a_stage_that_is_not_paid_for_is_not_read() -> None:
    matrix = staged()

    assert features_up_to(matrix, Stage.PROBE) == ("prompt_tokens",)
    assert features_up_to(matrix, Stage.HELD_OUT) == ("loo_nll_mean", "loo_exact_share", "prompt_tokens")
    assert "vote_agreement" in features_up_to(matrix, Stage.VOTES)
    assert features_up_to(matrix.of_features(["price", "stage_cost_s.votes"]), Stage.PROBE) == ("price",)


def test_whoever_reads_the_votes_pays_for_them() -> None:
    matrix, seen = staged(), staged(seed=1)
    cheap, dear = (replay(learned("l", "logistic", stage), matrix, transfer(matrix), fit_on=seen, prices=(0.1,))
                   for stage in (Stage.PROBE, Stage.VOTES))  # fmt: skip

    np.testing.assert_allclose(dear.cost_s - cheap.cost_s, 2.0)


def test_what_is_shipped_comes_first_on_our_own_outcomes_and_is_what_it_is_whatever_it_is_fitted_on() -> None:
    ours = read_outcomes(Path(__file__).parents[3] / "docs" / "data" / "outcomes_to_fit.csv.gz").take(range(40))
    first, with_votes = shipped_contenders(ours)[:2]

    one, other = (first.fit(ours.take(range(n))).choose(ours, 0.1) for n in (10, 30))

    assert (first.name, with_votes.name) == ("shipped prior", "shipped prior, with votes")
    assert not first.learns
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, cold_start(price=0.1, explore=EXPLORE).choose(ours))


def test_on_other_people_s_outcomes_nothing_is_shipped() -> None:
    assert not any(contender.name.startswith("shipped") for contender in shipped_contenders(staged()))


BLIND = ("Beta-Thompson", "uniform")


@pytest.mark.parametrize("contender", shipped_contenders(staged()), ids=lambda each: each.name)
def test_every_contender_decides_every_row_and_ranks_them_unless_it_looks_at_no_task(contender: Contender) -> None:
    matrix, seen = staged(), staged(seed=1)
    judged = replay(contender, matrix, transfer(matrix), fit_on=seen, prices=(0.1,))

    np.testing.assert_allclose(judged.choices[0.1].sum(axis=1), 1.0)
    assert (judged.scores is None) == (contender.name in BLIND)
    assert judged.scores is None or np.isfinite(judged.scores).all()
    if judged.p_strong_only is not None:
        assert ((judged.p_strong_only >= 0) & (judged.p_strong_only <= 1)).all()
