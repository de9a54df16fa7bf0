"""What the page of the policies shows: aliases, versions, their history, and how decisions have turned out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from policies.policy_versions import ALIASES, PolicyVersions
from policies.records import Alias, PolicyVersion
from router.ui import charts
from router.ui.listing import Decided, Event

_BINS = 10
_WINDOWS = 24
_APART = 0.08  # of the largest cost, between two points that are both named
_PRICES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Bin:
    """Decisions with about the same expected quality."""

    expected: float  # mean
    observed: float  # mean outcome
    n: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What one policy's decisions for one arm cost and gave."""

    policy: str
    arm: str
    n: int
    seconds: float  # mean
    quality: float | None  # mean outcome; None: nothing is known
    n_known: int


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing watched over windows in the order of record."""

    name: str
    first: str
    last: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class AtPrice:
    """What the decisions that were looked at would have come to at one price, by the policies' own estimates."""

    price: float
    trained: float  # share
    quality: float  # expected, mean
    cost: float  # mean, beyond the answers in context


@dataclass(frozen=True, slots=True)
class PolicyPanels:
    """Everything on the page of the policies."""

    n_decisions: int
    aliases: tuple[Alias, ...]
    versions: tuple[PolicyVersion, ...]
    history: tuple[Event, ...]
    reliability: tuple[Bin, ...]
    reliability_drawing: Markup | None
    spent: tuple[Spent, ...]
    frontier: Markup | None
    sweep: tuple[AtPrice, ...]
    sweep_drawing: Markup | None
    drift: tuple[Drift, ...]


def policy_panels(versions: PolicyVersions, history: tuple[Event, ...], decided: Sequence[Decided]) -> PolicyPanels:
    """Make the panels from what the ledger holds.

    Args:
        decided: oldest first.
    """
    bins, spent, sweep = _reliability(decided), _spent(decided), _sweep(decided)
    return PolicyPanels(
        n_decisions=len(decided),
        aliases=tuple(versions.alias(name) for name in ALIASES),
        versions=tuple(reversed(versions.all())),
        history=history,
        reliability=bins,
        reliability_drawing=_reliability_drawing(bins) if bins else None,
        spent=spent,
        frontier=_frontier(spent),
        sweep=sweep,
        sweep_drawing=_sweep_drawing(sweep) if sweep else None,
        drift=_drift(decided),
    )


def _reliability(decided: Sequence[Decided]) -> tuple[Bin, ...]:
    binned: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in decided:
        if row.expected is not None and row.outcome is not None:
            binned[min(_BINS - 1, max(0, int(row.expected * _BINS)))].append((row.expected, row.outcome))
    return tuple(
        Bin(sum(x for x, _ in pairs) / len(pairs), sum(y for _, y in pairs) / len(pairs), len(pairs))
        for _, pairs in sorted(binned.items())
    )


def _reliability_drawing(bins: Sequence[Bin]) -> Markup:
    points = [charts.Point(f"n = {each.n}", each.expected, each.observed, True) for each in bins]
    name = "Reliability: observed against expected quality, ten bins"
    return charts.scatter(points, "expected quality", "observed quality", name, diagonal=True)


def _spent(decided: Sequence[Decided]) -> tuple[Spent, ...]:
    groups: dict[tuple[str, str], list[Decided]] = defaultdict(list)
    for row in decided:
        groups[row.policy, row.arm].append(row)
    rows = []
    for (policy, arm), members in sorted(groups.items()):
        known = [row.outcome for row in members if row.outcome is not None]
        quality = sum(known) / len(known) if known else None
        seconds = sum(row.seconds for row in members) / len(members)
        rows.append(Spent(policy, arm, len(members), seconds, quality, len(known)))
    return tuple(rows)


def _frontier(spent: Sequence[Spent]) -> Markup | None:
    points = [
        charts.Point(f"{each.arm}", each.seconds, each.quality, each.arm == "ttt")
        for each in spent
        if each.quality is not None
    ]
    name = "Mean quality against mean seconds, each policy and arm"
    return charts.scatter(points, "mean seconds", "mean quality", name) if points else None


def _sweep(decided: Sequence[Decided]) -> tuple[AtPrice, ...]:
    weighed = [row.arms for row in decided if row.arms and all(math.isfinite(value.cost) for value in row.arms)]
    if not weighed:
        return ()
    found = []
    for price in _PRICES:
        best = [max(values, key=lambda value: (value.quality - price * value.cost, -value.cost)) for values in weighed]
        n = len(best)
        trained = sum(value.arm.startswith("ttt") for value in best) / n
        found.append(
            AtPrice(price, trained, sum(value.quality for value in best) / n, sum(value.cost for value in best) / n)
        )
    return tuple(found)


def _sweep_drawing(sweep: Sequence[AtPrice]) -> Markup:
    points: list[charts.Point] = []
    apart, named = _APART * max(each.cost for each in sweep), -math.inf
    for each in reversed(sweep):  # from the dearest price on, costs rise; what lies close together shares a name
        name = f"{each.price:g}" if each.cost - named > apart else ""
        named = each.cost if name else named
        points.append(charts.Point(name, each.cost, each.quality, True))
    return charts.scatter(points, "mean cost", "expected quality", "Expected quality against mean cost, at each price")


def _drift(decided: Sequence[Decided]) -> tuple[Drift, ...]:
    if len(decided) < 2:
        return ()
    n = min(_WINDOWS, len(decided))
    windows = [decided[len(decided) * i // n : len(decided) * (i + 1) // n] for i in range(n)]
    trained = [_mean([float(row.arm.startswith("ttt")) for row in window]) for window in windows]
    difficulty = [_mean([row.difficulty for row in window]) for window in windows]
    outcome = [_mean([row.outcome for row in window if row.outcome is not None]) for window in windows]
    degraded = [_mean([float(row.degraded) for row in window]) for window in windows]
    watched = (
        ("share of trained answers", trained),
        ("mean difficulty", difficulty),
        ("mean outcome, where known", outcome),
        ("share degraded", degraded),
    )
    return tuple(
        Drift(name, _share(values[0]), _share(values[-1]), charts.strip(values, f"{name} over {n} windows"))
        for name, values in watched
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"
