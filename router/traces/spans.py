"""A stored trace as OpenTelemetry spans, with the attributes of the GenAI and OpenInference conventions.

The one module that knows these names. Root `invoke_workflow solve`, below it one span a step; `route_decision` carries
why, the steps that answer are the arms, and each outcome is a `gen_ai.evaluation.result`. Ids follow from the trace's
own, so that exporting it again, as when feedback has come, gives the same spans.

Source: OpenTelemetry semantic conventions for generative AI (in development), OpenInference specification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from icl_engine.task import Value
from policies.features import SCHEMA_HASH
from policies.records import EffectiveOutcome
from policies.trace_log import verdict_of
from router.trace import AnswerTrace, Step, Trace
from router.traces.stored import StoredTrace
from router.traces.why import lines, why

SERVICE = "ttt-router"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

INTERNAL, CLIENT = 1, 3  # kinds of spans, by their number in OTLP
OK, ERROR = 1, 2  # status codes

AttributeValue = str | bool | int | float | tuple[str, ...]

_NS = 1_000_000_000
_ANSWERING = ("answer_icl", "answer_vote", "answer_ttt")


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    time_unix_nano: int
    attributes: Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Span:
    """One span, whatever it will be encoded as."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16
    parent_id: str | None
    name: str
    kind: int
    start_unix_nano: int
    end_unix_nano: int
    attributes: Mapping[str, AttributeValue]
    events: tuple[SpanEvent, ...] = ()
    status: int = OK
    message: str = ""


def spans_of(stored: StoredTrace, *, content: bool = True) -> tuple[Span, ...]:
    """Return the spans of one solve, the root first, each after its parent.

    Args:
        content: with the task and its answers; without, nothing of what the user gave leaves.
    """
    trace = stored.trace
    end = _nanos(stored.created_at)
    start = end - round(max(sum(step.seconds for step in trace.path), trace.cost.seconds) * _NS)
    ids = _Ids(trace.trace_id)
    root = ids.span("root")
    return (
        Span(
            ids.trace, root, None, "invoke_workflow solve", INTERNAL, start, end, _root_attributes(stored, content),
            status=OK if any(answer.candidates for answer in trace.answers) else ERROR,
            message="" if any(answer.candidates for answer in trace.answers) else "no answer",
        ),
        *_step_spans(stored, ids, root, start, content),
        *_evaluations(stored, ids, root),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ids:
    """Ids of spans, the same whenever the trace is exported."""

    trace_id: str

    @property
    def trace(self) -> str:
        is_one = len(self.trace_id) == 32 and set(self.trace_id) <= set("0123456789abcdef")
        return self.trace_id if is_one else hashlib.sha256(self.trace_id.encode()).hexdigest()[:32]

    def span(self, name: str) -> str:
        return hashlib.sha256(f"{self.trace_id}:{name}".encode()).hexdigest()[:16]


def _step_spans(stored: StoredTrace, ids: _Ids, root: str, start: int, content: bool) -> Iterator[Span]:
    at = start
    for i, step in enumerate(stored.trace.path):
        end = at + round(step.seconds * _NS)
        name, kind, attributes = _step(stored.trace, step, content)
        if step.name == "decide":
            attributes |= _decision_attributes(stored)
        yield Span(ids.trace, ids.span(f"{i}:{step.name}"), root, name, kind, at, end, attributes)
        at = end


def _root_attributes(stored: StoredTrace, content: bool) -> dict[str, AttributeValue]:
    trace = stored.trace
    found: dict[str, AttributeValue] = {
        "openinference.span.kind": "CHAIN",
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "solve",
        "gen_ai.provider.name": SERVICE,
        "gen_ai.request.seed": trace.seed,
        "gen_ai.usage.output_tokens": trace.cost.tokens,
        "llm.token_count.total": trace.cost.tokens,
        "session.id": trace.task.id,
        "user.id": trace.tenant,
        "router.task.id": trace.task.id,
        "router.task.kind": trace.task.kind,
        "router.tenant": trace.tenant,
        "router.arm": trace.decision.arm,
        "router.answered_by": trace.answered_by,
        "router.difficulty": trace.decision.difficulty,
        "router.cost.seconds": trace.cost.seconds,
        "router.cost.gpu_seconds": trace.cost.gpu_seconds,
        "router.degraded": trace.degraded,
        "router.trace.id": trace.trace_id,
        "router.trace.schema_version": trace.schema_version,
        "router.why": "\n".join(lines(why(stored))),
    }
    if content:
        found |= {"input.value": trace.task.model_dump_json(), "input.mime_type": "application/json"}
        found |= {"output.value": _answers_json(trace.answers), "output.mime_type": "application/json"}
    return found | _annotations(stored.outcomes)


def _decision_attributes(stored: StoredTrace) -> dict[str, AttributeValue]:
    """The decision, beside its own names under those of a feature flag, the nearest thing there is a convention for."""
    decision = stored.trace.decision
    found: dict[str, AttributeValue] = {
        "openinference.span.kind": "CHAIN",
        "feature_flag.key": "router.arm",
        "feature_flag.provider.name": SERVICE,
        "feature_flag.result.variant": decision.arm,
        "feature_flag.result.reason": "static" if decision.propensity >= 1.0 else "split",
        "feature_flag.version": decision.policy,
        "feature_flag.context.id": stored.decision.task_fingerprint,
        "router.policy": decision.policy,
        "router.policy.hash": hashlib.sha256(decision.policy.encode()).hexdigest()[:16],
        "router.arm": decision.arm,
        "router.propensity": decision.propensity,
        "router.reason": decision.reason,
        "router.explore": decision.explored,
        "router.difficulty": decision.difficulty,
        "router.features": json.dumps(decision.features, sort_keys=True, default=str),
        "router.features.schema_hash": SCHEMA_HASH
        if stored.decision.features_schema == ""
        else stored.decision.features_schema,
    }
    for name, number in (("price", decision.price), ("flip_price", decision.flip_price)):
        if number is not None:
            found[f"router.{name}"] = number
    if decision.stage is not None:
        found["router.stage"] = decision.stage
    found |= {f"router.propensities.{arm}": p for arm, p in decision.propensities.items()}
    utilities = []
    for arm, estimate in decision.estimates.items():
        scores = {"scores": estimate.p_correct, "gain": estimate.gain, "utility": estimate.utility}
        scores["cost_est"] = estimate.predicted_cost_s
        found |= {f"router.{name}.{arm}": number for name, number in scores.items() if number is not None}
        utilities += [] if estimate.utility is None else [estimate.utility]
    if len(utilities) > 1:
        first, second = sorted(utilities, reverse=True)[:2]
        found["router.margin"] = first - second
    for arm, seconds in decision.features.get("predicted_cost_s") or ():
        found.setdefault(f"router.cost_est.{arm}", float(seconds))
    return found


def _step(trace: Trace, step: Step, content: bool) -> tuple[str, int, dict[str, AttributeValue]]:
    model: dict[str, AttributeValue] = {
        "openinference.span.kind": "LLM",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": SERVICE,
        "gen_ai.request.model": trace.model_fingerprint,
        "llm.model_name": trace.model_fingerprint,
        "router.step": step.name,
    }
    plain: dict[str, AttributeValue] = {"openinference.span.kind": "CHAIN", "router.step": step.name}
    if step.name == "probe":
        probed: dict[str, AttributeValue] = {"router.loo_exact": tuple(str(exact).lower() for exact in trace.loo_exact)}
        return "chat icl", CLIENT, model | probed | _output(trace.icl, content)
    if step.name in _ANSWERING and not (step.name == "answer_icl" and trace.answered_by == "icl"):
        return (
            f"chat {trace.answered_by}",
            CLIENT,
            model | {"router.arm": trace.answered_by} | _output(trace.answers, content),
        )
    if step.name == "decide":
        return "route_decision", INTERNAL, plain
    if step.name == "adapt":
        return "ttt.adapt", INTERNAL, plain | _adapter_attributes(trace)
    return step.name, INTERNAL, plain


def _adapter_attributes(trace: Trace) -> dict[str, AttributeValue]:
    adapter = trace.adapter
    if adapter is None:
        return {"ttt.adapter.found": False}
    found: dict[str, AttributeValue] = {
        "ttt.adapter.found": True,
        "ttt.adapter.key": adapter.key,
        "ttt.adapter.parents": adapter.parents,
        "ttt.adapter.tasks": adapter.tasks,
        "ttt.cache_hit": adapter.cached,
        "ttt.steps": len(adapter.losses),
        "ttt.train_seconds": adapter.train_seconds,
    }
    if adapter.losses:
        found |= {"ttt.loss.first": adapter.losses[0], "ttt.loss.last": adapter.losses[-1]}
    if trace.cost.gpu_seconds and not adapter.cached:
        found["ttt.gpu_seconds"] = adapter.train_seconds
    return found | ({"ttt.verdict": adapter.verdict} if adapter.verdict else {})


def _evaluations(stored: StoredTrace, ids: _Ids, root: str) -> Iterator[Span]:
    """One span an outcome: feedback may come days after the solve, and has a time of its own."""
    for outcome in stored.outcomes:
        reported = outcome.reported
        said_at = outcome.corrections[-1].created_at if outcome.corrections else reported.created_at
        at = _nanos(said_at or stored.created_at)
        attributes: dict[str, AttributeValue] = {
            "gen_ai.evaluation.name": reported.kind,
            "gen_ai.evaluation.score.value": outcome.value,
            "gen_ai.evaluation.score.label": verdict_of(outcome.value),
            "gen_ai.response.id": stored.trace.trace_id,
            "router.evaluation.source": reported.source,
        }
        if outcome.corrections:
            attributes["gen_ai.evaluation.explanation"] = outcome.corrections[-1].reason
        yield Span(
            ids.trace,
            ids.span(f"evaluation:{reported.source}:{reported.kind}"),
            root,
            "gen_ai.evaluation.result",
            INTERNAL,
            at,
            at,
            {"openinference.span.kind": "EVALUATOR", "gen_ai.operation.name": "evaluate", **attributes},
            (SpanEvent("gen_ai.evaluation.result", at, attributes),),
        )


def _annotations(outcomes: Sequence[EffectiveOutcome]) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    for i, outcome in enumerate(outcomes):
        prefix = f"annotations.{i}.annotation"
        found |= {
            f"{prefix}.name": outcome.reported.kind,
            f"{prefix}.annotator_kind": "HUMAN" if outcome.reported.source == "user" else "CODE",
            f"{prefix}.score": outcome.value,
            f"{prefix}.label": verdict_of(outcome.value),
        }
    return found


def _output(answers: Sequence[AnswerTrace], content: bool) -> dict[str, AttributeValue]:
    if not content:
        return {}
    return {"output.value": _answers_json(answers), "output.mime_type": "application/json"}


def _answers_json(answers: Sequence[AnswerTrace]) -> str:
    values: list[list[Value]] = [[candidate.value for candidate in answer.candidates] for answer in answers]
    return json.dumps(values, ensure_ascii=False)


def _nanos(moment: str) -> int:
    """Nanoseconds since 1970, exact to the microsecond; 0 where no time is known."""
    if not moment:
        return 0
    at = datetime.fromisoformat(moment)
    return int(at.timestamp()) * _NS + at.microsecond * 1000
