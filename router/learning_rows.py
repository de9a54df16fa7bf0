"""What the ledger's rows teach: decisions and their outcomes as rows to fit on and to judge policies by.

Unknown never counts as wrong. Left out are decisions that nobody drew (probability 1: forced, or no exploration; but
not those under a bound, which asks for training), those made for another base model or under other features, and what
a source says beyond its share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from icl_engine.loaders import task_kind
from policies.errors import UnknownTrace
from policies.feature_values import NamedFeatures, feature_row
from policies.feedback_sources import contradicting, within_share
from policies.labels import LabelRule
from policies.off_policy import LoggedRows, known_probability
from policies.outcome_matrix import OutcomeMatrix
from policies.records import DecisionRow

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.ledger import Ledger

    Floats = npt.NDArray[np.float64]

GIVEN = "exact"  # kind of an outcome that judges the answer given
AUDIT_RATE = "audit:rate"  # kind under which the probability of an audit is kept
SUNK, AUDITED = "icl", "ttt"
_MOST_WEIGHT = 20.0


def known_as(arm: str) -> str:
    """Return the kind of an outcome that judges an arm's answer and would be there whichever arm was drawn."""
    return f"{GIVEN}:{arm}"


def implied_as(arm: str) -> str:
    """Return the kind of an outcome that follows from what was said of another arm's answer: to fit on, not to judge
    by, because whether it follows depends on what was said.
    """
    return f"implied:{arm}"


@dataclass(frozen=True, slots=True)
class RowRules:
    """Which rows count."""

    arms: tuple[str, ...] = ("icl", "icl_vote", "ttt")
    window_s: float = 30 * 24 * 3600.0  # what is reported later than this after the decision is not used
    trusted: tuple[str, ...] = ("solution", "audit")  # sources without a cap; the most trusted first
    source_share: float = 0.1  # of all rows, that another source may count for


@dataclass(frozen=True, slots=True)
class Experience:
    """Decisions whose outcomes are known, in the order of record."""

    seqs: npt.NDArray[np.int64]  # (n,), of the ledger
    created_at: tuple[str, ...]
    decided_by: tuple[str, ...]  # policy, name@version
    features: tuple[NamedFeatures, ...]
    taken: npt.NDArray[np.int64]  # (n,), column of the arm drawn
    offered: npt.NDArray[np.bool_]  # (n, n_arms)
    rows: LoggedRows  # what policies are judged by
    implied: Floats  # (n,), quality of `icl` where it follows from what was said of another arm; NaN elsewhere
    fingerprints: tuple[str, ...] = field(repr=False)  # of the tasks
    unit_s: float  # seconds that a cost of 1 in `rows` stands for: what `ttt` took on average

    def __len__(self) -> int:
        return len(self.seqs)

    def take(self, which: npt.NDArray[np.bool_]) -> Experience:
        """Return some of it, by a mask."""
        picked = np.flatnonzero(which)
        return Experience(
            seqs=self.seqs[picked],
            created_at=tuple(self.created_at[i] for i in picked),
            decided_by=tuple(self.decided_by[i] for i in picked),
            features=tuple(self.features[i] for i in picked),
            taken=self.taken[picked],
            offered=self.offered[picked],
            rows=self.rows.take(picked),
            implied=self.implied[picked],
            fingerprints=tuple(self.fingerprints[i] for i in picked),
            unit_s=self.unit_s,
        )

    def matrix(self) -> tuple[OutcomeMatrix, Floats]:
        """Return it as an outcome matrix to fit on, with the weight of every outcome, (n, n_arms), 0 where unknown."""
        rows, n = self.rows, len(self)
        sunk = rows.arms.index(SUNK)
        quality = rows.quality.copy()
        follows = np.isnan(quality[:, sunk])
        quality[follows, sunk] = self.implied[follows]
        weights = np.clip(1.0 / np.maximum(rows.known_p, 1.0 / _MOST_WEIGHT), 1.0, _MOST_WEIGHT)
        matrix = OutcomeMatrix(
            tasks=self.fingerprints,
            families=rows.families,
            sets=("ledger",) * n,
            seeds=tuple(int(seq) for seq in self.seqs),
            arms=rows.arms,
            quality=quality,
            cost_s=np.where(np.isnan(quality), np.nan, rows.cost * self.unit_s),
            feature_names=rows.feature_names,
            features=rows.features,
            feature_cost_s=np.zeros(n),
        )
        return matrix, np.where(np.isnan(quality), 0.0, weights)


def read_experience(
    ledger: Ledger,
    rules: RowRules,
    *,
    model_fingerprint: str | None,
    schema: str,
    since: str = "",
    seen: dict[str, bool] | None = None,
) -> Experience:
    """Read what has been decided and reported.

    Args:
        model_fingerprint: of the base model in use; decisions made for another do not count. None: all count.
        schema: hash of the features in use; decisions made with others do not count.
        since: time (UTC, ISO 8601) before which nothing counts.
        seen: keeps from one reading to the next which decisions were made for the model: their traces are long.
    """
    said, seen = _said(ledger, rules), {} if seen is None else seen

    def fits(decision_id: str) -> bool:
        if model_fingerprint is not None and decision_id not in seen:
            try:
                document = ledger.trace(decision_id).document
            except UnknownTrace:  # not written yet, or pruned: nobody can say for which model it was
                return False
            seen[decision_id] = made_for(document, model_fingerprint)
        return seen.get(decision_id, True)

    kept = [
        (seq, row)
        for seq, row in _decisions(ledger)
        if row.features_schema == schema
        and _was_drawn(row)
        and row.arm in rules.arms
        and (row.created_at or "") >= since
        and any(seq in of_kind for kind, of_kind in said.items() if kind != AUDIT_RATE)
        and fits(row.decision_id)
    ]
    found = _experience(kept, said, rules)
    return found.take(_counted(kept, said, found, rules)) if kept else found


def made_for(document: str, model_fingerprint: str) -> bool:
    """Tell whether a trace was made with a model, without parsing all of it."""
    return f'"model_fingerprint":{json.dumps(model_fingerprint)}' in document


def _was_drawn(row: DecisionRow) -> bool:
    """Tell what a policy drew from what somebody forced, or left no chance to; under a bound that is not shown yet
    everything is trained on, and yet both answers are heard of.
    """
    return row.propensity < 1.0 or row.policy.startswith("bounded_regret@")


def named_features(row: DecisionRow, names: Sequence[str] | None = None) -> NamedFeatures:
    """Return the features of a recorded decision: the numbers among them, and whether its task is text."""
    recorded = json.loads(row.features_json)
    values = {name: None if value is None else float(value) for name, value in recorded.items() if _is_number(value)}
    values["is_text"] = float(recorded.get("kind") == "text")
    chosen = sorted(values) if names is None else names
    return NamedFeatures(tuple(chosen), tuple(values.get(name) for name in chosen), row.predicted_costs_s)


def _decisions(ledger: Ledger) -> list[tuple[int, DecisionRow]]:
    found: list[tuple[int, DecisionRow]] = []
    while page := ledger.decisions_after(found[-1][0] if found else 0):
        found.extend(page)
    return found


def _said(ledger: Ledger, rules: RowRules) -> dict[str, dict[int, tuple[float, str]]]:
    """Return for every kind of outcome what was said in time, and by whom, by the decision's number."""
    kinds = (GIVEN, AUDIT_RATE, implied_as(SUNK), *(known_as(arm) for arm in rules.arms))
    return {
        kind: {
            label.seq: (label.value, label.source or "")
            for label in ledger.labels(LabelRule(kind, rules.window_s, sources=rules.trusted))
            if label.value is not None
        }
        for kind in kinds
    }


def _experience(
    kept: Sequence[tuple[int, DecisionRow]], said: dict[str, dict[int, tuple[float, str]]], rules: RowRules
) -> Experience:
    arms, n = rules.arms, len(kept)
    sunk, audited = arms.index(SUNK), arms.index(AUDITED)
    features = tuple(named_features(row) for _, row in kept)
    names = features[-1].names if features else ()
    propensities, quality = np.zeros((n, len(arms))), np.full((n, len(arms)), np.nan)
    cost, implied, rate = np.zeros((n, len(arms))), np.full(n, np.nan), np.zeros(n)
    for i, (seq, row) in enumerate(kept):
        drawn, seconds = dict(row.propensities), {row.arm: row.measured.seconds, **dict(row.predicted_costs_s)}
        for j, arm in enumerate(arms):
            propensities[i, j] = drawn.get(arm, 0.0)
            cost[i, j] = 0.0 if j == sunk else seconds.get(arm, 0.0)  # `icl` has run already, whatever is drawn
            quality[i, j] = said[known_as(arm)].get(seq, (np.nan, ""))[0]
        if np.isnan(quality[i, arms.index(row.arm)]):
            quality[i, arms.index(row.arm)] = said[GIVEN].get(seq, (np.nan, ""))[0]
        implied[i] = said[implied_as(SUNK)].get(seq, (np.nan, ""))[0]
        rate[i] = said[AUDIT_RATE].get(seq, (0.0, ""))[0]
    sunk_known = np.array([seq in said[known_as(SUNK)] for seq, _ in kept], dtype=bool)
    trained = cost[:, audited][cost[:, audited] > 0]
    unit_s = float(trained.mean()) if trained.size else 1.0
    return Experience(
        seqs=np.array([seq for seq, _ in kept], dtype=np.int64),
        created_at=tuple(row.created_at or "" for _, row in kept),
        decided_by=tuple(row.policy for _, row in kept),
        features=features,
        taken=np.array([arms.index(row.arm) for _, row in kept], dtype=np.int64),
        offered=propensities > 0,
        rows=LoggedRows(
            arms=arms,
            families=tuple(task_kind(row.task_id) or "tasks" for _, row in kept),
            feature_names=names,
            features=np.array([feature_row(each, names) for each in features]).reshape(n, len(names)),
            quality=quality,
            cost=cost / unit_s,
            known_p=known_probability(propensities, sunk=sunk, sunk_known=sunk_known, audited=audited, audit_rate=rate),
        ),
        implied=implied,
        fingerprints=tuple(row.task_fingerprint for _, row in kept),
        unit_s=unit_s,
    )


def _counted(
    kept: Sequence[tuple[int, DecisionRow]],
    said: dict[str, dict[int, tuple[float, str]]],
    found: Experience,
    rules: RowRules,
) -> npt.NDArray[np.bool_]:
    """Return which rows count, by who reported them."""
    sources = [(said[known_as(SUNK)].get(seq) or said[GIVEN].get(seq) or (0.0, ""))[1] for seq, _ in kept]
    judged = found.rows.quality[np.arange(len(found)), found.taken]
    refused = set(contradicting(sources, found.rows.features, judged)) - set(rules.trusted)
    within = within_share(sources, rules.source_share, trusted=rules.trusted)
    return within & ~np.isin(sources, sorted(refused))


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)
