"""Decisions made again from what is stored, without a model: the same features, policy, seed and arms give the same
decision, bit for bit, or it is said why not. Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from policies.decision import Decision, Policy
from policies.errors import ArmUnavailable
from policies.features import SCHEMA_HASH, Features
from policies.records import DecisionRow
from router.decision_seed import decision_rng
from router.trace_errors import UnknownPolicy
from router.traces.policies_by_name import PolicyLoader, policy_named

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two decisions, or two traces, are not the same."""

    field: str
    recorded: str
    now: str


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of deciding once more."""

    trace_id: str
    equal: bool
    differences: tuple[Difference, ...]
    problem: str | None  # why it could not be decided once more
    decision: Decision | None


def replay(row: DecisionRow, *, given: Sequence[Policy] = (), loaders: Sequence[PolicyLoader] = ()) -> Replay:
    """Decide once more with the policy that decided, and compare.

    Args:
        given, loaders: where the policy may come from; see `policy_named`.
    """
    try:
        policy = policy_named(row.policy, given=given, loaders=loaders)
    except UnknownPolicy as error:
        return Replay(row.decision_id, False, (), str(error), None)
    return replay_with(policy, row)


def replay_with(policy: Policy, row: DecisionRow) -> Replay:
    """Decide with `policy` from the stored state, and compare with what was recorded."""
    features = stored_features(row)
    if isinstance(features, str):
        return Replay(row.decision_id, False, (), features, None)
    arms = tuple(arm for arm, _ in row.propensities)
    rng = decision_rng(row.task_fingerprint, row.seed)
    try:
        decision = policy.decide(features, rng, arms)
    except ArmUnavailable as error:
        return Replay(row.decision_id, False, (), str(error), None)
    except Exception as error:  # a policy may be anybody's code
        return Replay(row.decision_id, False, (), f"the policy failed: {type(error).__name__}: {error}", None)
    found = tuple(_differences(row, decision))
    return Replay(row.decision_id, not found, found, None, decision)


def stored_features(row: DecisionRow) -> Features | str:
    """Return the features that a decision was made on, or why they cannot be read."""
    if row.features_schema != SCHEMA_HASH:
        return f"its features are of schema {row.features_schema}, this release reads {SCHEMA_HASH}"
    stored = json.loads(row.features_json)
    names = {field.name for field in fields(Features)}
    if not isinstance(stored, dict) or stored.keys() != names:
        return "its features are not those that the schema names"
    stored["predicted_cost_s"] = tuple((str(arm), float(seconds)) for arm, seconds in stored["predicted_cost_s"])
    return Features(**stored)


def _differences(row: DecisionRow, decision: Decision) -> list[Difference]:
    compared: list[tuple[str, object, object, Callable[[object], str]]] = [
        ("arm", str(row.arm), str(decision.arm), str),
        ("propensity", row.propensity, decision.propensity, _exact),
        ("propensities", row.propensities, decision.propensities, _exact),
        ("reason", row.reason, decision.reason, str),
        ("policy", row.policy, decision.policy, str),
        ("difficulty", row.difficulty, decision.difficulty, _exact),
    ]
    return [Difference(name, show(old), show(new)) for name, old, new, show in compared if show(old) != show(new)]


def _exact(value: object) -> str:
    """Tell numbers apart by every bit."""
    if isinstance(value, tuple):
        return ", ".join(f"{arm} {_exact(p)}" for arm, p in value)
    return float(value).hex() if isinstance(value, int | float) else str(value)
