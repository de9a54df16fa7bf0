"""Stored traces for the tests: decided by a real policy, kept in a real ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icl_engine.task import Task
from policies.decision import Decision, Policy
from policies.features import Features
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.records import DecisionRow, MeasuredCost, TraceRow
from policies.trace_log import TraceEntry
from router.decision_seed import decision_rng
from router.trace import (
    AdapterTrace,
    AnswerTrace,
    ArmEstimate,
    CandidateTrace,
    ContributionTrace,
    CostTrace,
    DecisionGrounds,
    DecisionTrace,
    NearestTask,
    Step,
    Trace,
)
from tests.policies.fakes import features_with
from tests.router.fakes import grid_task

ARMS = ("icl", "icl_vote", "ttt")
FEATURES = features_with((True, False, False))
ADAPTER = AdapterTrace(key="k" * 64, cached=False, losses=(2.0, 0.5), train_seconds=8.5, verdict="learned")

GROUNDS = DecisionGrounds(
    estimates={
        "icl": ArmEstimate(p_correct=0.4, gain=0.0, gain_std=0.0, predicted_cost_s=0.5, utility=0.4 - 0.1 * 0.0625),
        "ttt": ArmEstimate(p_correct=0.8, gain=0.4, gain_std=0.1, predicted_cost_s=8.0, utility=0.8 - 0.1 * 1.0),
    },
    contributions=(
        ContributionTrace(feature="loo_exact_share", value=0.25, typical=0.6, gain=0.3),
        ContributionTrace(feature="answer_nll", value=None, typical=1.5, gain=-0.05),
        ContributionTrace(feature="n_queries", value=1.0, typical=1.0, gain=0.0),
    ),
    contributions_arm="ttt",
    nearest=(NearestTask(task_id="flip_7", distance=0.25, best_arm="ttt", gain=1.0),),
    price=0.1,
    flip_price=0.4 / 0.9375,
    percentiles={"loo_exact_share": 0.12},
    stage="logistic",
)


def decided(policy: Policy, features: Features = FEATURES, *, seed: int = 0, arms: Sequence[str] = ARMS) -> Decision:
    return policy.decide(features, decision_rng(grid_task().fingerprint, seed), arms)


def trace_of(
    decision: Decision,
    trace_id: str,
    *,
    seed: int = 0,
    task: Task | None = None,
    grounds: DecisionGrounds | None = None,
    adapter: AdapterTrace | None = None,
    degraded: tuple[str, ...] = (),
) -> Trace:
    candidate = CandidateTrace(value=((0, 5, 4),), n_votes=3, share=0.75, log_probability=-0.5)
    other = CandidateTrace(value=((4, 5, 0),), n_votes=1, share=0.25, log_probability=None)
    answer = AnswerTrace(candidates=(candidate, other), confidence=0.75)
    trained = decision.arm == "ttt"
    path = ("admit", "probe", "lookup", "decide", *(("adapt", "answer_ttt") if trained else ("answer_icl",)), "verify")
    return Trace(
        trace_id=trace_id,
        created_at="2026-01-02T12:00:00.000000+00:00",
        task=task or grid_task(),
        model_fingerprint="f" * 64,
        seed=seed,
        icl=(AnswerTrace(candidates=(other,), confidence=0.25),),
        loo_exact=(True, False),
        loo_nll=(0.1, 2.5),
        decision=DecisionTrace(
            **{} if grounds is None else grounds.model_dump(),
            arm=decision.arm,
            propensity=decision.propensity,
            propensities=dict(decision.propensities),
            reason=decision.reason,
            policy=decision.policy,
            difficulty=decision.difficulty,
            features={"predicted_cost_s": FEATURES.predicted_cost_s, "n_held_out": 3, "n_held_out_exact": 1},
        ),
        answers=(answer,),
        answered_by=decision.arm,
        adapter=adapter,
        cost=CostTrace(seconds=9.25, gpu_seconds=0.0, tokens=1234),
        degraded=degraded,
        path=tuple(Step(name=name, seconds=8.5 if name == "adapt" else 0.125) for name in path),
    )


def row_of(decision: Decision, trace_id: str, *, features: Features = FEATURES, seed: int = 0) -> DecisionRow:
    task = grid_task()
    return DecisionRow.of(
        decision,
        features,
        decision_id=trace_id,
        task_fingerprint=task.fingerprint,
        task_id=task.id,
        measured=MeasuredCost(9.25, 0.0, 1234),
        seed=seed,
    )


def keep(
    ledger: Ledger,
    trace_id: str,
    *,
    policy: Policy | None = None,
    seed: int = 0,
    features: Features = FEATURES,
    grounds: DecisionGrounds | None = None,
    adapter: AdapterTrace | None = None,
    degraded: tuple[str, ...] = (),
    task: Task | None = None,
) -> Trace:
    """Decide, and keep decision and trace."""
    decision = decided(policy or LooThreshold(), features, seed=seed)
    trace = trace_of(decision, trace_id, seed=seed, grounds=grounds, adapter=adapter, degraded=degraded, task=task)
    row = ledger.record_decision(
        replace(row_of(decision, trace_id, features=features, seed=seed), degraded=degraded, task_id=trace.task.id)
    )
    ledger.traces.add([TraceEntry(row, TraceRow(trace_id, 2, trace.model_dump_json()), trace.facts())])
    return trace
