"""What the page of one trace shows, panel by panel, made of the trace alone. Strings and drawings, nothing to compute.

A field that a trace does not have (an older schema, a rule that estimates nothing) is an empty panel, and the page says
so; no panel guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from icl_engine.task import Value
from policies.features import FEATURES
from policies.trace_log import verdict_of
from router.trace import AnswerTrace, Trace
from router.traces.stored import StoredTrace
from router.traces.why import measured_seconds, predicted_seconds
from router.ui import charts
from router.ui.graph_drawing import graph_svg, milliseconds
from router.ui.values import Shown, difference, shown, text_of
from router.ui.words import outcome_lines, why

_SURE = 1.96  # standard errors of a band that holds 95 times in 100
_UNUSUAL = 0.02  # share of training tasks beyond a value, below which it is worth a word

Fact = tuple[str, str]  # name, what is said


@dataclass(frozen=True, slots=True)
class StepShown:
    """One step of the path."""

    name: str
    time: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class FeatureShown:
    """One feature, with what it is measured against."""

    name: str
    meaning: str
    value: str
    typical: str
    percentile: str
    unusual: bool
    gain: str
    bar: Markup | None


@dataclass(frozen=True, slots=True)
class ArmShown:
    """What the policy expected of one arm, and how likely it was to take it."""

    arm: str
    taken: bool
    p_correct: str
    gain: str
    predicted: str
    actual: str
    utility: str
    propensity: str


@dataclass(frozen=True, slots=True)
class QueryShown:
    """One query with every candidate."""

    name: str
    query: Shown
    right: Shown | None
    candidates: tuple[Shown, ...]
    margin: str
    in_context: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class TracePanels:
    """Everything on the page of one trace."""

    outcome: str
    verdict: tuple[Fact, ...]
    why: tuple[str, ...]
    outcomes: tuple[str, ...]
    graph: Markup
    steps: tuple[StepShown, ...]
    features: tuple[FeatureShown, ...]
    contributions_to: str | None
    arms: tuple[ArmShown, ...]
    bands: Markup | None
    propensities: Markup
    costs: Markup | None
    pairs: tuple[tuple[Shown, Shown, str], ...]  # input, output, how it was answered when held out
    instruction: Markup | None
    queries: tuple[QueryShown, ...]
    adapter: tuple[Fact, ...]
    adapter_parents: tuple[str, ...]
    losses: Markup | None
    nearest: tuple[tuple[str, str, str, str], ...]
    degraded: tuple[str, ...]


def trace_panels(stored: StoredTrace, solutions: Sequence[Value | None]) -> TracePanels:
    """Make the panels of a trace.

    Args:
        solutions: what is right, per query; empty where it is not known.
    """
    trace, outcomes = stored.trace, stored.outcomes
    decision, adapter = trace.decision, trace.adapter
    return TracePanels(
        outcome=verdict_of(stored.quality),
        verdict=_verdict(stored),
        why=why(trace, outcomes),
        outcomes=outcome_lines(outcomes),
        graph=graph_svg(trace.path),
        steps=_steps(trace),
        features=_features(trace),
        contributions_to=decision.contributions_arm if decision.contributions else None,
        arms=_arms(trace),
        bands=_bands(trace),
        propensities=charts.shares(
            list(decision.propensities.items()), "Probability with which each arm was drawn", decision.arm
        ),
        costs=_costs(trace),
        pairs=tuple(_pair(trace, i) for i in range(len(trace.task.demonstrations))),
        instruction=None if trace.task.instruction is None else text_of(trace.task.instruction),
        queries=tuple(_query(trace, i, solutions) for i in range(len(trace.task.queries))),
        adapter=_adapter(trace),
        adapter_parents=() if adapter is None else adapter.parents,
        losses=charts.curve(adapter.losses, f"Training loss over {len(adapter.losses)} steps")
        if adapter is not None and adapter.losses
        else None,
        nearest=tuple(
            (near.task_id, f"{near.distance:.3g}", near.best_arm, f"{near.gain:+.2f}") for near in decision.nearest
        ),
        degraded=trace.degraded,
    )


def _verdict(stored: StoredTrace) -> tuple[Fact, ...]:
    trace = stored.trace
    decision, cost = trace.decision, trace.cost
    gpu = f", {cost.gpu_seconds:.2f} GPU-seconds" if cost.gpu_seconds else ""
    regret = trace.facts().regret
    return (
        ("answered by", trace.answered_by),
        ("confidence", ", ".join(f"{answer.confidence:.2f}" for answer in trace.answers)),
        ("cost", f"{cost.seconds:.2f} s{gpu}, {cost.tokens} tokens"),
        ("drawn with", f"{decision.propensity:.3f}" + (", as an exploration" if decision.explored else "")),
        ("regret", "not recorded" if regret is None else f"{regret:.3f}"),
        ("difficulty", f"{decision.difficulty:.2f}"),
        ("policy", decision.policy),
        ("stage", decision.stage or "not recorded"),
        ("price", "not recorded" if decision.price is None else f"{decision.price:g}"),
        ("flips at", "not recorded" if decision.price is None else _flip(decision.flip_price)),
        ("asked for", decision.wish or "nothing else"),
        ("decided", (stored.created_at or "not recorded")[:19].replace("T", " ")),
        ("tenant", trace.tenant),
        ("model", trace.model_fingerprint[:16]),
        ("seed", str(trace.seed)),
    )


def _flip(price: float | None) -> str:
    return "no price" if price is None else f"a price of {price:.3g}"


def _steps(trace: Trace) -> tuple[StepShown, ...]:
    total = sum(step.seconds for step in trace.path) or 1.0
    begun, rows = 0.0, []
    for step in trace.path:
        bar = charts.span(begun / total, step.seconds / total, f"{step.seconds / total:.0%} of the time")
        rows.append(StepShown(step.name, milliseconds(step.seconds), bar))
        begun += step.seconds
    return tuple(rows)


def _features(trace: Trace) -> tuple[FeatureShown, ...]:
    decision = trace.decision
    gains = {each.feature: each for each in decision.contributions}
    largest = max((abs(each.gain) for each in decision.contributions), default=0.0)
    about = {feature.name: f"{feature.meaning}, in {feature.unit}" for feature in FEATURES}
    names = [*gains, *(name for name in decision.features if name not in gains and name != "predicted_cost_s")]
    rows = []
    for name in names:
        gain, percentile = gains.get(name), decision.percentiles.get(name)
        value = decision.features.get(name, None if gain is None else gain.value)
        rows.append(
            FeatureShown(
                name=name,
                meaning=about.get(name, ""),
                value=_number(value),
                typical="not recorded" if gain is None else _number(gain.typical),
                percentile="not recorded" if percentile is None else f"{percentile:.0%}",
                unusual=percentile is not None and not _UNUSUAL < percentile < 1 - _UNUSUAL,
                gain="not recorded" if gain is None else f"{gain.gain:+.3f}",
                bar=None if gain is None else charts.signed_bar(gain.gain, largest, f"{name}: {gain.gain:+.3f}"),
            )
        )
    return tuple(rows)


def _number(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _arms(trace: Trace) -> tuple[ArmShown, ...]:
    decision, predicted, actual = trace.decision, predicted_seconds(trace.decision), measured_seconds(trace)
    names = dict.fromkeys([*decision.propensities, *decision.estimates, *predicted])
    rows = []
    for arm in names:
        said = decision.estimates.get(arm)
        gain = None if said is None or said.gain is None else f"{said.gain:+.2f}"
        std = None if said is None or said.gain_std is None else f" ± {said.gain_std:.2f}"
        rows.append(
            ArmShown(
                arm=arm,
                taken=arm == decision.arm,
                p_correct=_probability(trace, arm),
                gain="not recorded" if gain is None else gain + (std or ""),
                predicted=f"{predicted[arm]:.3g} s" if arm in predicted else "not recorded",
                actual=f"{actual[arm]:.3g} s" if arm in actual else "did not run",
                utility="not recorded" if said is None or said.utility is None else f"{said.utility:.3f}",
                propensity=f"{decision.propensities[arm]:.3f}" if arm in decision.propensities else "not available",
            )
        )
    return tuple(rows)


def _probability(trace: Trace, arm: str) -> str:
    said = trace.decision.estimates.get(arm)
    if said is not None and said.p_correct is not None:
        return f"{said.p_correct:.2f}"
    return f"{1 - trace.decision.difficulty:.2f}" if arm == "icl" else "not recorded"


def _bands(trace: Trace) -> Markup | None:
    rows = []
    for arm, said in trace.decision.estimates.items():
        if said.p_correct is not None:
            half = None if not said.gain_std else _SURE * said.gain_std
            low = None if half is None else max(0.0, said.p_correct - half)
            high = None if half is None else min(1.0, said.p_correct + half)
            rows.append(charts.Band(arm, said.p_correct, low, high, arm == trace.decision.arm))
    return charts.bands(rows, "Probability that each arm is right, with bands of 95 %") if rows else None


def _costs(trace: Trace) -> Markup | None:
    predicted, actual = predicted_seconds(trace.decision), measured_seconds(trace)
    names = dict.fromkeys([*predicted, *actual])
    rows = [charts.CostBar(arm, predicted.get(arm), actual.get(arm)) for arm in names]
    return charts.cost_bars(rows, "Predicted and actual seconds of each arm") if rows else None


def _pair(trace: Trace, i: int) -> tuple[Shown, Shown, str]:
    pair = trace.task.demonstrations[i]
    held_out = "not held out"
    if i < len(trace.loo_exact):
        held_out = f"held out: {'right' if trace.loo_exact[i] else 'wrong'} in context, {trace.loo_nll[i]:.2f} nats"
    return shown(pair.input, f"input {i + 1}"), shown(pair.output, f"output {i + 1}"), held_out


def _query(trace: Trace, i: int, solutions: Sequence[Value | None]) -> QueryShown:
    known = solutions[i] if i < len(solutions) else None
    name = "query" if len(trace.task.queries) == 1 else f"query {i + 1}"
    return QueryShown(
        name=name,
        query=shown(trace.task.queries[i], name),
        right=None if known is None else shown(known, "right answer"),
        candidates=_candidates(trace.answers[i], known, "answer") if i < len(trace.answers) else (),
        margin=_margin(trace.answers[i]) if i < len(trace.answers) else "not recorded",
        in_context=_candidates(trace.icl[i], known, "in context") if i < len(trace.icl) else (),
    )


def _candidates(answer: AnswerTrace, known: Value | None, name: str) -> tuple[Shown, ...]:
    cards = []
    for k, candidate in enumerate(answer.candidates):
        against = known if known is not None else answer.candidates[0].value if k else None
        votes = f"{candidate.n_votes} vote{'' if candidate.n_votes == 1 else 's'} ({candidate.share:.0%})"
        odds = (
            "no view gave it as it is" if candidate.log_probability is None else f"{candidate.log_probability:.2f} nats"
        )
        note = f"{votes}, {odds}"
        if known is not None:
            note += "; right" if candidate.value == known else f"; wrong: {difference(candidate.value, known)}"
        elif against is not None:
            note += f"; against the best: {difference(candidate.value, against)}"
        cards.append(shown(candidate.value, name if k == 0 else f"{name}, second", against=against, note=note))
    return tuple(cards)


def _margin(answer: AnswerTrace) -> str:
    if not answer.candidates:
        return "no view gave an answer"
    best, *rest = (candidate.share for candidate in answer.candidates)
    ahead = f"{best - rest[0]:.0%} of the votes ahead of the second" if rest else "no second candidate"
    return f"confidence {answer.confidence:.2f}, {ahead}"


def _adapter(trace: Trace) -> tuple[Fact, ...]:
    adapter = trace.adapter
    if adapter is None:
        return ()
    began = adapter.losses[0] if adapter.losses else None
    shown = f"{len(trace.task.demonstrations)} demonstrations"
    return (
        ("key", adapter.key),
        ("base model", trace.model_fingerprint),
        ("came from", "the store" if adapter.cached else f"training, {adapter.train_seconds:.2f} s"),
        ("trained on", shown if adapter.tasks == 1 else f"those of {adapter.tasks} tasks, {shown} of this one"),
        ("its own verdict", adapter.verdict or "not recorded"),
        ("loss", "not recorded" if began is None else f"{began:.3f} to {adapter.losses[-1]:.3f} nats per token"),
        ("LoRA", ", ".join(f"{name} {value}" for name, value in adapter.lora.items()) or "not recorded"),
        ("size", "not recorded" if adapter.adapter_bytes is None else f"{adapter.adapter_bytes / 1024:.0f} KiB"),
    )
