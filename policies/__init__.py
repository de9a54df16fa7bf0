"""How it is decided which arm answers a task, and the durable record of what came of it. Never loads torch.

`Ledger` comes from `policies.ledger`, which loads SQLAlchemy.
"""

from policies.abilities import AsksForStages, CountsSpending, Escalates, WatchesTraining
from policies.costs import CostModel, Work
from policies.decision import Arm, Decision, GoesByOthers, Policy, policy_id
from policies.difficulty import p_icl_correct
from policies.errors import (
    ArmUnavailable,
    DecisionConflict,
    LedgerCorrupt,
    LedgerFull,
    LedgerLocked,
    LedgerTooNew,
    LedgerUnavailable,
    OutcomeConflict,
    PolicyFileDamaged,
    PromotionLost,
    RecordRefused,
    UnknownTrace,
    UnknownVersion,
)
from policies.feature_values import FeatureValues, NamedFeatures, feature_row
from policies.features import FEATURE_NAMES, FEATURES, SCHEMA_HASH, Feature, Features, features_of
from policies.fixed import AlwaysArm
from policies.labels import Label, LabelRule, LabelState, label_of
from policies.loo_threshold import LooThreshold
from policies.records import (
    Alias,
    CorrectionRow,
    DecisionRow,
    EffectiveOutcome,
    MeasuredCost,
    OutcomeRow,
    PolicyState,
    PolicyVersion,
    TraceRow,
)
from policies.stages import Stage

__all__ = [
    "FEATURES",
    "FEATURE_NAMES",
    "SCHEMA_HASH",
    "Alias",
    "AlwaysArm",
    "Arm",
    "ArmUnavailable",
    "AsksForStages",
    "CorrectionRow",
    "CostModel",
    "CountsSpending",
    "Decision",
    "DecisionConflict",
    "DecisionRow",
    "EffectiveOutcome",
    "Escalates",
    "Feature",
    "FeatureValues",
    "Features",
    "GoesByOthers",
    "Label",
    "LabelRule",
    "LabelState",
    "LedgerCorrupt",
    "LedgerFull",
    "LedgerLocked",
    "LedgerTooNew",
    "LedgerUnavailable",
    "LooThreshold",
    "MeasuredCost",
    "NamedFeatures",
    "OutcomeConflict",
    "OutcomeRow",
    "Policy",
    "PolicyFileDamaged",
    "PolicyState",
    "PolicyVersion",
    "PromotionLost",
    "RecordRefused",
    "Stage",
    "TraceRow",
    "UnknownTrace",
    "UnknownVersion",
    "WatchesTraining",
    "Work",
    "feature_row",
    "features_of",
    "label_of",
    "p_icl_correct",
    "policy_id",
]
