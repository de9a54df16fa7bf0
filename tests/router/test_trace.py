"""A trace survives the ledger to the letter, and says in words what is in it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from icl_engine.task import Task, Value
from router.trace import (
    SCHEMA_VERSION,
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
from tests.icl_engine.task_strategies import grid_tasks, grids, text_tasks, texts
from tests.router.fakes import grid_task

GRID: Value = ((0, 5, 4),)


def answer(value: Value = GRID, log_probability: float | None = -0.5, confidence: float = 0.5) -> AnswerTrace:
    candidate = CandidateTrace(value=value, n_votes=2, share=0.25, log_probability=log_probability)
    return AnswerTrace(candidates=(candidate,), confidence=confidence)


def trace(
    task: Task | None = None,
    given: AnswerTrace | None = None,
    *,
    loo_nll: tuple[float, ...] = (0.1, 2.5),
    adapter: AdapterTrace | None = None,
    degraded: tuple[str, ...] = (),
) -> Trace:
    return Trace(
        trace_id="trace-1",
        task=task or grid_task(),
        model_fingerprint="f" * 64,
        seed=7,
        icl=(given or answer(),),
        loo_exact=(True, False)[: len(loo_nll)],
        loo_nll=loo_nll,
        decision=DecisionTrace(
            arm="ttt",
            propensity=0.9,
            propensities={"icl": 0.1, "ttt": 0.9},
            reason="1 of 2 demonstrations answered when held out",
            policy="loo_threshold@1",
            difficulty=0.625,
            features={"kind": "grid", "predicted_cost_s": [["icl", 0.5]], "loo_nll_mean": None},
        ),
        answers=(given or answer(),),
        answered_by="ttt",
        adapter=adapter,
        cost=CostTrace(seconds=9.25, gpu_seconds=0.0, tokens=1234),
        degraded=degraded,
        path=(Step(name="admit", seconds=0.0015), Step(name="verify", seconds=0.25)),
    )


ADAPTER = AdapterTrace(key="k" * 64, cached=False, losses=(2.0, 0.125), train_seconds=8.5)


@settings(deadline=None)
@given(
    task=grid_tasks() | text_tasks(),
    value=grids() | texts(),
    number=st.floats(allow_nan=False),
    said=st.lists(texts(), max_size=3),
    trained=st.booleans(),
)
def test_a_trace_read_back_from_its_json_is_the_trace(
    task: Task, value: Value, number: float, said: list[str], trained: bool
) -> None:
    written = trace(
        task,
        answer(value, number, confidence=number),
        loo_nll=(number,),
        adapter=ADAPTER if trained else None,
        degraded=tuple(said),
    )
    document = written.model_dump_json()

    assert Trace.model_validate_json(document) == Trace.read(document) == written
    assert Trace.read(document).model_dump_json() == document
    json.loads(document, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_what_is_not_a_number_can_be_kept_and_read() -> None:
    read = Trace.read(trace(loo_nll=(math.nan, math.inf)).model_dump_json())

    assert math.isnan(read.loo_nll[0])
    assert math.isinf(read.loo_nll[1])
    assert "nan nats" in read.explain()


def test_a_repaired_grid_that_no_view_gave_has_no_probability() -> None:
    given = answer(log_probability=None)

    assert Trace.read(trace(given=given).model_dump_json()).answers == (given,)


def test_a_trace_says_which_schema_it_has_and_takes_no_unknown_field() -> None:
    document = json.loads(trace().model_dump_json())

    assert document["schema_version"] == SCHEMA_VERSION
    with pytest.raises(ValidationError):
        Trace.read(json.dumps({**document, "solution": "42"}))


def test_a_document_of_version_1_is_still_read() -> None:
    document = json.loads(trace().model_dump_json())
    added = (
        "estimates",
        "contributions",
        "contributions_arm",
        "nearest",
        "price",
        "flip_price",
        "percentiles",
        "stage",
    )
    old = {name: value for name, value in document.items() if name not in ("created_at", "tenant")}
    old["schema_version"] = 1
    old["decision"] = {name: value for name, value in document["decision"].items() if name not in added}

    read = Trace.read(json.dumps(old))

    assert read.schema_version == 1
    assert read.created_at is None
    assert read.decision.estimates == {}
    assert read.decision.arm == "ttt"


def test_what_a_policy_says_of_its_decision_is_kept() -> None:
    grounds = DecisionGrounds(
        estimates={"ttt": ArmEstimate(p_correct=0.75, gain=0.5, gain_std=0.125, predicted_cost_s=2.0, utility=0.25)},
        contributions=(ContributionTrace(feature="loo_exact_share", value=None, typical=0.5, gain=0.25),),
        contributions_arm="ttt",
        nearest=(NearestTask(task_id="like", distance=0.5, best_arm="ttt", gain=1.0),),
        price=0.125,
        flip_price=0.25,
        percentiles={"loo_exact_share": 0.5},
        stage="logistic",
    )
    decided = DecisionTrace(**{**trace().decision.model_dump(), **grounds.model_dump()})
    written = trace().model_copy(update={"decision": decided, "created_at": "2026-01-01T00:00:00+00:00"})

    assert Trace.read(written.model_dump_json()) == written
    assert Trace.read(written.model_dump_json()).decision.nearest == grounds.nearest


def test_a_trace_is_never_changed() -> None:
    with pytest.raises(ValidationError):
        trace().seed = 8  # type: ignore[misc]


def test_an_explanation_says_what_was_decided_why_how_it_went_and_what_it_cost() -> None:
    said = trace(adapter=ADAPTER, degraded=("no GPU",)).explain()

    for part in (
        "Task flip_1: ttt, confidence 0.50, in 9.25 s and 1234 tokens, decided by loo_threshold@1.",
        "1 of 2 demonstrations answered when held out. Estimated difficulty 0.62.",
        "ttt was drawn with probability 0.900 (of icl 0.100, ttt 0.900).",
        "right (0.10 nats), wrong (2.50 nats)",
        "trained in 8.5 s, loss 2.00 to 0.12 nats over 2 steps",
        "Degraded: no GPU.",
        "Path: admit 2 ms → verify 250 ms.",
    ):
        assert part in said


def test_an_explanation_leaves_out_what_there_was_not() -> None:
    said = trace(loo_nll=()).explain()
    found = trace(adapter=ADAPTER.model_copy(update={"cached": True, "losses": ()})).explain()

    assert "held out in turn" not in said
    assert "Adapter" not in said
    assert "Degraded" not in said
    assert "found in the store." in found
