"""Why a solve went as it did, in words: what decided it, how near it was, at which price it would have flipped.

The one place where these words are made: terminal and browser show the same sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.decision import TRAINING, Arm
from policies.records import EffectiveOutcome
from policies.trace_log import verdict_of
from router.trace import DecisionTrace, Trace
from router.traces.prices import ArmValue, arm_values, best_at, flips, utilities_at
from router.traces.stored import StoredTrace, quality_of

_SHOWN = 3  # features, and past tasks
_CLOCKS_S = 0.01  # by which the steps of a solve may come to more than all of it, each being timed by itself
_WEIGHTLESS = 0.0005  # a gain that is shown as 0.000 says nothing


@dataclass(frozen=True, slots=True)
class WhySentence:
    """What there is to say on one topic."""

    topic: str  # one or two words: verdict, reason, held_out, estimates, features, margin, price, draw, cost, ...
    text: str


def why(stored: StoredTrace) -> tuple[WhySentence, ...]:
    """Explain a solve by what is stored of it; see `explained`."""
    return explained(stored.trace, stored.outcomes)


def explained(trace: Trace, outcomes: Sequence[EffectiveOutcome] = ()) -> tuple[WhySentence, ...]:
    """Explain a solve, the verdict first, the way it took last; topics of which nothing is known are left out."""
    decision, values = trace.decision, arm_values(trace.decision)
    said = (
        ("verdict", verdict_line(trace, outcomes)),
        ("reason", f"{_sentence(decision)}. Estimated difficulty {decision.difficulty:.2f}."),
        ("held_out", _held_out(trace)),
        ("estimates", _estimates(decision)),
        ("features", _features(decision)),
        ("margin", _margin(decision, values)),
        ("price", _price(decision, values)),
        ("wish", f"Asked for: {decision.wish}." if decision.wish else ""),
        ("draw", _draw(decision)),
        ("cost", _cost(trace)),
        ("neighbours", _neighbours(decision)),
        ("adapter", _adapter(trace)),
        ("faults", " ".join(f"Degraded: {what.rstrip('.')}." for what in trace.degraded)),
        ("outcome", " ".join(map(_outcome, outcomes))),
        ("path", "Path: " + " → ".join(f"{step.name} {step.seconds * 1000:.0f} ms" for step in trace.path) + "."),
    )
    return tuple(WhySentence(topic, text) for topic, text in said if text)


def verdict_line(trace: Trace, outcomes: Sequence[EffectiveOutcome] = ()) -> str:
    """Return the one sentence at the top: the arm, how sure it was of its answer, what it took, how it turned out."""
    quality = quality_of(outcomes)
    by = "" if trace.answered_by == trace.decision.arm else f", answered by {trace.answered_by}"
    sure = ", ".join(f"{answer.confidence:.2f}" for answer in trace.answers)
    turned_out = {
        "right": "It was right",
        "wrong": "It was wrong",
        "partly": f"It was worth {quality or 0.0:.2f}",
        "unknown": "Whether it was right is not known yet",
    }[verdict_of(quality)]
    return (
        f"Task {trace.task.id}: {trace.decision.arm}{by}, confidence {sure}, in {trace.cost.seconds:.2f} s and "
        f"{trace.cost.tokens} tokens, decided by {trace.decision.policy}. {turned_out}."
    )


def measured_seconds(trace: Trace) -> dict[str, float]:
    """Return what each arm took that ran: `icl` is the probe, which always runs, the others are their own steps. Arms
    that did not run are not in it, nor is what was found out before deciding.
    """
    asked = trace.decision.arm
    of_step = {"probe": "icl", "answer_vote": "icl_vote"}
    of_step |= dict.fromkeys(("adapt", "answer_ttt"), asked if asked in TRAINING else "ttt")
    of_step |= {} if asked in (Arm.ICL, Arm.ICL_VOTE, *TRAINING) else {"answer_icl": asked}
    measured: dict[str, float] = {}
    for step in trace.path:
        if (arm := of_step.get(step.name)) is not None:
            measured[arm] = measured.get(arm, 0.0) + step.seconds
    return measured


def predicted_seconds(decision: DecisionTrace) -> dict[str, float]:
    """Return what each arm was expected to take, before the decision."""
    predicted = {
        str(arm): float(seconds)
        for arm, seconds in decision.features.get("predicted_cost_s") or ()
        if seconds is not None
    }
    told = {arm: each.predicted_cost_s for arm, each in decision.estimates.items()}
    return predicted | {arm: seconds for arm, seconds in told.items() if seconds is not None}


def _estimates(decision: DecisionTrace) -> str:
    shown = []
    for arm, estimate in decision.estimates.items():
        if estimate.p_correct is None:
            continue
        gain = ""
        if estimate.gain is not None and arm != "icl":
            spread = "" if estimate.gain_std is None else f" ± {estimate.gain_std:.3f}"
            gain = f", {estimate.gain:+.3f}{spread} over icl"
        shown.append(f"{arm} {estimate.p_correct:.3f}{gain}")
    if not shown:
        return ""
    learned = f", by what it has learned ({decision.stage})" if decision.stage else ""
    return f"Expected to be right: {'; '.join(shown)}{learned}."


def _features(decision: DecisionTrace) -> str:
    weighed = [each for each in decision.contributions if abs(each.gain) >= _WEIGHTLESS][:_SHOWN]
    if not weighed:
        return ""
    shown = []
    for each in weighed:
        value = "not known" if each.value is None else f"{each.value:.4g}"
        share = decision.percentiles.get(each.feature)
        above = "" if share is None else f", above {share:.0%} of the training tasks"
        shown.append(f"{each.feature} {value} (typically {each.typical:.4g}{above}) {each.gain:+.3f}")
    arm = f" on the gain of {decision.contributions_arm}" if decision.contributions_arm else ""
    return f"What weighed most{arm}: {'; '.join(shown)}."


def _margin(decision: DecisionTrace, values: Sequence[ArmValue]) -> str:
    """How near it was: utilities where there are any, else the probabilities that the rule gave."""
    if len(values) > 1 and decision.price is not None:
        ranked = sorted(utilities_at(tuple(values), decision.price).items(), key=lambda item: -item[1])
        (best, first), (other, second) = ranked[:2]
        near = "Close" if first - second < 0.05 else "Not close"
        return f"{near}: {best} was worth {first:.3f} after its cost, {other} {second:.3f}, {first - second:.3f} apart."
    n, k = decision.features.get("n_held_out"), decision.features.get("n_held_out_exact")
    if not decision.policy.startswith("loo_threshold@") or not isinstance(n, int) or not isinstance(k, int) or n == 0:
        return ""
    threshold = float(decision.policy.partition("threshold=")[2].partition(",")[0] or 1.0)
    needed = next((i for i in range(n + 1) if i / n >= threshold), n)
    if k >= needed:
        return f"Had {_counted(k - needed + 1, 'fewer')} been answered when held out, it would have been trained."
    return f"Had {_counted(needed - k, 'more')} been answered when held out, training would have been needless."


def _price(decision: DecisionTrace, values: Sequence[ArmValue]) -> str:
    if decision.price is None or not values:
        return "A rule decided, which knows no price: no price would have changed it." if not decision.estimates else ""
    found = flips(tuple(values))
    best = best_at(tuple(values), decision.price)
    above = next((flip for flip in found if flip.price > decision.price), None)
    below = next((flip for flip in reversed(found) if flip.price <= decision.price), None)
    said = []
    if above is not None:
        said.append(f"above a price of {above.price:.4g} it would have been {above.above}")
    if below is not None:
        said.append(f"below {below.price:.4g} it would have been {below.below}")
    if not said:
        return f"At a price of {decision.price:.4g} {best} was the best arm, and would be at every price."
    return f"At a price of {decision.price:.4g} {best} was the best arm; {', and '.join(said)}."


def _draw(decision: DecisionTrace) -> str:
    odds = ", ".join(f"{arm} {p:.3f}" for arm, p in decision.propensities.items())
    said = f"{decision.arm} was drawn with probability {decision.propensity:.3f} (of {odds})"
    if decision.propensity >= 1.0:
        return f"{said}: nothing was left to chance."
    return f"{said}: this was exploration, {decision.favourite} was the favourite." if decision.explored else f"{said}."


def _cost(trace: Trace) -> str:
    predicted, measured = predicted_seconds(trace.decision), measured_seconds(trace)
    has_adapter = {Arm.TTT} if trace.decision.features.get("adapter_cached") else set()
    parts = []
    for arm in dict.fromkeys((*trace.decision.propensities, *predicted)):
        kept = " with the adapter that is kept" if arm in has_adapter else ""
        expected = f"expected {predicted[arm]:.2f} s{kept}" if arm in predicted else "no expectation"
        if arm in measured:
            parts.append(f"{arm} {expected}, took {measured[arm]:.2f} s")
        elif arm in predicted:
            parts.append(f"{arm} would have taken about {predicted[arm]:.2f} s{kept} (an estimate)")
    # the steps of one among several are those of all of them
    if sum(step.seconds for step in trace.path) > trace.cost.seconds + _CLOCKS_S:
        parts.append(
            f"other tasks were at it in the same steps, and this one's share of all is {trace.cost.seconds:.2f} s"
        )
    return f"Cost: {'; '.join(parts)}." if parts else ""


def _neighbours(decision: DecisionTrace) -> str:
    near = [
        f"{each.task_id} (best by {each.best_arm}, {each.gain:+.2f} over icl)" for each in decision.nearest[:_SHOWN]
    ]
    return f"The most similar past tasks: {'; '.join(near)}." if near else ""


def _held_out(trace: Trace) -> str:
    if not trace.loo_nll:
        return ""
    shown = ", ".join(
        f"{'right' if exact else 'wrong'} ({nll:.2f} nats)"
        for exact, nll in zip(trace.loo_exact, trace.loo_nll, strict=True)
    )
    return f"Each demonstration held out in turn, in context: {shown}."


def _adapter(trace: Trace) -> str:
    adapter = trace.adapter
    if adapter is None:
        return ""
    how = "found in the store" if adapter.cached else f"trained in {adapter.train_seconds:.1f} s"
    losses = adapter.losses
    curve = f", loss {losses[0]:.2f} to {losses[-1]:.2f} nats over {len(losses)} steps" if losses else ""
    of = "" if adapter.tasks == 1 else f", for {adapter.tasks} tasks together"
    began = f", beginning with {adapter.parents[0][:12]}" if adapter.parents else ""
    verdict = f"; by its held-out demonstrations: {adapter.verdict}" if adapter.verdict else ""
    return f"Adapter {adapter.key[:12]}: {how}{of}{began}{curve}{verdict}."


def _outcome(outcome: EffectiveOutcome) -> str:
    reported = outcome.reported
    before = f" (before: {reported.value:g})" if outcome.corrections else ""
    what, _, beside = reported.kind.partition(":")
    if what == "implied":
        return f"It follows for {beside}: {outcome.value:g}{before}."
    of = f" of {beside}" if beside else ""
    return f"Outcome{of}: {what} {outcome.value:g}{before}, says {reported.source}."


def _counted(n: int, how: str) -> str:
    return f"{n} {how} demonstration{'' if n == 1 else 's'}"


def _sentence(decision: DecisionTrace) -> str:
    """Return the reason with a capital, unless it begins with the name of an arm."""
    text = decision.reason.rstrip(".")
    return text if text.partition(":")[0] in decision.propensities else text[:1].upper() + text[1:]


def lines(sentences: Sequence[WhySentence]) -> Iterator[str]:
    """Yield the sentences alone."""
    for sentence in sentences:
        yield sentence.text
