"""A replay charges and credits what was measured, and no contender sees what it is judged on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from policies.errors import OutcomesRefused
from policies.outcome_matrix import OutcomeMatrix
from policies.outcome_splits import family_folds, task_groups
from router.bench.bootstrap import Resampling, interval
from router.bench.contenders import (
    Contender,
    Fitted,
    always,
    best_threshold,
    by_feature,
    family_oracle,
    of_policy,
    standard_contenders,
    task_oracle,
    unit_of,
    vote_cascade,
)
from router.bench.evaluation import choice_draws, comparisons, feature_aurocs, only_strong, ranking_draws, set_figures
from router.bench.metrics import auroc
from router.bench.replay import Judged, regret_rates, replay, transfer, with_repeats, with_shared_training
from router.bench.shipped_contenders import learner
from router.bench.stream import (
    ahead_after_shift,
    best_fixed,
    frozen,
    learning,
    recovery_interval,
    stream_of,
    stream_of_new_tasks,
    tasks_to_recover,
)
from tests.router.bench.matrices import known_matrix

Floats = npt.NDArray[np.float64]
NLL = by_feature("leave-one-out likelihood", "loo_nll_mean", 1.0)


def replayed(contender: Contender, matrix: OutcomeMatrix) -> Judged:
    return replay(contender, matrix, family_folds(matrix, 4, np.random.default_rng(0)))


@pytest.mark.parametrize("arm", ["icl", "ttt"])
def test_a_fixed_arm_has_its_own_quality_and_pays_for_no_features(arm: str) -> None:
    matrix = known_matrix()
    judged = replayed(always(arm), matrix)
    column = matrix.column(arm)

    assert judged.mean_quality(matrix, 0.1) == pytest.approx(matrix.quality[:, column])
    assert judged.mean_cost_s(0.1) == pytest.approx(matrix.cost_s[:, column])


def test_whoever_reads_features_pays_for_them() -> None:
    matrix = known_matrix()
    judged = replayed(NLL, matrix)
    chosen = judged.choices[0.1].argmax(axis=1)

    rows = np.arange(len(matrix))
    assert judged.mean_cost_s(0.1) == pytest.approx(matrix.routed_cost_s[rows, chosen])
    assert (judged.mean_cost_s(0.1) >= matrix.feature_cost_s).all()


def test_a_cascade_that_trains_has_paid_for_the_vote() -> None:
    matrix = known_matrix()
    judged = replayed(vote_cascade(), matrix)
    trained = judged.choices[0.0][:, matrix.column("ttt")] == 1

    assert trained.any()
    expected = matrix.cost_s[:, matrix.column("icl_vote")]
    np.testing.assert_allclose(judged.mean_cost_s(0.0), expected + trained * matrix.cost_s[:, matrix.column("ttt")])


def test_no_fit_sees_a_family_it_is_judged_on() -> None:
    matrix = known_matrix()
    seen: list[set[str]] = []

    def fit(outcomes: OutcomeMatrix) -> Fitted:
        known = set(outcomes.families)

        def choose(judged: OutcomeMatrix, price: float) -> Floats:
            seen.append(known & set(judged.families))
            return np.full(judged.quality.shape, 0.25)

        return Fitted(choose)

    replayed(Contender("spy", fit), matrix)

    assert seen
    assert not any(seen)


def test_rows_come_back_in_the_order_of_the_matrix() -> None:
    matrix = known_matrix()

    scores = replayed(NLL, matrix).scores

    assert scores is not None
    assert scores.tolist() == matrix.feature("loo_nll_mean").tolist()


def test_no_contender_is_above_the_task_oracle_nor_the_family_oracle_below_a_fixed_arm() -> None:
    matrix = known_matrix()
    price, unit = 0.1, unit_of(matrix)

    def utility(judged: Judged) -> float:
        return float((judged.mean_quality(matrix, price) - price * judged.mean_cost_s(price) / unit).mean())

    worth = {each.name: utility(replayed(each, matrix)) for each in standard_contenders(matrix)}

    assert max(worth, key=lambda name: worth[name]) == "task oracle"
    assert worth["family oracle"] >= max(value for name, value in worth.items() if name.startswith("always"))


@pytest.mark.parametrize(
    ("name", "costs"), [("confidence threshold", "prompt"), ("size of the task", "nothing"), ("vote cascade", "votes")]
)
def test_whoever_looks_at_less_pays_for_less(name: str, costs: str) -> None:
    matrix = known_matrix()
    names = ("loo_nll_mean", "loo_exact_share", "vote_agreement", "prompt_tokens", "answer_confidence")
    matrix = replace(matrix, feature_names=names, features=np.hstack([matrix.features, matrix.features[:, :1]]))
    judged = replayed(next(each for each in standard_contenders(matrix) if each.name == name), matrix)
    icl, vote, ttt = (matrix.cost_s[:, matrix.column(arm)] for arm in ("icl", "icl_vote", "ttt"))

    looked = {"prompt": icl, "nothing": np.zeros(len(matrix)), "votes": vote}[costs]
    np.testing.assert_allclose(judged.cost_s[:, matrix.column("ttt")], looked + ttt)
    np.testing.assert_allclose(judged.cost_s[:, matrix.column("icl")], vote if costs == "votes" else icl)


def test_queries_of_one_file_share_their_training_and_are_drawn_together() -> None:
    matrix = known_matrix(40, 1)
    assert matrix.train_s is not None
    files = replace(matrix, groups=matrix.families)

    shared = with_shared_training(files)
    alone = interval(ranking_draws(replayed(NLL, matrix), matrix, Resampling.of(task_groups(matrix)))["AUROC"])
    by_file = interval(ranking_draws(replayed(NLL, files), files, Resampling.of(task_groups(files)))["AUROC"])

    np.testing.assert_allclose(shared.cost_s, matrix.cost_s - 0.9 * matrix.train_s)
    np.testing.assert_allclose(with_shared_training(matrix).cost_s, matrix.cost_s)
    assert by_file.value == alone.value
    assert by_file.high - by_file.low > alone.high - alone.low


def test_a_file_is_never_on_both_sides_of_a_resplit() -> None:
    matrix = replace(known_matrix(40, 1), groups=known_matrix(40, 1).families)
    place = dict(zip(matrix.feature("loo_nll_mean").tolist(), matrix.groups, strict=True))
    sizes: list[int] = []

    def rule(scores: Floats, regretted: npt.NDArray[np.bool_]) -> float:
        groups = {place[score] for score in scores.tolist()}
        sizes.append(len(scores))
        assert len(scores) == 10 * len(groups)  # whole files
        return np.inf

    regret_rates(matrix.feature("loo_nll_mean"), matrix, rule, n_splits=20, rng=np.random.default_rng(0))

    assert sizes == [20] * 20


def test_the_best_threshold_is_the_best_of_all_that_there_are() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        scores, gain = rng.integers(0, 5, 12).astype(float), rng.normal(size=12)
        found = gain[scores > best_threshold(scores, gain)].sum()

        assert found == pytest.approx(max(gain[scores > limit].sum() for limit in (-np.inf, *scores)))


def test_a_policy_of_its_own_is_asked_for_all_rows_at_its_price() -> None:
    class Cheap:
        def __init__(self, price: float) -> None:
            self.price = price

        def choose(self, matrix: OutcomeMatrix) -> Floats:
            return np.tile(np.eye(4)[0 if self.price > 0.5 else 3], (len(matrix), 1))

    matrix = known_matrix()
    judged = replayed(of_policy("cheap", lambda seen, price: Cheap(price)), matrix)

    assert judged.choices[0.1][:, 3].all()
    assert judged.choices[1.0][:, 0].all()


def test_a_matrix_without_both_arms_or_with_gaps_is_refused() -> None:
    matrix = known_matrix()
    gap = matrix.quality.copy()
    gap[0, 0] = np.nan

    with pytest.raises(OutcomesRefused, match="'ttt' is not among"):
        replayed(NLL, matrix.of_arms(["icl", "icl_vote"]))
    with pytest.raises(OutcomesRefused, match="measured"):
        replayed(NLL, replace(matrix, quality=gap))


def test_what_is_fitted_elsewhere_can_be_judged_on_every_row() -> None:
    matrix = known_matrix()
    judged = replay(NLL, matrix, transfer(matrix), fit_on=known_matrix(seed=1))

    assert judged.choices[0.1].shape == matrix.quality.shape


def test_other_outcomes_of_a_family_that_is_held_out_are_not_fitted_on() -> None:
    matrix, seen_by_fold = known_matrix(), list[set[str]]()

    def fit(seen: OutcomeMatrix) -> Fitted:
        seen_by_fold.append(set(seen.families))
        return NLL.fit(seen)

    splits = family_folds(matrix, 2, np.random.default_rng(0))
    replay(Contender("watched", fit), matrix, splits, fit_on=known_matrix(seed=1))

    assert len(seen_by_fold) == len(splits)
    for seen, split in zip(seen_by_fold, splits, strict=True):
        assert not seen & {matrix.families[i] for i in split.judge}


def test_repeats_save_training_and_nothing_else() -> None:
    matrix = known_matrix()
    half = with_repeats(matrix, 0.5)

    assert matrix.train_s is not None
    np.testing.assert_allclose(half.cost_s, matrix.cost_s - 0.5 * matrix.train_s)
    with pytest.raises(OutcomesRefused, match="train_s"):
        with_repeats(replace(matrix, train_s=None), 0.5)


def test_a_rule_that_keeps_nothing_regrets_nothing_and_one_that_keeps_all_regrets_n01() -> None:
    matrix = known_matrix(400, 1)
    scores = matrix.feature("loo_nll_mean")

    none = regret_rates(scores, matrix, lambda s, r: -np.inf, n_splits=5, rng=np.random.default_rng(0))
    all_kept = regret_rates(scores, matrix, lambda s, r: np.inf, n_splits=200, rng=np.random.default_rng(0))

    assert none.tolist() == [0.0] * 5
    assert all_kept.mean() == pytest.approx(only_strong(matrix).mean(), abs=0.01)


def test_figures_of_a_report_are_those_of_the_matrix() -> None:
    matrix = known_matrix()
    resampling = Resampling.of(list(zip(matrix.sets, matrix.tasks, strict=True)), n_draws=200)
    found = set_figures(matrix, 200)
    drawn = ranking_draws(replayed(NLL, matrix), matrix, resampling)
    single = feature_aurocs(matrix, resampling)

    gain = matrix.quality[:, matrix.column("ttt")] - matrix.quality[:, matrix.column("icl")]
    assert found["all"]["n01"].value - found["all"]["n10"].value == pytest.approx(gain.mean())
    assert found["one"]["n01"].low < found["one"]["n01"].value < found["one"]["n01"].high
    expected = auroc(matrix.feature("loo_nll_mean"), only_strong(matrix), np.ones(len(matrix)))[0]
    assert drawn["AUROC"][0] == single["loo_nll_mean"].value == pytest.approx(expected)
    assert next(iter(single)) == "loo_nll_mean"


def test_a_score_that_tells_is_above_one_that_does_not_and_above_its_own_shuffle() -> None:
    matrix = known_matrix()
    resampling = Resampling.of(task_groups(matrix), n_draws=2000)
    blind = by_feature("size of the task", "prompt_tokens", 1.0)
    judged = [replayed(each, matrix) for each in (NLL, blind, always("icl"), task_oracle(), family_oracle())]
    rankings = {each.name: ranking_draws(each, matrix, resampling) for each in judged}
    choices = choice_draws(judged, matrix, resampling)
    oracles = {"task oracle", "family oracle"}
    found = {each.other: each for each in comparisons(NLL.name, rankings, choices, oracles=oracles)}

    assert found["size of the task"].is_beaten
    assert found["own choices, shuffled"].is_beaten
    assert not found["task oracle"].is_beaten
    assert found["always icl"].apgr is None
    assert found["always icl"].apgr_p is None
    assert {each.other for each in found.values() if each.utility_p is None} == oracles
    assert interval(rankings[blind.name]["AUROC"]).low < 0.5


def test_a_learner_recovers_after_a_shift_and_a_frozen_policy_does_not() -> None:
    matrix = known_matrix(400, 1)
    stream = stream_of(matrix, rng=np.random.default_rng(0), n_tasks=900, family_shift=300, price_shift=700)
    learner = learning(NLL, stream, rng=np.random.default_rng(1), every=50)
    still, fixed = frozen(NLL, stream), best_fixed(stream)

    for course in (learner, still, fixed):
        assert (course.regret >= -1e-9).all()
        assert (np.diff(course.cumulative_regret) >= -1e-9).all()
    assert fixed.utility.sum() == pytest.approx(stream.utilities(looked=False).sum(axis=0).max())
    assert learner.cumulative_regret[-1] <= still.cumulative_regret[-1]
    assert tasks_to_recover([ahead_after_shift(still, still, stream)]) is None


def test_a_recovery_is_found_where_it_is_and_not_where_noise_first_crosses() -> None:
    rng, places = np.random.default_rng(0), np.arange(1500)
    ramp = 0.12 * np.minimum(1.0, places / 1000)  # nine tenths at 900
    streams = [ramp + rng.normal(scale=0.45, size=1500) for _ in range(20)]

    found, between = tasks_to_recover(streams), recovery_interval(streams, rng, n_draws=50)

    assert found is not None
    assert 750 < found < 1000
    assert between is not None
    assert between[0] <= found <= between[1]
    assert tasks_to_recover([-ramp]) is None


def test_a_frozen_policy_knows_the_price_of_the_day() -> None:
    matrix = known_matrix(400, 1)
    stream = stream_of(
        matrix, rng=np.random.default_rng(0), prices=(0.0, 100.0), n_tasks=300, family_shift=100, price_shift=200
    )

    untold = NLL.fit(matrix.take(stream.warm_up)).choose(matrix.take(stream.rows), 0.0)

    course = frozen(NLL, stream)

    worth = (untold * stream.utilities(looked=True)).sum(axis=1)
    np.testing.assert_allclose(course.utility[:200], worth[:200])
    assert course.utility[200:].mean() > worth[200:].mean() / 2


def test_a_stream_changes_its_families_and_its_price_where_it_says() -> None:
    matrix = known_matrix(80, 1)
    stream = stream_of(matrix, rng=np.random.default_rng(0), n_tasks=300, family_shift=100, price_shift=200)
    families = np.array(matrix.families)[stream.rows]

    assert not set(families[:100].tolist()) & set(families[100:].tolist())
    assert set(np.array(matrix.families)[stream.warm_up].tolist()) <= set(families[:100].tolist())
    assert stream.prices.tolist() == [0.1] * 200 + [0.4] * 100


def test_a_stream_of_new_tasks_has_each_once_and_none_that_the_learner_began_with() -> None:
    matrix = known_matrix(80, 1)
    stream = stream_of_new_tasks(matrix, rng=np.random.default_rng(0))
    families = np.array(matrix.families)

    assert sorted([*stream.warm_up, *stream.rows]) == list(range(80))
    before, after = families[stream.rows[: stream.family_shift]], families[stream.rows[stream.family_shift :]]
    assert not set(before.tolist()) & set(after.tolist())
    assert stream.prices.tolist() == [0.1] * stream.price_shift + [0.4] * (len(stream.rows) - stream.price_shift)


def test_what_learns_from_its_newest_outcomes_follows_where_the_families_change() -> None:
    matrix = known_matrix(400, 1)
    later = np.isin(matrix.families, ("f2", "f3"))  # those in which training gains more: the other way round there
    features = matrix.features.copy()
    features[later, 0] *= -1
    features[later, 1:3] = 1 - features[later, 1:3]
    stream = stream_of(
        replace(matrix, features=features),
        rng=np.random.default_rng(0),
        n_tasks=1200,
        family_shift=300,
        price_shift=1100,
    )

    course = learning(learner(), stream, rng=np.random.default_rng(1), every=300)

    assert set(np.array(matrix.families)[stream.rows[300:]]) == {"f2", "f3"}
    assert course.regret[900:].sum() < 0.7 * frozen(learner(explore=0.0), stream).regret[900:].sum()
