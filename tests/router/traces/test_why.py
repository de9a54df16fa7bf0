"""What is said of a trace is what the ledger holds, in whole sentences; nothing is said of what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.records import OutcomeRow
from router.trace import DecisionGrounds
from router.traces import StoredTrace, measured_seconds, read_trace, verdict_line, why
from tests.policies.fakes import features_with
from tests.router.traces.fakes import ADAPTER, GROUNDS, decided, keep, row_of, trace_of


def said(stored: StoredTrace) -> dict[str, str]:
    return {sentence.topic: sentence.text for sentence in why(stored)}


def verdict_of_stored(stored: StoredTrace) -> str:
    return verdict_line(stored.trace, stored.outcomes)


def learned(grounds: DecisionGrounds = GROUNDS, arm: str = "ttt", propensity: float = 0.95) -> StoredTrace:
    decision = replace(decided(LooThreshold()), arm=arm, propensity=propensity, policy="logistic@7")
    return StoredTrace(trace_of(decision, "t", grounds=grounds), row_of(decision, "t"), ())


def test_a_learned_decision_says_what_decided_it_how_near_it_was_and_where_it_would_flip() -> None:
    found = said(learned())

    assert found["estimates"] == (
        "Expected to be right: icl 0.400; ttt 0.800, +0.400 ± 0.100 over icl, by what it has learned (logistic)."
    )
    assert found["features"] == (
        "What weighed most on the gain of ttt: loo_exact_share 0.25 (typically 0.6, above 12% of the training tasks) "
        "+0.300; answer_nll not known (typically 1.5) -0.050."
    )
    assert found["margin"] == "Not close: ttt was worth 0.700 after its cost, icl 0.394, 0.306 apart."
    assert found["price"] == ("At a price of 0.1 ttt was the best arm; above a price of 0.4267 it would have been icl.")
    assert found["neighbours"] == "The most similar past tasks: flip_7 (best by ttt, +1.00 over icl)."


def test_a_price_that_is_past_the_flip_is_told_from_the_other_side() -> None:
    estimates = {
        arm: each.model_copy(update={"utility": each.p_correct - cost})
        for (arm, each), cost in zip(GROUNDS.estimates.items(), (0.0625, 1.0), strict=True)
        if each.p_correct is not None
    }
    found = said(learned(GROUNDS.model_copy(update={"price": 1.0, "estimates": estimates}), arm="icl"))

    assert found["price"] == "At a price of 1 icl was the best arm; below 0.4267 it would have been ttt."


def test_the_rule_says_what_it_would_have_taken_and_that_it_knows_no_price(ledger: Ledger) -> None:
    keep(ledger, "trace-1", policy=LooThreshold(epsilon=0.0), adapter=ADAPTER)
    found = said(read_trace(ledger, "trace-1"))

    assert (
        found["margin"] == "Had 2 more demonstrations been answered when held out, training would have been needless."
    )
    assert found["price"] == "A rule decided, which knows no price: no price would have changed it."
    assert found["draw"].endswith("nothing was left to chance.")
    assert (
        found["reason"]
        == "1 of 3 demonstrations answered when held out, below 1.00: training. Estimated difficulty 0.62."
    )
    assert found["adapter"] == (
        "Adapter kkkkkkkkkkkk: trained in 8.5 s, loss 2.00 to 0.50 nats over 2 steps; "
        "by its held-out demonstrations: learned."
    )
    assert found["path"].startswith("Path: admit 125 ms → probe 125 ms")
    assert "estimates" not in found


def test_exploration_is_called_exploration() -> None:
    seed = next(seed for seed in range(99) if decided(LooThreshold(epsilon=0.5), seed=seed).arm == "icl")
    decision = decided(LooThreshold(epsilon=0.5), seed=seed)
    stored = StoredTrace(trace_of(decision, "t"), row_of(decision, "t"), ())

    assert "this was exploration, ttt was the favourite" in said(stored)["draw"]
    assert "exploration" in said(learned(arm="icl", propensity=0.05))["draw"]


def test_costs_are_told_predicted_beside_measured_and_the_others_as_estimates(ledger: Ledger) -> None:
    keep(ledger, "trace-1", policy=AlwaysArm("ttt"))
    stored = read_trace(ledger, "trace-1")

    assert said(stored)["cost"] == "Cost: icl expected 0.50 s, took 0.12 s; ttt expected 9.00 s, took 8.62 s."
    assert measured_seconds(stored.trace) == {"icl": 0.125, "ttt": 8.625}
    keep(ledger, "trace-2", policy=AlwaysArm("icl"))
    assert "ttt would have taken about 9.00 s (an estimate)" in said(read_trace(ledger, "trace-2"))["cost"]


def test_of_one_solved_among_several_the_share_is_told_beside_what_its_steps_took(ledger: Ledger) -> None:
    keep(ledger, "trace-1", policy=AlwaysArm("ttt"))
    stored = read_trace(ledger, "trace-1")
    share = stored.trace.cost.model_copy(update={"seconds": 2.0})
    shared = replace(stored, trace=stored.trace.model_copy(update={"cost": share}))

    assert "and this one's share of all is 2.00 s" in said(shared)["cost"]


def test_an_estimate_that_rests_on_a_kept_adapter_says_so_and_an_arm_keeps_its_small_letter(ledger: Ledger) -> None:
    keep(ledger, "trace-2", policy=LooThreshold(epsilon=0.0))
    stored = read_trace(ledger, "trace-2")
    features = {**stored.trace.decision.features, "adapter_cached": True}
    decision = stored.trace.decision.model_copy(update={"features": features, "reason": "ttt: an expected gain of 0.5"})
    told = said(replace(stored, trace=stored.trace.model_copy(update={"decision": decision})))

    assert "ttt expected 9.00 s with the adapter that is kept, took 8.62 s" in told["cost"]
    assert told["reason"].startswith("ttt: an expected gain of 0.5. Estimated")


def test_outcomes_and_faults_are_told_as_the_ledger_holds_them_today(ledger: Ledger) -> None:
    keep(ledger, "trace-1", degraded=("no GPU", "store away."))
    assert verdict_of_stored(read_trace(ledger, "trace-1")).endswith("Whether it was right is not known yet.")
    ledger.add_outcome(OutcomeRow("trace-1", "user", "exact", 1.0))
    assert verdict_of_stored(read_trace(ledger, "trace-1")).endswith("It was right.")
    ledger.correct_outcome("trace-1", source="user", kind="exact", value=0.0, reason="misread")

    found = said(read_trace(ledger, "trace-1"))

    assert found["outcome"] == "Outcome: exact 0 (before: 1), says user."
    assert found["verdict"].endswith("It was wrong.")
    assert found["faults"] == "Degraded: no GPU. Degraded: store away."
    ledger.correct_outcome("trace-1", source="user", kind="exact", value=0.5, reason="partly")
    assert said(read_trace(ledger, "trace-1"))["verdict"].endswith("It was worth 0.50.")


@pytest.mark.parametrize("loo", [(True, True, True), ()])
def test_what_is_far_from_training_says_so_or_nothing(loo: tuple[bool, ...]) -> None:
    features = features_with(loo, n_demonstrations=3)
    decision = decided(LooThreshold(epsilon=0.0), features)
    trace = trace_of(decision, "t")
    known = {"n_held_out": len(loo), "n_held_out_exact": sum(loo)}
    trace = trace.model_copy(update={"decision": trace.decision.model_copy(update={"features": known})})
    found = said(StoredTrace(trace, row_of(decision, "t", features=features), ()))

    assert found.get("margin") == (
        "Had 1 fewer demonstration been answered when held out, it would have been trained." if loo else None
    )
