"""Every metric is what its definition says, counted out by hand, and the identities between them hold."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bench import metrics
from router.bench.bootstrap import Resampling, interval, p_value
from router.bench.metrics import RoutingCurve

Floats = npt.NDArray[np.float64]


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    """Scores with ties, and right or wrong by the weak and by the strong arm."""
    n = draw(st.integers(4, 25))
    scores = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    weak, strong = (draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)) for _ in range(2))
    return (*(np.array(values, dtype=np.float64) for values in (scores, weak, strong)),)  # type: ignore[return-value]


def curve(scores: Floats, weak: Floats, strong: Floats, weights: Floats | None = None) -> RoutingCurve:
    n = len(scores)
    weights = np.ones((1, n)) if weights is None else weights
    return RoutingCurve(scores, weak, strong, np.full(n, 0.1), np.full(n, 1.1), np.ones(n), weights)


def pairs_above(scores: Floats, positive: Floats) -> float:
    """AUROC by looking at every pair."""
    ups, downs = scores[positive == 1], scores[positive == 0]
    won = [(a > b) + (a == b) / 2 for a in ups for b in downs]
    return sum(won) / len(won) if won else math.nan


@settings(deadline=None)
@given(outcomes())
def test_auroc_is_the_share_of_pairs_in_the_right_order(given_outcomes: tuple[Floats, Floats, Floats]) -> None:
    scores, positive, _ = given_outcomes

    found = metrics.auroc(scores, positive == 1, np.ones(len(scores)))[0]

    assert found == pytest.approx(pairs_above(scores, positive), nan_ok=True)


@settings(deadline=None)
@given(outcomes(), st.integers(0, 99))
def test_a_weight_is_a_row_so_many_times(given_outcomes: tuple[Floats, Floats, Floats], seed: int) -> None:
    scores, weak, strong = given_outcomes
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(scores))).astype(np.float64)
    weights[:, 0] += 1
    better = strong > weak
    for drawn, row in zip(weights, range(3), strict=True):
        times = drawn.astype(int)
        repeated = [np.repeat(values, times) for values in (scores, weak, strong)]
        one, whole = np.ones(len(repeated[0])), curve(*repeated)
        many = curve(scores, weak, strong, weights)

        for metric in (metrics.auroc, metrics.auprc):
            alone = metric(repeated[0], np.repeat(better, times), one)[0]
            assert metric(scores, better, weights)[row] == pytest.approx(alone, nan_ok=True)
        for name, asked in (("apgr", ()), ("apgr_ceiling", ()), ("cpt", (0.8,)), ("quality_at_cost", (0.5,)),
                            ("cost_reaching", (0.95,)), ("oracle_share", (0.4,))):  # fmt: skip
            with np.errstate(invalid="ignore", divide="ignore"):
                expected, found = getattr(whole, name)(*asked)[0], getattr(many, name)(*asked)[row]
            assert found == pytest.approx(expected, nan_ok=True, abs=1e-9), name


@settings(deadline=None)
@given(outcomes())
def test_average_precision_is_counted_score_by_score(given_outcomes: tuple[Floats, Floats, Floats]) -> None:
    scores, positive, _ = given_outcomes
    total, previous = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        hits = positive[scores >= threshold].sum()
        total += hits / (scores >= threshold).sum() * (hits - previous)
        previous = hits

    found = metrics.auprc(scores, positive == 1, np.ones(len(scores)))[0]

    assert found == pytest.approx(total / positive.sum() if positive.sum() else math.nan, nan_ok=True)


@settings(deadline=None)
@given(outcomes())
def test_apgr_is_the_identity_of_ranks(given_outcomes: tuple[Floats, Floats, Floats]) -> None:
    scores, weak, strong = given_outcomes
    n01, n10 = float(np.mean(strong > weak)), float(np.mean(weak > strong))
    above = np.array([(scores > each).sum() + (scores == each).sum() / 2 for each in scores]) / len(scores)

    def c(chosen: npt.NDArray[np.bool_]) -> float:
        return 1 - float(above[chosen].mean()) if chosen.any() else 0.0

    found = curve(scores, weak, strong).apgr()[0]

    if n01 == n10:
        assert math.isnan(found)
    else:
        assert found == pytest.approx((n01 * c(strong > weak) - n10 * c(weak > strong)) / (n01 - n10))
        assert curve(scores, weak, strong).apgr_ceiling()[0] == pytest.approx(perfect_apgr(n01, n10))
        if n10 == 0:
            auroc = metrics.auroc(scores, strong > weak, np.ones(len(scores)))[0]
            if n01 < 1:
                assert found == pytest.approx(n01 / 2 + (1 - n01) * auroc)


def perfect_apgr(n01: float, n10: float) -> float:
    """Return the APGR of a perfect order where every task is right or wrong."""
    gap = n01 - n10
    return n01 / gap * (1 - n01 / 2 - n10 / 2) + n10 / 2


@pytest.mark.parametrize(("n10", "ceiling"), [(0, 0.90), (3, 1.06), (5, 1.19)])
def test_the_ceilings_of_the_reference_are_met(n10: int, ceiling: float) -> None:
    """Of 100 tasks the strong arm alone solves 20, the weak one alone `n10`."""
    weak, strong = np.zeros(100), np.zeros(100)
    weak[:n10], strong[n10 : n10 + 20] = 1.0, 1.0
    found = curve(np.zeros(100), weak, strong).apgr_ceiling()[0]

    assert found == pytest.approx(perfect_apgr(0.20, n10 / 100))
    assert round(found, 2) == ceiling


def test_a_score_that_says_nothing_has_an_apgr_of_one_half() -> None:
    weak, strong = np.array([0.0, 1, 0, 1]), np.array([1.0, 1, 1, 0])

    assert curve(np.zeros(4), weak, strong).apgr()[0] == pytest.approx(0.5)


def test_the_curve_runs_from_always_weak_to_always_strong() -> None:
    weak, strong = np.array([1.0, 0, 0, 0]), np.array([0.0, 1, 1, 0])
    found = curve(np.array([0.0, 3, 2, 1]), weak, strong)

    assert found.share[0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert found.quality[0].tolist() == [0.25, 0.5, 0.75, 0.75, 0.5]
    assert found.pgr[0].tolist() == [0.0, 1.0, 2.0, 2.0, 1.0]
    assert found.cost[0] == pytest.approx([0.1, 0.35, 0.6, 0.85, 1.1])


def test_a_level_is_reached_where_the_curve_first_crosses_it() -> None:
    weak, strong = np.array([0.0, 1, 0, 0]), np.array([1.0, 0, 1, 0])
    found = curve(np.array([4.0, 3, 2, 1]), weak, strong)  # quality 0.25, 0.5, 0.25, 0.5, 0.5

    assert found.cpt(0.5)[0] == pytest.approx(0.125)  # half way to the first point, not where it rises again
    assert found.cpt(1.0)[0] == pytest.approx(0.25)
    assert found.cost_reaching(0.8)[0] == pytest.approx(0.1 + 0.25 * 0.6)
    assert found.quality_at_cost(0.35)[0] == pytest.approx(1.0)
    assert math.isnan(found.quality_at_cost(0.05)[0])  # the features alone cost more
    assert found.cost_reaching(0.5)[0] == pytest.approx(0.1)


def test_the_best_order_has_all_of_the_oracle_and_a_random_one_nothing() -> None:
    weak, strong = np.array([0.0, 1, 0, 0, 1]), np.array([1.0, 0, 1, 0, 1])

    assert curve(strong - weak, weak, strong).oracle_share(0.4)[0] == pytest.approx(1.0)
    assert curve(np.zeros(5), weak, strong).oracle_share(0.4)[0] == pytest.approx(0.0)


def test_calibration_errors_are_zero_where_what_was_said_came_true() -> None:
    p = np.repeat([0.0, 0.25, 0.5, 1.0], 20)
    happened = np.concatenate([np.zeros(20), np.tile([1.0, 0, 0, 0], 5), np.tile([1.0, 0], 10), np.ones(20)])
    one = np.ones(80)

    assert metrics.ece(p, happened, one)[0] == pytest.approx(0.0)
    assert metrics.ece(p + 0.1, happened, one)[0] == pytest.approx(0.1)
    assert metrics.brier(happened, happened, one)[0] == 0.0
    assert metrics.brier(np.full(80, 0.5), happened, one)[0] == pytest.approx(0.25)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=30, max_size=60, unique=True))
def test_bins_have_equal_mass_where_no_two_probabilities_are_equal(values: list[float]) -> None:
    counts = np.bincount(metrics.equal_mass_bins(np.array(values)))

    assert len(counts) == 15
    assert counts.max() - counts.min() <= 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_hull_lies_above_every_point_and_bends_down(points: list[tuple[int, int]]) -> None:
    cost, quality = np.array(points, dtype=np.float64).T
    x, y = metrics.upper_hull(cost, quality)
    slopes = [(d - b) / (c - a) for (a, b), (c, d) in pairwise(zip(x.tolist(), y.tolist(), strict=True))]

    assert all(np.interp(cost, x, y) >= quality - 1e-9)
    assert slopes == sorted(slopes, reverse=True)
    assert all(slope > 0 for slope in slopes)
    assert set(zip(x.tolist(), y.tolist(), strict=True)) <= {(float(a), float(b)) for a, b in points}


def test_aiq_is_the_mean_quality_of_the_hull_over_the_common_costs() -> None:
    cost, quality = np.array([0.0, 1.0, 0.5]), np.array([0.2, 0.6, 0.3])  # the last lies below the hull

    assert metrics.aiq(cost, quality, 0.0, 1.0) == pytest.approx(0.4)
    assert metrics.aiq(cost, quality, 0.0, 2.0) == pytest.approx((0.4 + 0.6) / 2)
    assert metrics.aiq(np.array([0.5]), np.array([0.8]), 0.0, 1.0) == pytest.approx(0.4)  # nothing below 0.5


def test_mixing_at_random_has_no_lift_and_what_lies_above_it_has() -> None:
    weak, strong = (0.0, 0.4), (1.0, 0.6)

    assert metrics.ibc_lift((0.5, 0.5), weak, strong) == pytest.approx(0.0)
    assert metrics.ibc_lift((0.5, 0.6), weak, strong) == pytest.approx(1.0)
    assert metrics.ibc_lift((0.5, 0.4), weak, strong) == pytest.approx(-1.0)
    assert math.isnan(metrics.ibc_lift(weak, weak, strong))


def test_what_is_on_the_frontier_is_at_no_distance_from_it() -> None:
    cost, quality = np.array([0.1, 0.5, 1.0]), np.array([0.4, 0.6, 0.5])

    assert [metrics.pareto_distance(p, cost, quality) for p in ((0.5, 0.6), (1.0, 0.5), (0.05, 0.3))] == pytest.approx(
        [0.0, 0.1, 0.0]
    )


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert metrics.holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert metrics.holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


def test_all_seeds_of_a_task_are_drawn_together_and_every_draw_has_as_many_tasks() -> None:
    resampling = Resampling.of([("s", "a"), ("s", "b"), ("s", "a"), ("t", "a")], n_draws=50)
    weights = np.concatenate(list(resampling.parts()))

    assert weights.shape == (50, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert (np.concatenate(list(resampling.parts())) == weights).all()


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(1).normal(loc=0.3, size=400)
    resampling = Resampling.of([("s", str(i)) for i in range(400)], n_draws=4000)
    drawn = resampling.draws(lambda weights: {"mean": metrics.mean(values, weights)})["mean"]
    found, half = interval(drawn), 1.96 * values.std() / 20

    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    assert found.low > 0
    assert p_value(drawn) < 0.01
    assert p_value(drawn - found.value) > 0.5


def test_the_apgr_of_an_auroc_is_that_of_a_score_that_has_it() -> None:
    rng = np.random.default_rng(0)
    kind = rng.choice(3, size=40_000, p=[0.25, 0.1, 0.65])  # only the strong arm, only the weak one, no difference
    weak, strong = (kind == 1).astype(float), (kind == 0).astype(float)
    scores = rng.normal(size=len(kind)) + 1.2 * strong
    ones = np.ones((1, len(kind)))
    curve = RoutingCurve(scores, weak, strong, np.zeros(len(kind)), ones[0], ones[0], ones)

    found = metrics.apgr_expected(
        float(metrics.auroc(scores, strong == 1, ones)[0]), float(strong.mean()), float(weak.mean())
    )

    assert found == pytest.approx(float(curve.apgr()[0]), abs=0.01)
    assert metrics.apgr_expected(0.8, 0.2, 0.0) == pytest.approx(
        0.74
    )  # as routing without harm has it: n01 / 2 + (1 - n01) AUROC
