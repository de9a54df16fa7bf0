"""What can be done with stored traces: explain, compare, decide once more, answer another way, hand on."""

from router.traces.diff import diff
from router.traces.fork import ArmFork, expected_seconds, fork_arm, fork_policy, told
from router.traces.otlp import as_json, as_protobuf
from router.traces.policies_by_name import PolicyLoader, policy_named
from router.traces.prices import ArmValue, Flip, arm_values, best_at, flips, utilities_at
from router.traces.push import push
from router.traces.replay import Difference, Replay, replay, replay_with
from router.traces.spans import Span, SpanEvent, spans_of
from router.traces.stored import StoredTrace, full_id, read_trace
from router.traces.why import WhySentence, measured_seconds, predicted_seconds, verdict_line, why
from router.traces.writer import Retention, TraceWriter, WriterCounts

__all__ = [
    "ArmFork",
    "ArmValue",
    "Difference",
    "Flip",
    "PolicyLoader",
    "Replay",
    "Retention",
    "Span",
    "SpanEvent",
    "StoredTrace",
    "TraceWriter",
    "WhySentence",
    "WriterCounts",
    "arm_values",
    "as_json",
    "as_protobuf",
    "best_at",
    "diff",
    "expected_seconds",
    "flips",
    "fork_arm",
    "fork_policy",
    "full_id",
    "measured_seconds",
    "policy_named",
    "predicted_seconds",
    "push",
    "read_trace",
    "replay",
    "replay_with",
    "spans_of",
    "told",
    "utilities_at",
    "verdict_line",
    "why",
]
