"""Features: what a policy may know of a task before it is answered.

Built from the task, the probe and what further stages were run. A `Task` carries no solution, so no feature can see
one. `FEATURES` names every field with its unit, its stage and what it costs; `SCHEMA_HASH` changes with the table, so
that logged features are never read as others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from policies.stages import Stage
from policies.structure import structure_of

if TYPE_CHECKING:
    from icl_engine.task import Task
    from policies.feature_values import FeatureValues

MAX_NATS_PER_TOKEN = 100.0  # an impossible token has infinite surprise; JSON and later models need a finite one
N_HIDDEN = 8
LEAST_FOR_A_TRIAL = 3  # demonstrations: one held out, and two that can be trained on


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
    def answer_entropy(self) -> float | None:
        """Nats per token; None where the model does not tell."""
        ...

    @property
    def answer_margin(self) -> float | None: ...

    @property
    def answer_least_margin(self) -> float | None: ...

    @property
    def demonstration_nll(self) -> tuple[float, ...]:
        """Nats per token of each demonstration's output given those before it."""
        ...

    @property
    def demonstration_exact(self) -> tuple[bool, ...]: ...

    @property
    def loo_nll(self) -> tuple[float, ...]:
        """Nats per token of each demonstration's output when held out; empty where leave-one-out was not run."""
        ...

    @property
    def loo_exact(self) -> tuple[bool, ...]: ...

    @property
    def vote_agreement(self) -> float | None:
        """Share of views that say what the answer says; None where no view was asked."""
        ...

    @property
    def hidden(self) -> tuple[float, ...]:
        """`N_HIDDEN` numbers, or none."""
        ...

    @property
    def prompt_tokens(self) -> int: ...


class TrialSignals(Protocol):
    """What features read of a trial of training."""

    @property
    def untrained_nll(self) -> float:
        """Nats per token of a held-out demonstration's output, before."""
        ...

    @property
    def trained_nll(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table of features."""

    name: str
    unit: str
    meaning: str
    stage: Stage
    prompts: float = 0.0  # read for it, beside those of the answer in context; several may come of the same ones
    per: Literal["task", "demonstration", "view", "training sequence"] = "task"  # that many prompts each


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one task; units and meanings are in `FEATURES`. None: not known, as its stage did not run or
    there is nothing of the kind.
    """

    kind: str
    n_demonstrations: int
    n_queries: int
    input_size: float
    output_size: float
    query_size: float
    size_ratio: float
    query_size_ratio: float
    same_shape_share: float
    same_cell_share: float | None
    n_symbols: float
    symbols_kept_share: float
    query_new_symbol_share: float
    n_words: float | None
    n_output_words: float | None
    has_instruction: bool
    adapter_cached: bool
    nearest_adapter_distance: float | None
    n_held_out: int | None
    n_held_out_exact: int | None
    loo_exact_share: float | None
    loo_nll_mean: float | None
    loo_nll_worst: float | None
    loo_nll_spread: float | None
    loo_nll_slope: float | None
    shown_nll_change: float | None
    shown_exact_share: float | None
    answer_confidence: float
    answer_nll: float
    answer_entropy: float | None
    answer_margin: float | None
    answer_least_margin: float | None
    prompt_tokens: int
    predicted_cost_s: tuple[tuple[str, float], ...]
    hidden_0: float | None
    hidden_1: float | None
    hidden_2: float | None
    hidden_3: float | None
    hidden_4: float | None
    hidden_5: float | None
    hidden_6: float | None
    hidden_7: float | None
    vote_agreement: float | None
    trial_nll: float | None
    trial_nll_change: float | None

    def value(self, name: str) -> float | None:
        """Return one feature of `FEATURE_NAMES` as a number; None where it is not known, or is no such feature."""
        if name == "is_text":
            return float(self.kind == "text")
        value = getattr(self, name) if name in FEATURE_NAMES else None
        return None if value is None else float(value)

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name. None of them can be changed, so none is copied."""
        return {each.name: getattr(self, each.name) for each in _FIELDS}

    def as_json(self) -> str:
        """Return canonical JSON: the same text for the same features on every machine."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `as_json` wrote under the same `SCHEMA_HASH`."""
        content: dict[str, Any] = json.loads(text)
        costs = tuple((str(arm), float(seconds)) for arm, seconds in content.pop("predicted_cost_s"))
        return cls(**content, predicted_cost_s=costs)


_FIELDS = fields(Features)
_S0, _S1, _S2, _S3, _S4 = Stage
_HELD_OUT: tuple[float, Literal["demonstration"]] = (1, "demonstration")
_TRAINED: tuple[float, Literal["training sequence"]] = (3, "training sequence")

FEATURES: tuple[Feature, ...] = (
    Feature("kind", "grid or text", "kind of the task's values; as a number `is_text`, 1 for text", _S0),
    Feature("n_demonstrations", "demonstrations", "demonstrations given", _S0),
    Feature("n_queries", "queries", "queries asked", _S0),
    Feature("input_size", "cells or characters", "mean size of the demonstrations' inputs", _S0),
    Feature("output_size", "cells or characters", "mean size of the demonstrations' outputs", _S0),
    Feature("query_size", "cells or characters", "mean size of the queries", _S0),
    Feature("size_ratio", "ratio", "output_size over input_size", _S0),
    Feature("query_size_ratio", "ratio", "query_size over input_size", _S0),
    Feature("same_shape_share", "share", "demonstrations whose output has its input's shape (text: length)", _S0),
    Feature("same_cell_share", "share", "cells that outputs of their inputs' shape leave as they are; grids only", _S0),
    Feature("n_symbols", "colours or characters", "different ones in a demonstration, the mean", _S0),
    Feature("symbols_kept_share", "share", "of the symbols of an output those its input has, the mean", _S0),
    Feature("query_new_symbol_share", "share", "of the queries' symbols those in no demonstrated input", _S0),
    Feature("n_words", "words", "mean number in the demonstrations' inputs; text only", _S0),
    Feature("n_output_words", "words", "mean number in the demonstrations' outputs; text only", _S0),
    Feature("has_instruction", "boolean", "the task says in words what is to be done", _S0),
    Feature("adapter_cached", "boolean", "an adapter for exactly this task is at hand", _S0),
    Feature("nearest_adapter_distance", "share", "1 - likeness to the nearest task that an adapter is known of", _S0),
    Feature("n_held_out", "demonstrations", "demonstrations scored by leave-one-out", _S2, *_HELD_OUT),
    Feature("n_held_out_exact", "demonstrations", "of those, answered exactly", _S2, *_HELD_OUT),
    Feature("loo_exact_share", "share", "n_held_out_exact over n_held_out", _S2, *_HELD_OUT),
    Feature("loo_nll_mean", "nats per token", "mean surprise at a held-out output", _S2, *_HELD_OUT),
    Feature("loo_nll_worst", "nats per token", "largest surprise at a held-out output", _S2, *_HELD_OUT),
    Feature("loo_nll_spread", "nats per token", "standard deviation of the held-out surprises", _S2, *_HELD_OUT),
    Feature("loo_nll_slope", "nats per token", "change of surprise with each demonstration more before, but none", _S1),
    Feature("shown_nll_change", "nats per token", "surprise at the last demonstration's output less the first's", _S1),
    Feature("shown_exact_share", "share", "demonstrations answered exactly given those before, but the first", _S1),
    Feature("answer_confidence", "probability", "the probe's confidence in its own answer", _S1),
    Feature("answer_nll", "nats per token", "surprise of the probe's own answer", _S1),
    Feature("answer_entropy", "nats per token", "entropy of the choice of each token of the probe's answers", _S1),
    Feature("answer_margin", "nats per token", "from a token of these answers to its runner-up, the mean", _S1),
    Feature("answer_least_margin", "nats", "the same at the closest choice", _S1),
    Feature("prompt_tokens", "tokens", "length of the probe's prompt", _S1),
    Feature("predicted_cost_s", "seconds per arm", "predicted cost of each arm on this device", _S1),
    *(
        Feature(f"hidden_{i}", "standard units", f"state at the prompt's end, projection {i}; text only", _S1)
        for i in range(N_HIDDEN)
    ),
    Feature("vote_agreement", "share", "views of the queries that agree with the probe's answers", _S3, 1, "view"),
    Feature("trial_nll", "nats per token", "surprise at a held-out output after a trial of training", _S4, *_TRAINED),
    Feature("trial_nll_change", "nats per token", "trial_nll less the surprise before", _S4, *_TRAINED),
)

FEATURE_NAMES: tuple[str, ...] = (
    "is_text",
    *(feature.name for feature in FEATURES if feature.name not in ("kind", "predicted_cost_s")),
)

ASKED_FOR = frozenset(feature.name for feature in FEATURES if feature.stage > Stage.PROBE)  # not of every task, then

SCHEMA_HASH = hashlib.sha256(json.dumps([(f.name, f.unit) for f in FEATURES]).encode()).hexdigest()[:16]


def stage_wanted(names: Sequence[str], features: FeatureValues) -> Stage | None:
    """Return the cheapest stage after the probe that gives one of the features `names`; None: there is none.

    What a policy that reads these features should ask for before it decides.
    """
    unknown = {name for name in names if name in ASKED_FOR and features.value(name) is None}
    later = {each.stage for each in FEATURES if each.name in unknown} if unknown else set()
    return min(later - _nothing_there(features), default=None)


def _nothing_there(features: FeatureValues) -> set[Stage]:
    """Return the stages that find nothing out of a task of so few demonstrations."""
    n, is_text = features.value("n_demonstrations"), features.value("is_text")
    if n is None:
        return set()
    least = {Stage.HELD_OUT: 2, Stage.VOTES: 2 if is_text else 1, Stage.TRIAL: LEAST_FOR_A_TRIAL}
    return {stage for stage, least_n in least.items() if n < least_n}


def features_of(
    task: Task,
    probe: ProbeSignals,
    *,
    adapter_cached: bool,
    predicted_cost_s: Mapping[str, float],
    nearest_adapter_distance: float | None = None,
    trial: TrialSignals | None = None,
) -> Features:
    """Build the features of `task` from its one probe and what else was found out.

    Args:
        adapter_cached: an adapter for exactly this task is in the store.
        predicted_cost_s: seconds per arm name; the order does not matter.
        nearest_adapter_distance: None where no adapter is known.
        trial: of training, where that stage ran.
    """
    return Features(
        kind=task.kind,
        adapter_cached=adapter_cached,
        nearest_adapter_distance=nearest_adapter_distance,
        predicted_cost_s=tuple(sorted((str(arm), float(cost)) for arm, cost in predicted_cost_s.items())),
        vote_agreement=probe.vote_agreement,
        **structure_of(task).as_dict(),
        **_held_out(probe),
        **_shown(probe),
        **_answer(probe),
        **_tried(trial),
    )


def _held_out(probe: ProbeSignals) -> dict[str, Any]:
    n, n_exact = len(probe.loo_exact), sum(probe.loo_exact)
    nll = [_finite_nats(each) for each in probe.loo_nll]
    return {
        "n_held_out": n or None,
        "n_held_out_exact": n_exact if n else None,
        "loo_exact_share": n_exact / n if n else None,
        "loo_nll_mean": fmean(nll) if nll else None,
        "loo_nll_worst": max(nll) if nll else None,
        "loo_nll_spread": pstdev(nll) if nll else None,
    }


def _shown(probe: ProbeSignals) -> dict[str, Any]:
    """Say how the model takes the demonstrations in order; before the first it has seen nothing of the task."""
    nll = [_finite_nats(each) for each in probe.demonstration_nll]
    exact = probe.demonstration_exact[1:]
    return {
        "loo_nll_slope": _slope(nll[1:]),
        "shown_nll_change": nll[-1] - nll[0] if len(nll) > 1 else None,
        "shown_exact_share": fmean(exact) if exact else None,
    }


def _answer(probe: ProbeSignals) -> dict[str, Any]:
    states: Sequence[float | None] = probe.hidden or [None] * N_HIDDEN
    return {
        "answer_confidence": _probability(probe.answer.confidence),
        "answer_nll": _finite_nats(-probe.answer_log_probability / max(probe.answer_tokens, 1)),
        "answer_entropy": None if probe.answer_entropy is None else _finite_nats(probe.answer_entropy),
        "answer_margin": _margin(probe.answer_margin),
        "answer_least_margin": _margin(probe.answer_least_margin),
        "prompt_tokens": probe.prompt_tokens,
        **{f"hidden_{i}": state for i, state in enumerate(states)},
    }


def _tried(trial: TrialSignals | None) -> dict[str, Any]:
    if trial is None:
        return {"trial_nll": None, "trial_nll_change": None}
    nll = _finite_nats(trial.trained_nll)
    return {"trial_nll": nll, "trial_nll_change": nll - _finite_nats(trial.untrained_nll)}


def _slope(values: Sequence[float]) -> float | None:
    """Return the slope of the least-squares line through values that are one apart; None with fewer than two."""
    n = len(values)
    if n < 2:
        return None
    return math.fsum((i - (n - 1) / 2) * value for i, value in enumerate(values)) * 12 / (n * (n * n - 1))


def _margin(nats: float | None) -> float | None:
    """Clip as `_finite_nats` does, but NaN counts as no margin at all, which is the worst of them."""
    return None if nats is None else 0.0 if math.isnan(nats) else _finite_nats(nats)


def _probability(share: float) -> float:
    """Clip to [0, 1]; NaN counts as no confidence at all."""
    return 0.0 if math.isnan(share) else min(max(float(share), 0.0), 1.0)


def _finite_nats(nats: float) -> float:
    """Clip to [0, MAX_NATS_PER_TOKEN]; NaN, which only a broken model gives, counts as the worst."""
    return MAX_NATS_PER_TOKEN if math.isnan(nats) else min(max(nats, 0.0), MAX_NATS_PER_TOKEN)
