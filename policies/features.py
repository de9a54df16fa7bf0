"""Features: what a policy may know of a task before it is answered.

Built from the task and the probe alone. A `Task` carries no solution, so no feature can see one. `FEATURES` names
every field with its unit; `SCHEMA_HASH` changes with the table, so that logged features are never read as others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from icl_engine.task import Task, Value

MAX_NATS_PER_TOKEN = 100.0  # an impossible token has infinite surprise; JSON and later models need a finite one


class AnswerSignals(Protocol):
    """What features read of an `icl_engine` answer."""

    @property
    def confidence(self) -> float: ...


class ProbeSignals(Protocol):
    """What features read of an `icl_engine` probe result, without loading the engine that makes it."""

    @property
    def answer(self) -> AnswerSignals: ...

    @property
    def answer_log_probability(self) -> float:
        """Nats, of the whole answer."""
        ...

    @property
    def answer_tokens(self) -> int: ...

    @property
    def loo_nll(self) -> tuple[float, ...]:
        """Nats per token of each demonstration's output when held out; empty where leave-one-out was not run."""
        ...

    @property
    def loo_exact(self) -> tuple[bool, ...]: ...

    @property
    def prompt_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table of features."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one task; units and meanings are in `FEATURES`."""

    kind: str
    n_demonstrations: int
    n_queries: int
    input_size: float
    output_size: float
    query_size: float
    same_shape_share: float
    n_held_out: int
    n_held_out_exact: int
    loo_exact_share: float | None  # None: no demonstration was held out
    loo_nll_mean: float | None
    loo_nll_worst: float | None
    answer_confidence: float
    answer_nll: float
    prompt_tokens: int
    adapter_cached: bool
    predicted_cost_s: tuple[tuple[str, float], ...]

    def as_json(self) -> str:
        """Return canonical JSON: the same text for the same features on every machine."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)


FEATURES: tuple[Feature, ...] = (
    Feature("kind", "grid or text", "kind of the task's values"),
    Feature("n_demonstrations", "demonstrations", "demonstrations given"),
    Feature("n_queries", "queries", "queries asked"),
    Feature("input_size", "cells or characters", "mean size of the demonstrations' inputs"),
    Feature("output_size", "cells or characters", "mean size of the demonstrations' outputs"),
    Feature("query_size", "cells or characters", "mean size of the queries"),
    Feature("same_shape_share", "share", "demonstrations whose output has its input's shape (text: length)"),
    Feature("n_held_out", "demonstrations", "demonstrations scored by leave-one-out"),
    Feature("n_held_out_exact", "demonstrations", "of those, answered exactly"),
    Feature("loo_exact_share", "share", "n_held_out_exact over n_held_out"),
    Feature("loo_nll_mean", "nats per token", "mean surprise at a held-out output"),
    Feature("loo_nll_worst", "nats per token", "largest surprise at a held-out output"),
    Feature("answer_confidence", "probability", "the probe's confidence in its own answer"),
    Feature("answer_nll", "nats per token", "surprise of the probe's own answer"),
    Feature("prompt_tokens", "tokens", "length of the probe's prompt"),
    Feature("adapter_cached", "boolean", "an adapter for exactly this task is at hand"),
    Feature("predicted_cost_s", "seconds per arm", "predicted cost of each arm on this device"),
)

SCHEMA_HASH = hashlib.sha256(json.dumps([(f.name, f.unit) for f in FEATURES]).encode()).hexdigest()[:16]


def features_of(
    task: Task, probe: ProbeSignals, *, adapter_cached: bool, predicted_cost_s: Mapping[str, float]
) -> Features:
    """Build the features of `task` from its one probe.

    Args:
        adapter_cached: an adapter for exactly this task is in the store.
        predicted_cost_s: seconds per arm name; the order does not matter.
    """
    inputs = [demonstration.input for demonstration in task.demonstrations]
    outputs = [demonstration.output for demonstration in task.demonstrations]
    n_held_out, n_exact = len(probe.loo_exact), sum(probe.loo_exact)
    loo_nll = [_finite_nats(nll) for nll in probe.loo_nll]
    return Features(
        kind=task.kind,
        n_demonstrations=len(task.demonstrations),
        n_queries=len(task.queries),
        input_size=_mean(map(_size, inputs)),
        output_size=_mean(map(_size, outputs)),
        query_size=_mean(map(_size, task.queries)),
        same_shape_share=_mean(_shape(x) == _shape(y) for x, y in zip(inputs, outputs, strict=True)),
        n_held_out=n_held_out,
        n_held_out_exact=n_exact,
        loo_exact_share=n_exact / n_held_out if n_held_out else None,
        loo_nll_mean=_mean(loo_nll) if loo_nll else None,
        loo_nll_worst=max(loo_nll) if loo_nll else None,
        answer_confidence=float(probe.answer.confidence),
        answer_nll=_finite_nats(-probe.answer_log_probability / max(probe.answer_tokens, 1)),
        prompt_tokens=probe.prompt_tokens,
        adapter_cached=adapter_cached,
        predicted_cost_s=tuple(sorted((str(arm), float(cost)) for arm, cost in predicted_cost_s.items())),
    )


def _shape(value: Value) -> Sequence[int]:
    return (len(value),) if isinstance(value, str) else (len(value), len(value[0]))


def _size(value: Value) -> int:
    return math.prod(_shape(value))


def _mean(values: Iterable[float]) -> float:
    counted = list(values)
    return math.fsum(counted) / len(counted)


def _finite_nats(nats: float) -> float:
    """Clip to [0, MAX_NATS_PER_TOKEN]; NaN, which only a broken model gives, counts as the worst."""
    return MAX_NATS_PER_TOKEN if math.isnan(nats) else min(max(nats, 0.0), MAX_NATS_PER_TOKEN)
