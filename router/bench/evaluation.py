"""All figures of a report: what there is to route, how well each contender ranks, what its choices are worth, and what
it beats. Every figure of one report is drawn on the same tasks, so that any two can be compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from policies.outcome_matrix import OutcomeMatrix
from policies.outcome_splits import task_groups
from router.bench import metrics
from router.bench.bootstrap import Interval, Resampling, interval, p_value
from router.bench.contenders import STRONG, WEAK, unit_of
from router.bench.metrics import RoutingCurve
from router.bench.replay import Judged

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Draws = dict[str, Floats]

PRICE = 0.1  # at which choices are compared
LEVELS = (0.5, 0.8, 0.9)  # of CPT
BUDGETS = (0.1, 0.25, 0.5, 0.75)  # of A@x
PARTS = (0.95, 0.98)  # of C@x
ORACLE_BUDGET = 0.4
ALPHA = 0.05  # of all comparisons together
SHUFFLED = "own choices, shuffled"


@dataclass(frozen=True, slots=True)
class Compared:
    """The subject against one other contender, paired."""

    other: str
    apgr: Interval | None  # subject minus other; None: the other ranks nothing
    utility: Interval  # subject minus other, at PRICE
    apgr_p: float | None  # corrected for all comparisons of both figures with all others, oracles left out (Holm)
    utility_p: float | None  # the same; None: the other is an oracle

    @property
    def is_beaten(self) -> bool:
        """Whether the subject is above it in one of the two, all comparisons considered, and below it in neither."""
        found = [(self.apgr, self.apgr_p), (self.utility, self.utility_p)]
        above = any(each is not None and p is not None and each.value > 0 and p < ALPHA for each, p in found)
        return above and not any(each is not None and each.high < 0 for each, _ in found)


def set_figures(matrix: OutcomeMatrix, n_draws: int) -> dict[str, dict[str, Interval]]:
    """Return for each set, and for all, n01 and n10 and the quality and cost of every arm."""
    found = {}
    for name in (*sorted(set(matrix.sets)), "all"):
        rows = np.flatnonzero(np.array(matrix.sets) == name) if name != "all" else np.arange(len(matrix))
        part = matrix.take(rows)
        weak, strong = part.quality[:, part.column(WEAK)], part.quality[:, part.column(STRONG)]
        columns = {"n01": np.maximum(strong - weak, 0.0), "n10": np.maximum(weak - strong, 0.0)}
        for i, arm in enumerate(part.arms):
            columns |= {f"quality {arm}": part.quality[:, i], f"cost {arm}": part.cost_s[:, i]}
        columns["cost of features"] = part.feature_cost_s
        drawn = mean_draws(columns, Resampling.of(task_groups(part), n_draws=n_draws))
        found[name] = {key: interval(draws) for key, draws in drawn.items()}
    return found


def feature_aurocs(matrix: OutcomeMatrix, resampling: Resampling) -> dict[str, Interval]:
    """Return the AUROC of "only `ttt` solves it" of every single feature, the farthest from chance first.

    Below 0.5 less of the feature speaks for training. A value that is not known counts as the middle one.
    """
    positive = only_strong(matrix)
    found = {}
    for name in matrix.feature_names:
        values = matrix.feature(name)
        if np.isnan(values).all():
            continue
        known = np.where(np.isnan(values), np.nanmedian(values), values)
        if (known != known[0]).any():
            found[name] = interval(resampling.draws(partial(_auroc, known, positive))["AUROC"])
    return dict(sorted(found.items(), key=lambda item: -abs(item[1].value - 0.5)))


def ranking_draws(judged: Judged, matrix: OutcomeMatrix, resampling: Resampling) -> Draws:
    """Return every metric of a score with its draws; none for a contender that ranks nothing."""
    if judged.scores is None:
        return {}
    positive, scores, p = only_strong(matrix), judged.scores, judged.p_strong_only

    def of(weights: Floats) -> Draws:
        curve = curve_of(judged, matrix, weights)
        found = {
            "AUROC": metrics.auroc(scores, positive, weights),
            "AUPRC": metrics.auprc(scores, positive, weights),
            "APGR": curve.apgr(),
            "APGR ceiling": curve.apgr_ceiling(),
            f"OR({ORACLE_BUDGET})": curve.oracle_share(ORACLE_BUDGET),
        }
        found["APGR / ceiling"] = found["APGR"] / found["APGR ceiling"]
        found |= {f"CPT({level:.0%})": curve.cpt(level) for level in LEVELS}
        found |= {f"A@{budget:.0%}": curve.quality_at_cost(budget) for budget in BUDGETS}
        found |= {f"C@{part:.0%}": curve.cost_reaching(part) for part in PARTS}
        if p is not None:
            found["Brier"] = metrics.brier(p, positive.astype(np.float64), weights)
            found["ECE"] = metrics.ece(p, positive.astype(np.float64), weights)
        return found

    return resampling.draws(of)


def choice_draws(judged: Sequence[Judged], matrix: OutcomeMatrix, resampling: Resampling) -> dict[str, Draws]:
    """Return for each contender, at each price it was asked at: quality, cost, utility, regret of the best arm of each
    task (whoever knows it looks at no feature), and how far its quality and utility lie above those of a shuffle of its
    choices.
    """
    unit = unit_of(matrix)
    columns: dict[str, Floats] = {}
    for each in judged:
        for price, choices in each.choices.items():
            quality, cost = each.mean_quality(matrix, price), each.mean_cost_s(price) / unit
            best = (matrix.quality - price * matrix.cost_s / unit).max(axis=1)
            shares = choices.mean(axis=0)  # as often each arm, whatever the task
            over_shuffle, dearer = quality - matrix.quality @ shares, cost - each.cost_s @ shares / unit
            columns |= {
                f"{each.name}|quality@{price:g}": quality,
                f"{each.name}|cost@{price:g}": cost,
                f"{each.name}|utility@{price:g}": quality - price * cost,
                f"{each.name}|regret@{price:g}": best - quality + price * cost,
                f"{each.name}|over shuffle@{price:g}": over_shuffle,
                f"{each.name}|utility over shuffle@{price:g}": over_shuffle - price * dearer,
            }
    drawn = mean_draws(columns, resampling)
    found: dict[str, Draws] = {each.name: {} for each in judged}
    for key, draws in drawn.items():
        name, _, figure = key.partition("|")
        found[name][figure] = draws
    return found


def comparisons(
    subject: str, rankings: Mapping[str, Draws], choices: Mapping[str, Draws], *, oracles: Collection[str] = ()
) -> list[Compared]:
    """Compare the subject with every other contender, and with the shuffle of its own choices, on the same draws.

    Args:
        oracles: contenders that are compared with and not tested against.
    """
    key = f"utility@{PRICE:g}"
    others = [name for name in choices if name != subject]
    utility = {name: choices[subject][key] - choices[name][key] for name in others}
    utility[SHUFFLED] = choices[subject][f"utility over shuffle@{PRICE:g}"]
    apgr = {name: rankings[subject]["APGR"] - rankings[name]["APGR"] for name in others if rankings.get(name)}
    apgr[SHUFFLED] = rankings[subject]["APGR"] - 0.5
    raw = {
        (figure, name): p_value(draws)
        for figure, differences in (("APGR", apgr), ("utility", utility))
        for name, draws in differences.items()
        if name not in oracles
    }
    p = dict(zip(raw, metrics.holm(np.array(list(raw.values()))).tolist(), strict=True))
    return [
        Compared(
            name,
            interval(apgr[name]) if name in apgr else None,
            interval(draws),
            p.get(("APGR", name)),
            p.get(("utility", name)),
        )
        for name, draws in utility.items()
    ]


def curve_of(judged: Judged, matrix: OutcomeMatrix, weights: Floats | None = None) -> RoutingCurve:
    """Return the curve of a contender's scores; one draw, every row once, where no weights are given."""
    assert judged.scores is not None  # asked of those that rank
    weak, strong = matrix.column(WEAK), matrix.column(STRONG)
    return RoutingCurve(
        judged.scores,
        matrix.quality[:, weak],
        matrix.quality[:, strong],
        judged.cost_s[:, weak],
        judged.cost_s[:, strong],
        matrix.cost_s[:, strong],
        np.ones((1, len(matrix))) if weights is None else weights,
    )


def _auroc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Draws:
    return {"AUROC": metrics.auroc(scores, positive, weights)}


def only_strong(matrix: OutcomeMatrix) -> npt.NDArray[np.bool_]:
    """Return where `ttt` answers better than `icl`."""
    better: npt.NDArray[np.bool_] = matrix.quality[:, matrix.column(STRONG)] > matrix.quality[:, matrix.column(WEAK)]
    return better


def gain_by_family(matrix: OutcomeMatrix) -> dict[str, tuple[float, int]]:
    """Return the mean gain of `ttt` over `icl` in each family and how many tasks it has, the largest gain first."""
    gain = matrix.quality[:, matrix.column(STRONG)] - matrix.quality[:, matrix.column(WEAK)]
    names = np.array([f"{name}: {family}" for name, family in zip(matrix.sets, matrix.families, strict=True)])
    tasks = np.array(matrix.tasks)
    found = {
        name: (float(gain[names == name].mean()), len(set(tasks[names == name])))
        for name in sorted(set(names.tolist()))
    }
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def mean_draws(columns: Mapping[str, Floats], resampling: Resampling) -> Draws:
    """Return the mean of each column over every draw of tasks, all at once."""
    values = np.stack(list(columns.values()), axis=1)

    def of(weights: Floats) -> Draws:
        means = weights @ values / weights.sum(axis=1, keepdims=True)
        return dict(zip(columns, means.T, strict=True))

    return resampling.draws(of)
