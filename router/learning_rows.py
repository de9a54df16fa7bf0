"""What the ledger's rows teach: decisions and their outcomes as rows to fit on and to judge policies by.

Unknown never counts as wrong. Left out are decisions that nobody drew (probability 1: forced, or no exploration; but
not those under a bound, which asks for training), those made for another base model or under other features, and what
a source says beyond its share.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from icl_engine.loaders import task_kind
from policies.errors import UnknownTrace
from policies.feature_values import NamedFeatures, feature_row
from policies.feedback_sources import contradicting, within_share
from policies.labels import LabelRule, label_of
from policies.off_policy import LoggedRows, known_probability
from policies.outcome_log import Heard
from policies.outcome_matrix import OutcomeMatrix
from policies.policy_versions import CHAMPION, ROLLED_BACK
from policies.records import AliasMove, DecisionRow, EffectiveOutcome

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.ledger import Ledger

    Floats = npt.NDArray[np.float64]

GIVEN = "exact"  # kind of an outcome that judges the answer given
AUDIT_RATE = "audit:rate"  # kind under which the probability of an audit is kept
SUNK, AUDITED = "icl", "ttt"
_TRACE_IS_LATE = 1000  # decisions after which a trace that is not there will not come
Said = dict[int, tuple[float, str]]  # by the decision's number: what was said in time, and by whom


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
    known_at: npt.NDArray[np.int64]  # (n,), number of the outcome with which all was known that is known now
    created_at: tuple[str, ...]
    decided_by: tuple[str, ...]  # policy, name@version
    features: tuple[NamedFeatures, ...]
    taken: npt.NDArray[np.int64]  # (n,), column of the arm drawn
    offered: npt.NDArray[np.bool_]  # (n, n_arms), could have been drawn, or was heard of all the same
    rows: LoggedRows  # what policies are judged by
    first: npt.NDArray[np.bool_]  # (n,), no earlier one has its task and seed
    implied: Floats  # (n,), quality of `icl` where it follows from what was said of another arm; NaN elsewhere
    tasks: tuple[str, ...] = field(repr=False)  # their ids
    unit_s: float  # seconds that a cost of 1 in `rows` stands for: what `ttt` took on average

    def __len__(self) -> int:
        return len(self.seqs)

    def take(self, which: npt.NDArray[np.bool_]) -> Experience:
        """Return some of it, by a mask."""
        picked = np.flatnonzero(which)
        return Experience(
            seqs=self.seqs[picked],
            known_at=self.known_at[picked],
            created_at=tuple(self.created_at[i] for i in picked),
            decided_by=tuple(self.decided_by[i] for i in picked),
            features=tuple(self.features[i] for i in picked),
            taken=self.taken[picked],
            offered=self.offered[picked],
            rows=self.rows.take(picked),
            first=self.first[picked],
            implied=self.implied[picked],
            tasks=tuple(self.tasks[i] for i in picked),
            unit_s=self.unit_s,
        )

    def drawn_anew(self) -> Experience:
        """Return what policies may be judged by: the first decision of each task and seed.

        A task that is solved again with its seed draws the same number again (`router.decision_seed`). Counted as a
        draw of its own, each repeat of one lucky draw would count for the candidate once more, and no bound would hold.
        To fit on, repeats are as good as others.
        """
        return self.take(self.first)

    def matrix(self) -> OutcomeMatrix:
        """Return it as an outcome matrix to fit on, in the order of record."""
        rows, n = self.rows, len(self)
        sunk = rows.arms.index(SUNK)
        quality = rows.quality.copy()
        follows = np.isnan(quality[:, sunk])
        quality[follows, sunk] = self.implied[follows]
        return OutcomeMatrix(
            tasks=self.tasks,
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


@dataclass(frozen=True, slots=True)
class _Decided:
    """A decision that may count, with its features taken apart once."""

    seq: int
    row: DecisionRow
    features: NamedFeatures


class ExperienceReader:
    """Reads what has been decided and reported: the first time all of it, then what has come since. Threads take turns.

    Of a decision that nothing is heard of in time no more is kept than its number.

    Args:
        model_fingerprint: of the base model in use; decisions made for another do not count. None: all count.
        schema: hash of the features in use; decisions made with others do not count.
    """

    def __init__(self, ledger: Ledger, rules: RowRules, *, model_fingerprint: str | None, schema: str) -> None:
        self._ledger, self._rules = ledger, rules
        self._model_fingerprint, self._schema = model_fingerprint, schema
        self._last_seq, self._heard = 0, Heard()
        self._decided: dict[str, _Decided] = {}  # by id
        self._let_go: dict[str, int] = {}  # numbers of decisions, by id, of which nothing was heard in time
        self._said: dict[str, Said] = {kind: {} for kind in _kinds(rules)}
        self._judging = frozenset({GIVEN, *map(known_as, rules.arms)})
        self._known_at: dict[int, int] = {}  # by the decision's number
        self._made_for_model: dict[str, bool] = {}  # by id: traces are long
        self._lock = threading.Lock()

    def read(self, *, since: str = "") -> Experience:
        """Return what is known by now.

        Args:
            since: time (UTC, ISO 8601) before which nothing counts, from now on: no later call gets it back.
        """
        with self._lock:
            return self._read(since)

    def _read(self, since: str) -> Experience:
        heard_of, heard = self._ledger.heard_after(self._heard)  # first: of what is decided meanwhile comes later
        self._read_decisions()
        self._take_up_again(heard_of)
        self._read_outcomes([decision_id for decision_id in heard_of if decision_id in self._decided])
        self._heard = heard  # not before all of it has been read: the next read tries again what failed
        self._let_go_of(since)
        kept = [
            each
            for each in sorted(self._decided.values(), key=lambda each: each.seq)  # in the order of record
            if any(each.seq in of_kind for kind, of_kind in self._said.items() if kind != AUDIT_RATE)
            and self._fits(each.row.decision_id, each.seq)
        ]
        found = _experience(kept, self._said, self._known_at, self._rules)
        if not kept:
            return found
        counted = _counted(kept, self._said, found, self._rules)
        return replace(found, first=_first(kept, counted)).take(counted)

    def _read_decisions(self) -> None:
        while page := self._ledger.decisions_after(self._last_seq):
            for seq, row in page:
                if row.features_schema == self._schema and _was_drawn(row) and row.arm in self._rules.arms:
                    self._decided[row.decision_id] = _Decided(seq, row, named_features(row))
            self._last_seq = page[-1][0]

    def _take_up_again(self, heard_of: Sequence[str]) -> None:
        """Read anew what was let go and is heard of after all; what is dated back may count."""
        for decision_id in heard_of:
            if decision_id in self._let_go:
                ((seq, row),) = self._ledger.decisions_after(self._let_go[decision_id] - 1, limit=1)
                self._decided[decision_id] = _Decided(seq, row, named_features(row))
                del self._let_go[decision_id]

    def _let_go_of(self, since: str) -> None:
        """Keep nothing from before `since`, and only the number of a decision of which nothing was heard in time."""
        in_time = datetime.now(UTC) - timedelta(seconds=self._rules.window_s)
        for decision_id, each in list(self._decided.items()):
            at, seq = each.row.created_at or "", each.seq
            heard = any(seq in of_kind for of_kind in self._said.values())
            if at >= since and (heard or datetime.fromisoformat(at) >= in_time):
                continue
            del self._decided[decision_id]
            if not heard:
                self._let_go[decision_id] = seq
                continue
            self._made_for_model.pop(decision_id, None)
            self._known_at.pop(seq, None)
            for of_kind in self._said.values():
                of_kind.pop(seq, None)

    def _read_outcomes(self, decision_ids: Sequence[str]) -> None:
        """Take up for every kind of outcome what was said in time, and by whom."""
        now = datetime.now(UTC)  # tells only what is still waited for from what will never be known: neither counts
        for decision_id, outcomes in self._ledger.outcomes_of(decision_ids).items():
            decided = self._decided[decision_id]
            at = decided.row.created_at or ""
            for kind, of_kind in self._said.items():
                rule = LabelRule(kind, self._rules.window_s, sources=self._rules.trusted)
                its = [each for each in outcomes if each.reported.kind == kind and _stands(each, outcomes)]
                label = label_of(its, rule, seq=decided.seq, decision_id=decision_id, decided_at=at, now=now)
                of_kind.pop(decided.seq, None)  # it may follow no longer
                if label.value is not None:
                    of_kind[decided.seq] = (label.value, label.source or "")
                    if kind in self._judging:
                        self._known_at[decided.seq] = max(self._known_at.get(decided.seq, 0), its[0].seq)

    def _fits(self, decision_id: str, seq: int) -> bool:
        """Tell whether a decision was made for the model in use."""
        if self._model_fingerprint is None:
            return True
        if decision_id not in self._made_for_model:
            try:
                document = self._ledger.trace(decision_id).document
            except UnknownTrace:  # not written yet, or pruned: nobody can say for which model it was
                if seq < self._last_seq - _TRACE_IS_LATE:
                    self._made_for_model[decision_id] = False
                return False
            self._made_for_model[decision_id] = made_for(document, self._model_fingerprint)
        return self._made_for_model[decision_id]


def _stands(outcome: EffectiveOutcome, outcomes: Sequence[EffectiveOutcome]) -> bool:
    """Tell whether an outcome stands: one that only follows does not, once its source has corrected what it follows
    from and has not said it anew.
    """
    if outcome.reported.kind != implied_as(SUNK):
        return True
    said_at = max(at or "" for at in (outcome.reported.created_at, *(each.created_at for each in outcome.corrections)))
    return all(
        (correction.created_at or "") <= said_at
        for each in outcomes
        if (each.reported.kind, each.reported.source) == (GIVEN, outcome.reported.source)
        for correction in each.corrections
    )


def counted_since(ledger: Ledger) -> str:
    """Return the time (UTC, ISO 8601) of the last reset, before which nothing counts; empty where there was none."""
    reset = last_reset(ledger)
    return "" if reset is None else reset.created_at


def last_reset(ledger: Ledger) -> AliasMove | None:
    """Return the last move that took the champion away for good, such as a drift alarm; a roll-back takes back no more
    than itself.
    """
    moves = ledger.policy_versions.moves(CHAMPION)
    resets = [move for move in moves if move.version_id is None and not move.reason.startswith(ROLLED_BACK)]
    return resets[-1] if resets else None


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


def _kinds(rules: RowRules) -> tuple[str, ...]:
    return (GIVEN, AUDIT_RATE, implied_as(SUNK), *(known_as(arm) for arm in rules.arms))


def _experience(
    kept: Sequence[_Decided], said: dict[str, Said], known_at: dict[int, int], rules: RowRules
) -> Experience:
    arms, n = rules.arms, len(kept)
    sunk, audited = arms.index(SUNK), arms.index(AUDITED)
    features = tuple(each.features for each in kept)
    names = features[-1].names if features else ()
    propensities, quality = np.zeros((n, len(arms))), np.full((n, len(arms)), np.nan)
    cost, implied, rate = np.zeros((n, len(arms))), np.full(n, np.nan), np.zeros(n)
    for i, each in enumerate(kept):
        seq, row = each.seq, each.row
        drawn, seconds = dict(row.propensities), dict(row.predicted_costs_s)  # measured ones include the probe
        for j, arm in enumerate(arms):
            propensities[i, j] = drawn.get(arm, 0.0)
            cost[i, j] = 0.0 if j == sunk else seconds.get(arm, 0.0)  # `icl` has run already, whatever is drawn
            quality[i, j] = said[known_as(arm)].get(seq, (np.nan, ""))[0]
        if np.isnan(quality[i, arms.index(row.arm)]):
            quality[i, arms.index(row.arm)] = said[GIVEN].get(seq, (np.nan, ""))[0]
        propensities[i] /= propensities[i].sum()  # of the arms that count: had another been drawn, there were no row
        implied[i] = said[implied_as(SUNK)].get(seq, (np.nan, ""))[0]
        rate[i] = said[AUDIT_RATE].get(seq, (0.0, ""))[0]
    sunk_known = np.array([each.seq in said[known_as(SUNK)] for each in kept], dtype=bool)
    known_p = known_probability(propensities, sunk=sunk, sunk_known=sunk_known, audited=audited, audit_rate=rate)
    trained = cost[:, audited][cost[:, audited] > 0]
    unit_s = float(trained.mean()) if trained.size else 1.0
    return Experience(
        seqs=np.array([each.seq for each in kept], dtype=np.int64),
        known_at=np.array([known_at.get(each.seq, 0) for each in kept], dtype=np.int64),
        created_at=tuple(each.row.created_at or "" for each in kept),
        decided_by=tuple(each.row.policy for each in kept),
        features=features,
        taken=np.array([arms.index(each.row.arm) for each in kept], dtype=np.int64),
        offered=(propensities > 0) | (known_p > 0),
        rows=LoggedRows(
            arms=arms,
            families=tuple(task_kind(each.row.task_id) or "tasks" for each in kept),
            feature_names=names,
            features=np.array([feature_row(each, names) for each in features]).reshape(n, len(names)),
            quality=quality,
            cost=cost / unit_s,
            known_p=known_p,
        ),
        first=np.ones(n, dtype=bool),
        implied=implied,
        tasks=tuple(each.row.task_id for each in kept),
        unit_s=unit_s,
    )


def _first(kept: Sequence[_Decided], counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which rows are the first of their task and seed, among those that count."""
    earlier: set[tuple[str, int]] = set()
    first = np.zeros(len(kept), dtype=bool)
    for i in np.flatnonzero(counted).tolist():
        drawn = kept[i].row.task_fingerprint, kept[i].row.seed
        first[i] = drawn not in earlier
        earlier.add(drawn)
    return first


def _counted(
    kept: Sequence[_Decided], said: dict[str, Said], found: Experience, rules: RowRules
) -> npt.NDArray[np.bool_]:
    """Return which rows count, by who reported them."""
    heard = (said[known_as(SUNK)].get(each.seq) or said[GIVEN].get(each.seq) or (0.0, "") for each in kept)
    sources = [source for _, source in heard]
    judged = found.rows.quality[np.arange(len(found)), found.taken]
    refused = set(contradicting(sources, found.rows.features, judged)) - set(rules.trusted)
    within = within_share(sources, rules.source_share, trusted=rules.trusted)
    return within & ~np.isin(sources, sorted(refused))


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)
