"""The promotion gate: whether a candidate may take the incumbent's place, each condition with its numbers.

All conditions must hold. The first, that the candidate is worth more, is bounded at every moment at once and spends
alpha over all attempts, so that a worse policy is ever promoted with probability alpha at most, as long as tasks and
outcomes come from where they came before. The others can only keep a candidate back; their bounds are of one look.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from policies.confidence_sequence import alpha_at, best_excursion, lower_bound, tamed
from policies.off_policy import (
    Estimate,
    LoggedRows,
    doubly_robust,
    fitted_on,
    pseudo_outcomes,
    snips_difference,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


_ONE_LOOK = ("accuracy_lower", "worst_family", "above_shuffled", "above_one_arm")  # whose bounds assume many rows


@dataclass(frozen=True, slots=True)
class GateRules:
    """What is asked of a candidate."""

    price: float = 0.1  # of one mean cost of `ttt`, in quality
    alpha: float = 0.05  # chance of ever promoting a worse policy, for the life of the ledger
    level: float = 0.05  # one-sided, of every bound that is not of the utility
    most_cost: float = 3.0  # a cost above this counts as this
    accuracy_margin: float = 0.01  # that accuracy may be lost by
    family_margin: float = 0.03
    family_rows: int = 50  # of a family, from which on it is looked at alone
    brier_margin: float = 0.005
    disagreement: float = 2.0  # standard errors between the two estimators
    sunk: str = "icl"  # arm that has always run
    helper: str = "ttt"  # arm whose help over it the candidate predicts


@dataclass(frozen=True, slots=True)
class Sides:
    """A block of logged rows, and what candidate and incumbent would have done there."""

    rows: LoggedRows
    candidate: Floats  # (n, n_arms), probabilities
    incumbent: Floats
    candidate_helps: Floats | None = None  # (n,), P(helper right where sunk is wrong); None: it predicts nothing
    incumbent_helps: Floats | None = None

    @property
    def difference(self) -> Floats:
        return self.candidate - self.incumbent


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the gate."""

    name: str
    holds: bool | None  # None: more rows may tell
    value: float
    limit: float
    said: str


class Outcome(StrEnum):
    """What the gate says."""

    PROMOTE = "promote"
    REFUSE = "refuse"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says, and why."""

    outcome: Outcome
    attempt: int
    n_rows: int
    conditions: tuple[Condition, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """What stands in the way, or all that speaks for it where nothing does."""
        against = tuple(each.said for each in self.conditions if each.holds is not True)
        return against or tuple(each.said for each in self.conditions)

    def numbers(self) -> dict[str, float]:
        """Return the finite number of every condition by its name, with the attempt and the rows."""
        found = {each.name: each.value for each in self.conditions if math.isfinite(each.value)}
        return {**found, "attempt": float(self.attempt), "n_rows": float(self.n_rows)}

    def as_json(self) -> str:
        """Return everything, as the ledger keeps it; numbers that are not finite as null."""
        conditions = [
            {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in each}
            for each in (asdict(condition).items() for condition in self.conditions)
        ]
        told = {"outcome": self.outcome, "attempt": self.attempt, "n_rows": self.n_rows, "conditions": conditions}
        return json.dumps(told, allow_nan=False)


@dataclass(frozen=True, slots=True)
class UtilityBounds:
    """Bounds on what the candidate is worth more than the incumbent, per task; they hold at every moment."""

    estimate: Estimate
    lower: float
    upper: float


def judge(
    earlier: Sides, newest: Sides, *, attempt: int, rules: GateRules | None = None, unfit: str | None = None
) -> Verdict:
    """Say whether the candidate may be promoted.

    Args:
        earlier: what the candidate may have been fitted on; outcome model and bound are set up on it.
        newest: rows that came after it; the verdict rests on these alone.
        attempt: how many candidates this ledger has judged, this one included.
        unfit: why the candidate's file cannot be used (another schema, other decisions once it was saved), if so.
    """
    rules = rules or GateRules()
    if unfit is not None:
        return Verdict(Outcome.REFUSE, attempt, len(newest.rows), (Condition("file", False, 0.0, 1.0, unfit),))
    if not len(newest.rows):
        return Verdict(Outcome.UNDECIDED, attempt, 0, (Condition("rows", None, 0.0, 1.0, "no rows yet"),))
    qualities = _predicted(earlier, newest)
    bounds = utility_bounds(earlier, newest, alpha=alpha_at(attempt, rules.alpha), rules=rules, qualities=qualities)
    conditions = (
        _worth_more(bounds),
        _evaluable(newest),
        _rests_on_enough(bounds.estimate),
        _estimators_agree(newest, bounds.estimate, rules),
        _accuracy(newest, qualities, rules),
        _families(newest, qualities, rules),
        *_predicts_help(earlier, newest, rules),
        _above_shuffled(newest, qualities, rules),
        _above_one_arm(newest, qualities, rules),
    )
    if bounds.estimate.refusal is not None:
        conditions = tuple(_not_yet(each) for each in conditions)
    if any(each.holds is False for each in conditions):
        outcome = Outcome.REFUSE
    else:
        outcome = Outcome.PROMOTE if all(each.holds for each in conditions) else Outcome.UNDECIDED
    return Verdict(outcome, attempt, len(newest.rows), conditions)


def utility_bounds(
    earlier: Sides, newest: Sides, *, alpha: float, rules: GateRules, qualities: Floats | None = None
) -> UtilityBounds:
    """Bound the difference in utility, per task: doubly robust, by betting, each side at `alpha` for all time.

    Args:
        qualities: predicted from the earlier rows, (n, n_arms); made here where they are not given.
    """
    if qualities is None:
        qualities = _predicted(earlier, newest)
    low, high = -rules.price * rules.most_cost, 1.0
    predicted = _priced(qualities, newest.rows, rules)
    values = newest.rows.utility(rules.price, most_cost=rules.most_cost)
    before = earlier.rows.utility(rules.price, most_cost=rules.most_cost)
    expected = _priced(_predicted(earlier, earlier), earlier.rows, rules)

    def lower(sign: float) -> float:
        excursion = best_excursion(earlier.rows, sign * earlier.difference, before, expected, low=low, high=high)
        target = sign * newest.difference
        kept = tamed(newest.rows, target, predicted, low=low, high=high, excursion=excursion)
        outcomes = pseudo_outcomes(newest.rows, target, values, kept)
        return lower_bound(outcomes, alpha, at_least=low - high - excursion)

    estimate = doubly_robust(newest.rows, newest.difference, values, predicted, weighed=newest.candidate)
    return UtilityBounds(estimate, lower(1.0), -lower(-1.0))


def _predicted(earlier: Sides, newest: Sides) -> Floats:
    if not len(earlier.rows):
        return np.zeros(newest.candidate.shape)
    return fitted_on(earlier.rows, earlier.rows.quality)(newest.rows.features)


def _priced(qualities: Floats, rows: LoggedRows, rules: GateRules) -> Floats:
    return qualities - rules.price * np.clip(rows.cost, 0.0, rules.most_cost)


def _not_yet(condition: Condition) -> Condition:
    """Return the condition, undecided where a bound of one look, made for many rows, would refuse on a few."""
    by_one_look = condition.holds is False and condition.name in _ONE_LOOK
    return replace(condition, holds=None) if by_one_look else condition


def _worth_more(bounds: UtilityBounds) -> Condition:
    holds = True if bounds.lower > 0 else False if bounds.upper < 0 else None
    said = (
        f"utility {bounds.estimate.value:+.4f} a task, between {bounds.lower:+.4f} and {bounds.upper:+.4f} at any time"
    )
    return Condition("utility_lower", holds, bounds.lower, 0.0, said)


def _evaluable(newest: Sides) -> Condition:
    blind = (np.abs(newest.difference) > 1e-9) & (newest.rows.known_p <= 0)
    share = float(blind.any(axis=1).mean())
    said = f"{share:.1%} of rows on which the two differ in an arm that could never have been drawn"
    return Condition("blind_share", True if share == 0 else None, share, 0.0, said)


def _rests_on_enough(estimate: Estimate) -> Condition:
    said = estimate.refusal or f"effective sample size {estimate.effective_n:.0f} of {estimate.n} rows"
    return Condition("effective_rows", None if estimate.refusal else True, estimate.effective_n, 100.0, said)


def _estimators_agree(newest: Sides, estimate: Estimate, rules: GateRules) -> Condition:
    values = newest.rows.utility(rules.price, most_cost=rules.most_cost)
    check = snips_difference(newest.rows, newest.candidate, newest.incumbent, values)
    error = math.hypot(check.std_error, estimate.std_error)
    apart = abs(check.value - estimate.value) / error if error > 0 else 0.0
    said = f"doubly robust {estimate.value:+.4f} and self-normalised {check.value:+.4f} are {apart:.1f} errors apart"
    return Condition("estimators_apart", True if apart <= rules.disagreement else None, apart, rules.disagreement, said)


def _accuracy(newest: Sides, qualities: Floats, rules: GateRules) -> Condition:
    found = doubly_robust(newest.rows, newest.difference, newest.rows.quality, qualities)
    lower, upper = found.lower(rules.level), found.upper(rules.level)
    holds = True if lower > -rules.accuracy_margin else False if upper < -rules.accuracy_margin else None
    said = f"accuracy {found.value:+.4f}, at least {lower:+.4f}, where -{rules.accuracy_margin} is allowed"
    return Condition("accuracy_lower", holds, lower, -rules.accuracy_margin, said)


def _families(newest: Sides, qualities: Floats, rules: GateRules) -> Condition:
    """Refuse what is shown to harm a family by more than the margin, after Holm.

    The reverse, showing that it harms none, would take some two thousand rows of every family.
    """
    outcomes = pseudo_outcomes(newest.rows, newest.difference, newest.rows.quality, qualities)
    counts = Counter(newest.rows.families)
    families = np.array(newest.rows.families)
    found = []
    for family in sorted(name for name, n in counts.items() if n >= rules.family_rows):
        its = outcomes[families == family]
        error = max(float(its.std(ddof=1)) / math.sqrt(len(its)), 1e-12)
        found.append((NormalDist().cdf((float(its.mean()) + rules.family_margin) / error), float(its.mean()), family))
    if not found:
        return Condition("worst_family", True, 0.0, -rules.family_margin, "no family is large enough to look at alone")
    p, mean, family = min(found)  # Holm's first step: where it rejects nothing, nothing is rejected
    harmed = p < rules.level / len(found)
    said = f"worst of {len(found)} families: {family}, accuracy {mean:+.3f}"
    return Condition("worst_family", not harmed, mean, -rules.family_margin, said)


def _predicts_help(earlier: Sides, newest: Sides, rules: GateRules) -> tuple[Condition, ...]:
    """Ask whether what the candidate predicts of the helper's help is as good as before, and better than chance."""
    if newest.candidate_helps is None:
        return ()
    labels, weights, where = _helped(newest.rows, rules)
    rate = _rate(earlier.rows, rules)
    if not labels.size or labels.min() == labels.max():
        return (Condition("auroc_lower", None, math.nan, 0.5, "no rows that tell whether training helps"),)
    scores = newest.candidate_helps[where]
    before = np.full(len(scores), rate) if newest.incumbent_helps is None else newest.incumbent_helps[where]
    ours, theirs = (float(np.average((p - labels) ** 2, weights=weights)) for p in (scores, before))
    margin = rules.brier_margin
    brier = Condition(
        "brier_worse_by",
        True if ours - theirs <= margin else None,
        ours - theirs,
        margin,
        f"Brier score {ours:.4f} of 'training helps', {theirs:.4f} before",
    )
    area, error = weighted_auroc(labels, scores, weights)
    lower = area - NormalDist().inv_cdf(1 - rules.level) * error
    said = f"AUROC {area:.3f} of 'training helps', at least {lower:.3f}"
    return brier, Condition("auroc_lower", True if lower > 0.5 else None, lower, 0.5, said)


def _helped(rows: LoggedRows, rules: GateRules) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return whether the helper was better, the rows' weights, and which rows those are: both outcomes are known."""
    sunk, helper = rows.arms.index(rules.sunk), rows.arms.index(rules.helper)
    both = ~np.isnan(rows.quality[:, sunk]) & ~np.isnan(rows.quality[:, helper]) & (rows.known_p[:, sunk] >= 1.0)
    both &= rows.known_p[:, helper] > 0
    better = rows.quality[both, helper] > rows.quality[both, sunk]
    return better.astype(float), 1.0 / rows.known_p[both, helper], both


def _rate(rows: LoggedRows, rules: GateRules) -> float:
    labels, weights, _ = _helped(rows, rules)
    return float(np.average(labels, weights=weights)) if labels.size else 0.5


def weighted_auroc(labels: Floats, scores: Floats, weights: Floats) -> tuple[float, float]:
    """Return the area under the ROC curve, ties counted half, and its standard error (Hanley & McNeil 1982) at the
    effective numbers of either class.
    """
    order = np.argsort(scores, kind="stable")
    labels, scores, weights = labels[order], scores[order], weights[order]
    _, group = np.unique(scores, return_inverse=True)
    positive, negative = np.bincount(group, weights * labels), np.bincount(group, weights * (1 - labels))
    below = np.cumsum(negative) - negative
    area = float(np.sum(positive * (below + negative / 2)) / (positive.sum() * negative.sum()))
    n_pos, n_neg = (float(part.sum() ** 2 / np.sum(part**2)) for part in (weights * labels, weights * (1 - labels)))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n_pos - 1) * (q1 - area**2) + (n_neg - 1) * (q2 - area**2)) / (n_pos * n_neg)
    return area, math.sqrt(max(variance, 0.0))


def _above_shuffled(newest: Sides, qualities: Floats, rules: GateRules) -> Condition:
    """Compare with the candidate's own decisions dealt out to other tasks, at the same cost in the mean."""
    shuffled = np.broadcast_to(newest.candidate.mean(axis=0), newest.candidate.shape)
    found = _over(newest, shuffled, qualities, rules)
    lower, upper = found.lower(rules.level), found.upper(rules.level)
    holds = True if lower > 0 else False if upper < 0 else None
    said = f"utility {found.value:+.4f} over its own decisions shuffled, at least {lower:+.4f}"
    return Condition("above_shuffled", holds, lower, 0.0, said)


def _above_one_arm(newest: Sides, qualities: Floats, rules: GateRules) -> Condition:
    """Compare with the arm that the incumbent takes most: in the estimate, for a bound would ask for skill twice."""
    favourite = int(newest.incumbent.mean(axis=0).argmax())
    one = np.zeros_like(newest.candidate)
    one[:, favourite] = 1.0
    found = _over(newest, one, qualities, rules)
    holds = True if found.value > 0 else False if found.upper(rules.level) < 0 else None
    said = f"utility {found.value:+.4f} over always {newest.rows.arms[favourite]}"
    return Condition("above_one_arm", holds, found.value, 0.0, said)


def _over(newest: Sides, other: Floats, qualities: Floats, rules: GateRules) -> Estimate:
    values = newest.rows.utility(rules.price, most_cost=rules.most_cost)
    return doubly_robust(newest.rows, newest.candidate - other, values, _priced(qualities, newest.rows, rules))
