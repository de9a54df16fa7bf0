"""A ledger with decisions such as a router makes them: records, never HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Grid, Task, Value
from policies.database import utc_now
from policies.ledger import Ledger
from policies.records import DecisionRow, MeasuredCost, OutcomeRow, PolicyState, TraceRow
from policies.trace_log import TraceEntry, TraceFacts
from router.router import Router
from router.settings import Settings
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

POLICY = "learned@3:price=0.2,floor=0.02"
TTT_PATH = ("admit", "probe", "lookup", "decide", "adapt", "answer_ttt", "verify")
_TAKES = {"admit": 0.0004, "probe": 0.21, "lookup": 0.0021, "decide": 0.0009, "adapt": 3.62, "answer_ttt": 0.94}
_ESTIMATES = {
    "icl": ArmEstimate(p_correct=0.22, gain=0.0, gain_std=0.0, predicted_cost_s=0.2, cost=0.05, utility=0.21),
    "icl_vote": ArmEstimate(p_correct=0.31, gain=0.09, gain_std=0.06, predicted_cost_s=1.5, cost=0.325, utility=0.245),
    "ttt": ArmEstimate(p_correct=0.74, gain=0.52, gain_std=0.11, predicted_cost_s=4.6, cost=1.0, utility=0.54),
}
GROUNDS = DecisionGrounds(
    estimates=_ESTIMATES,
    contributions=(
        ContributionTrace(feature="loo_exact_share", value=0.0, typical=0.41, gain=0.213),
        ContributionTrace(feature="loo_nll_mean", value=1.83, typical=0.92, gain=0.121),
        ContributionTrace(feature="n_demonstrations", value=3.0, typical=3.4, gain=-0.032),
        ContributionTrace(feature="prompt_tokens", value=412.0, typical=890.0, gain=0.018),
        ContributionTrace(feature="answer_confidence", value=0.37, typical=0.35, gain=-0.004),
    ),
    contributions_arm="ttt",
    nearest=(
        NearestTask(task_id="1d_move_2p_17", distance=0.31, best_arm="ttt", gain=1.0),
        NearestTask(task_id="1d_flip_4", distance=0.44, best_arm="ttt", gain=1.0),
        NearestTask(task_id="1d_fill_9", distance=0.71, best_arm="icl", gain=0.0),
    ),
    price=0.2,
    flip_price=0.547,
    percentiles={"loo_exact_share": 0.08, "loo_nll_mean": 0.99, "n_demonstrations": 0.4, "prompt_tokens": 0.22},
    stage="logistic",
)
ADAPTER = AdapterTrace(
    key="9f2c" * 16,
    cached=False,
    losses=tuple(0.08 + 2.1 * math.exp(-i / 9) + 0.05 * math.sin(i * 1.7) for i in range(40)),
    train_seconds=3.61,
    verdict="learned",
    parents=("51ab" * 16, "07de" * 16),
    lora={"rank": 16, "alpha": 32, "target_modules": "q_proj, v_proj"},
    adapter_bytes=412_672,
)


def drop_task() -> Task:
    """Cells fall to the bottom of a 5 x 6 grid."""
    rng = np.random.default_rng(4)
    pairs = []
    for _ in range(4):
        given = [[int(rng.choice([0, 0, 0, 1, 2, 4, 8])) for _ in range(6)] for _ in range(5)]
        columns = [[cell for cell in column if cell] for column in zip(*given, strict=True)]
        fallen = [[0] * (5 - len(column)) + column for column in columns]
        pairs.append((given, [list(row) for row in zip(*fallen, strict=True)]))
    return Task.from_pairs(pairs[:3], [pairs[3][0]], id="gravity_down_07")


def fallen() -> Grid:
    """The solution of `drop_task`."""
    (query,) = drop_task().queries
    assert not isinstance(query, str)
    columns = [[cell for cell in column if cell] for column in zip(*query, strict=True)]
    return tuple(zip(*[[0] * (5 - len(column)) + column for column in columns], strict=True))


def almost(grid: Grid) -> Grid:
    """The grid with two cells of another colour."""
    changed = [list(row) for row in grid]
    changed[0][0], changed[2][1] = (changed[0][0] + 3) % 10, (changed[2][1] + 5) % 10
    return tuple(map(tuple, changed))


def text_task(*, marker: str = "") -> Task:
    pairs = [("not True and False" + marker, "False"), ("not (False or False)", "True"), ("True and True", "True")]
    return Task.from_pairs(pairs, "not (True and False)" + marker, "Say what the expression is worth." + marker)


def large_task() -> Task:
    """Ten demonstrations of 30 x 30, all colours: the largest that the limits let in."""
    rng = np.random.default_rng(9)
    grids = rng.integers(0, 10, size=(11, 30, 30)).tolist()
    return Task.from_pairs([(grid, grid[::-1]) for grid in grids[:10]], [grids[10]], id="large_30")


def answer(*candidates: tuple[Value, int], of: int = 8, confidence: float = 0.6) -> AnswerTrace:
    """An answer with its candidates and their votes, best first."""
    return AnswerTrace(
        candidates=tuple(
            CandidateTrace(value=value, n_votes=votes, share=votes / of, log_probability=-0.7 * (8 / votes))
            for value, votes in candidates
        ),
        confidence=confidence,
    )


def trace_of(
    task: Task,
    given: AnswerTrace,
    *,
    trace_id: str,
    arm: str = "ttt",
    in_context: AnswerTrace | None = None,
    grounds: DecisionGrounds = GROUNDS,
    adapter: AdapterTrace | None = ADAPTER,
    degraded: tuple[str, ...] = (),
    steps: Sequence[str] = TTT_PATH,
    reason: str = "ttt: an expected gain of 0.52 ± 0.11 over icl; above a price of 0.547 it would be icl",
    policy: str = POLICY,
) -> Trace:
    """The trace of one solve."""
    propensities = {"icl": 0.04, "icl_vote": 0.05, "ttt": 0.91}
    path = tuple(Step(name=name, seconds=_TAKES.get(name, 0.012)) for name in steps)
    features = {
        "kind": task.kind, "n_demonstrations": len(task.demonstrations), "n_queries": len(task.queries),
        "same_shape_share": 1.0, "loo_exact_share": 0.0, "loo_nll_mean": 1.83, "loo_nll_worst": 2.6,
        "answer_confidence": 0.37, "answer_nll": 0.41, "prompt_tokens": 412, "adapter_cached": False,
        "predicted_cost_s": [["icl", 0.2], ["icl_vote", 1.5], ["ttt", 4.6]],
    }  # fmt: skip
    return Trace(
        trace_id=trace_id,
        task=task,
        model_fingerprint="b7e1" * 16,
        seed=7,
        icl=(in_context or given,),
        loo_exact=(False,) * len(task.demonstrations),
        loo_nll=tuple(1.2 + 0.4 * i for i in range(len(task.demonstrations))),
        decision=DecisionTrace(
            arm=arm,
            propensity=propensities[arm],
            propensities=propensities,
            reason=reason,
            policy=policy,
            difficulty=0.78,
            features=features,
            **grounds.model_dump(),
        ),
        answers=(given,),
        answered_by=arm,
        adapter=adapter,
        cost=CostTrace(seconds=sum(step.seconds for step in path), gpu_seconds=0.0, tokens=18_240),
        degraded=degraded,
        path=path,
    )


def record(ledger: Ledger, trace: Trace, *, created_at: str | None = None, document: str | None = None) -> None:
    """Write a trace with its decision."""
    decision, cost = trace.decision, trace.cost
    predicted = tuple((arm, seconds) for arm, seconds in decision.features.get("predicted_cost_s", ()))
    row = DecisionRow(
        decision_id=trace.trace_id,
        task_fingerprint=trace.task.fingerprint,
        task_id=trace.task.id,
        tenant=trace.tenant,
        features_json=json.dumps(decision.features, sort_keys=True, separators=(",", ":")),
        features_schema="sample",
        arm=decision.arm,
        propensity=decision.propensity,
        propensities=tuple(decision.propensities.items()),
        policy=decision.policy,
        reason=decision.reason,
        difficulty=decision.difficulty,
        predicted_cost_s=dict(predicted).get(decision.arm),
        measured=MeasuredCost(cost.seconds, cost.gpu_seconds, cost.tokens),
        degraded=trace.degraded,
        seed=trace.seed,
        created_at=created_at,
        predicted_costs_s=predicted,
    )
    kept = TraceRow(trace.trace_id, 1 if document else trace.schema_version, document or trace.model_dump_json())
    facts = TraceFacts() if document else trace.facts()
    ledger.traces.add([TraceEntry(ledger.record_decision(row), kept, facts)])


def of_schema_1(trace: Trace) -> str:
    """The trace as the first release wrote it."""
    document = trace.model_dump(mode="json")
    document["schema_version"] = 1
    for name in ("created_at", "tenant"):
        del document[name]
    for name in DecisionGrounds.model_fields:
        del document["decision"][name]
    if document["adapter"] is not None:
        for name in ("lora", "adapter_bytes", "parents", "verdict"):
            del document["adapter"][name]
    return json.dumps(document)


def fill(ledger: Ledger) -> None:
    """Write traces `trained`, `wrong`, `explored`, `words` and `old`, with outcomes, and a history of policies."""
    task, right = drop_task(), fallen()
    missed = answer((almost(right), 1), of=1, confidence=0.37)
    record(ledger, trace_of(task, answer((right, 6), (almost(right), 2)), trace_id="trained", in_context=missed))
    ledger.add_outcome(OutcomeRow("trained", "solution", "exact", 1.0))
    wrong = trace_of(
        task, answer((almost(right), 5), (right[::-1], 3)), trace_id="wrong", in_context=missed,
        degraded=("the store of adapters failed (TimeoutError: 0.2 s)", "deadline reached in training"),
    )  # fmt: skip
    record(ledger, wrong)
    ledger.add_outcome(OutcomeRow("wrong", "user", "exact", 1.0))
    ledger.correct_outcome("wrong", source="user", kind="exact", value=0.0, reason="looked at it again")
    explored = trace_of(
        task, missed, trace_id="explored", arm="icl", adapter=None, reason="exploring icl, drawn with 0.040",
        steps=("admit", "probe", "lookup", "decide", "answer_icl", "verify"),
    )  # fmt: skip
    record(ledger, explored)
    words = trace_of(
        text_task(), answer(("True", 7), ("False", 1), confidence=0.88), trace_id="words", arm="icl_vote",
        grounds=DecisionGrounds(), adapter=None, policy="loo_threshold@1",
        reason="2 of 3 demonstrations answered when held out",
        steps=("admit", "probe", "lookup", "decide", "answer_vote", "verify"),
    )  # fmt: skip
    record(ledger, words)
    old = trace_of(task, answer((right, 8)), trace_id="old")
    record(ledger, old, document=of_schema_1(old))
    publish_policies(ledger)


def publish_policies(ledger: Ledger) -> None:
    """One policy promoted, one refused."""
    versions = ledger.policy_versions
    first = versions.publish(b"first", metrics={"brier": 0.161, "auroc": 0.83}, trained_to_seq=300)
    versions.set_state(first.version_id, PolicyState.SHADOW, "200 decisions beside the champion")
    versions.promote(first.version_id, expected_epoch=0, reason="utility +0.041, at least +0.012 with 95 %")
    second = versions.publish(b"second", parent=first.version_id, metrics={"brier": 0.188, "auroc": 0.79})
    reason = "refused: Brier 0.188 against 0.161, worse by more than 0.005"
    versions.set_state(second.version_id, PolicyState.REJECTED, reason)


def fill_history(ledger: Ledger, n: int, *, start: datetime | None = None) -> None:
    """Write many decisions with outcomes, for the list and the page of the policies."""
    rng = np.random.default_rng(1)
    task, right = drop_task(), fallen()
    start = start or utc_now().astimezone(UTC) - timedelta(days=9)
    for i in range(n):
        arm = str(rng.choice(["icl", "icl_vote", "ttt"], p=[0.45, 0.1, 0.45]))
        quality = float(np.clip(rng.normal({"icl": 0.7, "icl_vote": 0.5, "ttt": 0.75}[arm], 0.18), 0.02, 0.98))
        estimates = {
            name: said.model_copy(
                update={"utility": quality - 0.02 if name == arm else quality - rng.normal(0.1, 0.12)}
            )
            for name, said in _ESTIMATES.items()
        }
        gain = 0.0 if arm == "icl" else quality - 0.22
        estimates[arm] = estimates[arm].model_copy(update={"p_correct": quality, "gain": gain})
        grounds = GROUNDS.model_copy(update={"estimates": estimates})
        steps = TTT_PATH if arm == "ttt" else ("admit", "probe", "lookup", "decide", "answer_icl", "verify")
        named = Task.parse({**task.model_dump(), "id": f"gravity_down_{i:02}"})
        trace = trace_of(
            named, answer((right, 6), (almost(right), 2)), trace_id=f"history-{i}", arm=arm, grounds=grounds,
            adapter=ADAPTER if arm == "ttt" else None, steps=steps,
            reason=f"{arm}: {quality:.2f} expected, the best at a price of 0.2",
        )  # fmt: skip
        trace = trace.model_copy(update={"decision": trace.decision.model_copy(update={"difficulty": 1 - quality})})
        record(ledger, trace, created_at=(start + timedelta(minutes=7 * i)).isoformat(timespec="microseconds"))
        if rng.random() < 0.8:
            ledger.add_outcome(OutcomeRow(f"history-{i}", "solution", "exact", float(rng.random() < quality)))


def solve_some(ledger: Ledger, home: Path) -> tuple[str, ...]:
    """Solve two tasks with a scripted model, as the router does it, and return their trace ids."""
    model = ScriptedModel(lambda task: "True" if isinstance(task.query, str) else task.query[::-1])
    with Router(Settings(home=home), model=model, ledger=ledger) as router:
        solved = tuple(router.solve(task).trace_id for task in (text_task(), drop_task()))
        router.flush()
    return solved
