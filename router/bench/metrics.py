"""What is measured of a routing score and of a policy, by exact formulas.

Two arms are compared: a weak one (`icl`) and a strong one (`ttt`). A score ranks tasks, the highest are sent to the
strong arm first. Every function takes weights of the rows, (n_draws, n_rows) or (n_rows,), and returns one number per
draw: with weights of one it is the metric itself, with those of bootstrap.py its bootstrap distribution. Ties in a
score stand for a coin: curves go straight from one distinct score to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

N_BINS = 15

_NOTHING = 1e-12  # of quality: rounding


def mean(values: Floats, weights: Floats) -> Floats:
    """Return the weighted mean, (n_draws,)."""
    drawn = _drawn(weights)
    result: Floats = drawn @ values / drawn.sum(axis=1)
    return result


def auroc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the chance that a positive row is scored above a negative one, a tie counting half; NaN without both."""
    order, ends = _ranking(scores)
    drawn = _drawn(weights)[:, order]
    hits, all_of = _sums(drawn * positive[order], ends), _sums(drawn, ends)
    misses = all_of - hits
    above = _before(hits) + _steps(hits) / 2  # positives scored above, those level with it counting half
    with np.errstate(invalid="ignore"):
        result: Floats = (above * _steps(misses)).sum(axis=1) / (hits[:, -1] * misses[:, -1])
    return result


def auprc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the average precision: the mean, over the positive rows, of the precision at their score."""
    order, ends = _ranking(scores)
    drawn = _drawn(weights)[:, order]
    hits, all_of = _sums(drawn * positive[order], ends), _sums(drawn, ends)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(all_of > 0, hits / all_of, 0.0)
        result: Floats = (precision * _steps(hits)).sum(axis=1) / hits[:, -1]
    return result


def brier(p: Floats, outcome: Floats, weights: Floats) -> Floats:
    """Return the mean squared difference between probability and outcome."""
    return mean((p - outcome) ** 2, weights)


def ece(p: Floats, outcome: Floats, weights: Floats, n_bins: int = N_BINS) -> Floats:
    """Return the expected calibration error: over bins of equal mass, the mean distance of probability and outcome."""
    drawn = _drawn(weights)
    total = np.zeros(len(drawn))
    bins = equal_mass_bins(p, n_bins)
    for k in range(int(bins.max()) + 1):
        total += np.abs(drawn[:, bins == k] @ (p - outcome)[bins == k])
    result: Floats = total / drawn.sum(axis=1)
    return result


def equal_mass_bins(p: Floats, n_bins: int = N_BINS) -> Ints:
    """Return the bin of each row; equal probabilities share one, so that bins may be fewer and unequal."""
    order, ends = _ranking(-p)
    middles = (np.concatenate([[0], ends[:-1] + 1]) + ends) / 2  # of the ranks of equal probabilities
    group = np.empty(len(p), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    binned = (middles[group] * n_bins / len(p)).astype(np.int64)
    bins: Ints = np.unique(binned, return_inverse=True)[1].astype(np.int64)
    return bins


@dataclass(frozen=True)
class RoutingCurve:
    """All that a score can do between always the weak arm and always the strong one.

    At each point the rows above one distinct score go to the strong arm; the first point is none of them, the last all.
    """

    scores: Floats  # (n_rows,)
    weak: Floats  # quality of each row
    strong: Floats
    weak_cost: Floats  # seconds, what is spent on the score included
    strong_cost: Floats
    reference_cost: Floats  # seconds of the strong arm where nothing is routed: what cost is a fraction of
    weights: Floats  # (n_draws, n_rows)

    @cached_property
    def share(self) -> Floats:
        """Share of the rows that go to the strong arm, (n_draws, n_points)."""
        return self._along(np.ones(len(self.scores))) / self._total

    @cached_property
    def quality(self) -> Floats:
        """Mean quality, (n_draws, n_points)."""
        return mean(self.weak, self.weights)[:, None] + self._along(self.strong - self.weak) / self._total

    @cached_property
    def cost(self) -> Floats:
        """Cost as a fraction of that of the strong arm where nothing is routed, (n_draws, n_points)."""
        spent = (
            mean(self.weak_cost, self.weights)[:, None] + self._along(self.strong_cost - self.weak_cost) / self._total
        )
        result: Floats = spent / mean(self.reference_cost, self.weights)[:, None]
        return result

    @cached_property
    def pgr(self) -> Floats:
        """Performance gap recovered: 0 is always weak, 1 always strong; NaN where the two are level."""
        low, high = self.quality[:, :1], self.quality[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Floats = np.where(high == low, np.nan, (self.quality - low) / (high - low))
        return result

    def apgr(self) -> Floats:
        """Return the mean of PGR over the share of calls to the strong arm, 0 to 1; of a random score it is 0.5."""
        areas = np.diff(self.share, axis=1) * (self.pgr[:, 1:] + self.pgr[:, :-1]) / 2
        result: Floats = areas.sum(axis=1)
        return result

    def apgr_ceiling(self) -> Floats:
        """Return the APGR of the best order there is: by what the strong arm truly gains."""
        return self._best.apgr()

    def cpt(self, level: float) -> Floats:
        """Return the least share of calls to the strong arm that recovers `level` of the gap: the first crossing."""
        return _first_crossing(self.share, self.pgr, np.full(len(self.pgr), level))

    def cost_reaching(self, part: float) -> Floats:
        """Return the least cost at which `part` of the quality of always-strong is reached: the first crossing."""
        return _first_crossing(self.cost, self.quality, part * self.quality[:, -1])

    def quality_at_cost(self, budget: float) -> Floats:
        """Return the quality at this cost as a part of that of always-strong; NaN where the score alone costs more, or
        always-strong is never right.
        """
        at = np.array([
            np.interp(budget, cost, quality, left=np.nan)
            for cost, quality in zip(np.maximum.accumulate(self.cost, axis=1), self.quality, strict=True)
        ])  # fmt: skip
        whole = self.quality[:, -1]
        result: Floats = at / np.where(whole > _NOTHING, whole, np.nan)
        return result

    def oracle_share(self, budget: float) -> Floats:
        """Return OR(b): how far the score comes from a random one (0) to the best order (1) at a share b of calls."""
        low, high = self.quality[:, 0], self.quality[:, -1]
        random = low + budget * (high - low)
        own, oracle = _at_share(self, budget), _at_share(self._best, budget)
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Floats = (own - random) / (oracle - random)
        return result

    @cached_property
    def _best(self) -> RoutingCurve:
        """The curve of the best order there is."""
        return replace(self, scores=self.strong - self.weak)

    @cached_property
    def _order(self) -> tuple[Ints, Ints]:
        return _ranking(self.scores)

    @cached_property
    def _total(self) -> Floats:
        result: Floats = _drawn(self.weights).sum(axis=1, keepdims=True)
        return result

    def _along(self, values: Floats) -> Floats:
        """Sum of `values` over the rows that go to the strong arm, at each point."""
        order, ends = self._order
        sums = _sums(_drawn(self.weights)[:, order] * values[order], ends)
        return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def apgr_expected(auroc: float, n01: float, n10: float) -> float:
    """Return the APGR of a score whose AUROC of "only the strong arm is right" is `auroc`, and that ranks tasks which
    only the weak arm solves as all others that the strong one does not win.

    APGR = (n01 C01 - n10 C10) / (n01 - n10), with C the mean place of a kind of task in the ranking, 1 the first.
    """
    first = n01 / 2 + (1 - n01) * auroc
    other = (0.5 - n01 * first) / (1 - n01)
    return (n01 * first - n10 * other) / (n01 - n10)


def upper_hull(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Return the non-decreasing concave hull of points: what mixing them can reach, by rising cost."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(zip(cost.tolist(), quality.tolist(), strict=True)):
        if hull and y <= hull[-1][1]:
            continue  # dearer, and no better
        if hull and x == hull[-1][0]:
            hull.pop()
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    points = np.array(hull)
    return points[:, 0], points[:, 1]


def aiq(cost: Floats, quality: Floats, low: float, high: float) -> float:
    """Return the average of the hull's quality over costs from `low` to `high`, the same for all that are compared.

    Below its cheapest point a policy has nothing to offer: 0; beyond its dearest the quality stays.
    """
    x, y = upper_hull(cost, quality)
    grid = np.unique(np.clip(np.concatenate([[low, high], x]), low, high))
    left, right = grid[:-1], grid[1:]
    reached = left >= x[0]
    area = (np.interp(left, x, y) + np.interp(right, x, y)) / 2 * (right - left)
    return float((area * reached).sum() / (high - low))


def ibc_lift(point: tuple[float, float], weak: tuple[float, float], strong: tuple[float, float]) -> float:
    """Return the incremental benefit per cost over mixing weak and strong at random; above 0 is better than mixing.

    Args:
        point: cost and quality, as of `weak` and `strong`.
    """
    if point[0] == weak[0] or strong[0] == weak[0] or strong[1] == weak[1]:
        return float("nan")
    mixed = (strong[1] - weak[1]) / (strong[0] - weak[0])
    return ((point[1] - weak[1]) / (point[0] - weak[0]) - mixed) / mixed


def pareto_distance(point: tuple[float, float], cost: Floats, quality: Floats) -> float:
    """Return how far a point lies below the best quality that any of the others reaches at its cost or less; 0 best."""
    affordable = quality[cost <= point[0]]
    return float(max(affordable.max() - point[1], 0.0)) if len(affordable) else 0.0


def holm(p_values: Floats) -> Floats:
    """Return p values corrected for having made all these comparisons (Holm's step-down)."""
    order = np.argsort(p_values, kind="stable")
    n = len(order)
    corrected = np.empty(n)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(n, 0, -1)), 1.0)
    return corrected


def _drawn(weights: Floats) -> Floats:
    return weights[None] if weights.ndim == 1 else weights


def _ranking(scores: Floats) -> tuple[Ints, Ints]:
    """Return the rows by falling score, and the place at which each distinct score ends."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return order, ends


def _sums(values: Floats, ends: Ints) -> Floats:
    result: Floats = np.cumsum(values, axis=1)[:, ends]
    return result


def _steps(sums: Floats) -> Floats:
    return np.diff(sums, prepend=0.0, axis=1)


def _before(sums: Floats) -> Floats:
    return sums - _steps(sums)


def _first_crossing(x: Floats, y: Floats, target: Floats) -> Floats:
    """Return for each draw the first x at which y, straight between its points, reaches the target; NaN: nowhere."""
    reached = y >= target[:, None] - _NOTHING
    place = reached.argmax(axis=1)
    rows, before = np.arange(len(x)), np.maximum(place - 1, 0)
    rise = y[rows, place] - y[rows, before]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(rise > 0, (target - y[rows, before]) / rise, 1.0)
    crossing = x[rows, before] + np.clip(part, 0.0, 1.0) * (x[rows, place] - x[rows, before])
    result: Floats = np.where(reached.any(axis=1), np.where(place == 0, x[:, 0], crossing), np.nan)
    return result


def _at_share(curve: RoutingCurve, budget: float) -> Floats:
    return np.array([np.interp(budget, x, y) for x, y in zip(curve.share, curve.quality, strict=True)])


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])
