"""Labels: what learning may take the outcomes of a decision for, by a rule that is stated before.

Waiting, late and missing reports each have a name of their own, so that unknown never passes for wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from policies.records import EffectiveOutcome


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How the outcomes of one kind become labels."""

    kind: str
    window_s: float  # what is reported later than this after the decision is kept, and not used
    default: float | None = None  # counts where nothing was reported in time; None: unknown, which is not wrong
    sources: tuple[str, ...] = ()  # the most trusted first; any other comes after these, the earliest report first


class LabelState(StrEnum):
    """Where a label comes from, or why there is none."""

    REPORTED = "reported"
    DEFAULT = "default"
    UNKNOWN = "unknown"
    WAITING = "waiting"  # the window is still open, and nothing has been reported yet


@dataclass(frozen=True, slots=True)
class Label:
    """What one decision counts as."""

    seq: int  # of the decision, in the ledger's order
    decision_id: str
    value: float | None  # None: unknown or waiting
    state: LabelState
    source: str | None  # who reported it
    n_late: int  # reports and corrections that came after the window
    conflicting: bool  # sources in time say different things; the most trusted one counts


def label_of(
    outcomes: Sequence[EffectiveOutcome],
    rule: LabelRule,
    *,
    seq: int,
    decision_id: str,
    decided_at: str,
    now: datetime,
) -> Label:
    """Return the label of one decision.

    Args:
        outcomes: of the rule's kind, oldest first.
        decided_at: UTC, ISO 8601, as in the ledger.
    """
    end = datetime.fromisoformat(decided_at) + timedelta(seconds=rule.window_s)
    n_late = sum(_is_late(at, end) for outcome in outcomes for at in _times(outcome))
    in_time = [
        (outcome.reported.source, _value_at(outcome, end))
        for outcome in outcomes
        if not _is_late(outcome.reported.created_at, end)
    ]
    if in_time:
        source, value = min(in_time, key=lambda said: _rank(said[0], rule))
        conflicting = len({said for _, said in in_time}) > 1
        return Label(seq, decision_id, value, LabelState.REPORTED, source, n_late, conflicting)
    if now <= end:
        return Label(seq, decision_id, None, LabelState.WAITING, None, n_late, conflicting=False)
    state = LabelState.UNKNOWN if rule.default is None else LabelState.DEFAULT
    return Label(seq, decision_id, rule.default, state, None, n_late, conflicting=False)


def _times(outcome: EffectiveOutcome) -> list[str | None]:
    return [outcome.reported.created_at, *(correction.created_at for correction in outcome.corrections)]


def _is_late(at: str | None, end: datetime) -> bool:
    return at is not None and datetime.fromisoformat(at) > end


def _value_at(outcome: EffectiveOutcome, end: datetime) -> float:
    """Return what the outcome said at `end`: corrections made later do not count."""
    values = [each.value for each in outcome.corrections if not _is_late(each.created_at, end)]
    return values[-1] if values else outcome.reported.value


def _rank(source: str, rule: LabelRule) -> int:
    return rule.sources.index(source) if source in rule.sources else len(rule.sources)
