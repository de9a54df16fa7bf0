"""How it is decided which arm answers a task, and the durable record of what came of it. Never loads torch.

`Ledger` comes from `policies.ledger`, which loads SQLAlchemy.
"""

from policies.costs import CostModel
from policies.decision import Arm, Decision, Policy, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import (
    ArmUnavailable,
    DecisionConflict,
    LedgerUnavailable,
    OutcomeConflict,
    RecordRefused,
    UnknownTrace,
)
from policies.features import FEATURES, SCHEMA_HASH, Feature, Features, features_of
from policies.fixed import AlwaysArm
from policies.loo_threshold import LooThreshold
from policies.records import DecisionRow, MeasuredCost, OutcomeRow, TraceRow

__all__ = [
    "FEATURES",
    "SCHEMA_HASH",
    "AlwaysArm",
    "Arm",
    "ArmUnavailable",
    "CostModel",
    "Decision",
    "DecisionConflict",
    "DecisionRow",
    "Feature",
    "Features",
    "LedgerUnavailable",
    "LooThreshold",
    "MeasuredCost",
    "OutcomeConflict",
    "OutcomeRow",
    "Policy",
    "RecordRefused",
    "TraceRow",
    "UnknownTrace",
    "features_of",
    "p_icl_correct",
    "policy_id",
]
