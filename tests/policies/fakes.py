"""Probe results and features for the policy tests: every field has a plain default, a test names those it is about."""

from __future__ import annotations

from dataclasses import dataclass, field

from icl_engine.task import Task
from policies import DecisionRow, Features, MeasuredCost, features_of


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    confidence: float = 0.5


@dataclass(frozen=True, slots=True)
class FakeProbe:
    """Has what features read of a probe result."""

    answer: FakeAnswer = field(default_factory=FakeAnswer)
    answer_log_probability: float = -2.0
    answer_tokens: int = 4
    answer_entropy: float | None = 0.4
    answer_margin: float | None = 3.0
    answer_least_margin: float | None = 1.0
    demonstration_nll: tuple[float, ...] = (2.0, 0.8, 0.6)
    demonstration_exact: tuple[bool, ...] = (False, False, True)
    loo_nll: tuple[float, ...] = (0.1, 0.2, 0.6)
    loo_exact: tuple[bool, ...] = (True, False, False)
    vote_agreement: float | None = None
    hidden: tuple[float, ...] = ()
    prompt_tokens: int = 40


def grid_task(n_demonstrations: int = 3) -> Task:
    pairs = [([[i, 1], [2, 3]], [[3, 2], [1, i]]) for i in range(n_demonstrations)]
    return Task.from_pairs(pairs, [[4, 5], [6, 7]])


def features_with(
    loo_exact: tuple[bool, ...] = (True, False, False),
    *,
    n_demonstrations: int | None = None,
    confidence: float = 0.5,
    adapter_cached: bool = False,
) -> Features:
    probe = FakeProbe(FakeAnswer(confidence), loo_exact=loo_exact, loo_nll=tuple(0.1 for _ in loo_exact))
    task = grid_task(len(loo_exact) if n_demonstrations is None else n_demonstrations)
    return features_of(task, probe, adapter_cached=adapter_cached, predicted_cost_s={"ttt": 9.0, "icl": 0.5})


def decision_row(decision_id: str = "trace-1") -> DecisionRow:
    return DecisionRow(
        decision_id=decision_id,
        task_fingerprint="f" * 64,
        task_id="1d_fill_0",
        tenant="default",
        features_json='{"kind":"grid"}',
        features_schema="0123456789abcdef",
        arm="ttt",
        propensity=0.9666666666666667,
        propensities=(("icl", 0.03333333333333333), ("ttt", 0.9666666666666667)),
        policy="loo_threshold@1",
        reason="1 of 3 demonstrations answered when held out, below 1.00: training",
        difficulty=0.625,
        predicted_cost_s=None,
        measured=MeasuredCost(seconds=9.25, gpu_seconds=0.0, tokens=1234),
        degraded=("no GPU",),
        seed=7,
    )
