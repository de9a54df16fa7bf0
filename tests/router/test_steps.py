"""Each step on its own: which arms fit, what verifying makes of answers, and when a cost is learned from."""

from __future__ import annotations

import time
from typing import cast

import pytest

from icl_engine.answer import Answer
from icl_engine.inference_settings import InferenceSettings
from icl_engine.probe import Prober
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Limits, Task, Value
from icl_engine.voting import Candidate
from policies.costs import CostModel
from policies.decision import Arm
from policies.errors import ArmUnavailable
from policies.fixed import AlwaysArm
from router.solution import Cost
from router.steps import SolveState, Steps, available_arms, trace_of
from router.trace import Step
from tests.router.fakes import grid_task, text_task
from ttt_engine.adapter import Adapter
from ttt_engine.config import TrainingSettings
from ttt_engine.engine import Adapted, TttEngine

ALL = tuple(Arm)
ADAPTER = Adapter("k" * 64, b"", "{}", "base", "task", (2.0, 1.0), 0.5, 1000)
TWO = Task.from_pairs([("a", "A"), ("b", "B")], ["c", "d"])


class FakeTtt:
    """Stands in for the engine where only its calls matter."""

    def __init__(self, values: tuple[Value | None, ...] = ("C", "D")) -> None:
        self.values = values
        self.trained: list[TrainingSettings] = []

    def is_cached(self, task: Task, training: TrainingSettings, *, seed: int) -> bool:
        return False

    def adapt(self, task: Task, training: TrainingSettings, **_: object) -> Adapted:
        self.trained.append(training)
        return Adapted(ADAPTER, False, ())

    def answer(self, task: Task, adapter: Adapter, **_: object) -> tuple[Answer, ...]:
        return answers(*self.values)


def answers(*values: Value | None) -> tuple[Answer, ...]:
    return tuple(Answer(() if value is None else (Candidate(value, 1, 1.0, -0.5),), 0.5, tokens=7) for value in values)


def upper(task: Task) -> Value | None:
    assert isinstance(task.query, str)
    return task.query.upper()


def steps(model: ScriptedModel | None = None, ttt: FakeTtt | None = None, arm: str = "icl") -> Steps:
    model = model or ScriptedModel(upper)
    return Steps(
        model=model,
        prober=Prober(model),
        policy=AlwaysArm(arm),
        ledger=None,
        ttt=cast(TttEngine, ttt),
        costs=CostModel(n_views=2, training_sequences=8),
        arms=ALL,
        training=TrainingSettings(steps=8),
        inference=InferenceSettings(n_views=2),
        gpu=False,
        limits=Limits(),
    )


def asked(task: Task = TWO, arm: str | None = None, deadline: float | None = None) -> SolveState:
    return {
        "task": task,
        "forced_arm": arm,
        "seed": 0,
        "deadline": deadline,
        "progress": lambda name, done, of: None,
        "seat": None,
        "probed": None,
        "path": (),
    }


def decided(bound: Steps, state: SolveState | None = None) -> SolveState:
    """The state after `decide`."""
    state = asked() if state is None else state
    for step in (bound.admit, bound.probe, bound.lookup, bound.decide):
        state = {**state, **step(state)}
    return state


# admit


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (text_task(), {"icl", "icl_vote", "ttt_short", "ttt"}),
        (text_task().model_copy(update={"instruction": "Say."}), set(ALL)),
        (grid_task(), {"icl", "icl_vote", "ttt_short", "ttt"}),
        (grid_task().model_copy(update={"instruction": "Say."}), {"icl", "icl_vote", "ttt_short", "ttt"}),
        (grid_task().replace(demonstrations=grid_task().demonstrations[:1]), {"icl", "icl_vote"}),
    ],
)
def test_a_task_has_the_arms_that_can_answer_it(task: Task, expected: set[str]) -> None:
    assert set(available_arms(task, ALL)) == expected


def test_arms_keep_their_order_and_unknown_ones_are_left_out() -> None:
    assert available_arms(grid_task(), ("ttt", "psychic", "icl")) == ("ttt", "icl")


def test_without_an_engine_no_arm_trains() -> None:
    assert set(steps().admit(asked())["arms"]) == {"icl", "icl_vote"}
    assert set(steps(ttt=FakeTtt()).admit(asked())["arms"]) == {"icl", "icl_vote", "ttt_short", "ttt"}
    with pytest.raises(ArmUnavailable):
        steps().admit(asked(arm="ttt"))


def test_every_solve_has_a_name_of_its_own() -> None:
    bound = steps()

    assert len({bound.admit(asked())["trace_id"] for _ in range(20)}) == 20


# decide


def test_an_arm_that_is_asked_for_is_taken_whatever_the_policy_would_do() -> None:
    state = decided(steps(ttt=FakeTtt(), arm="icl"), asked(arm="ttt"))

    assert (state["decision"].arm, state["decision"].propensity) == ("ttt", 1.0)


def test_a_policy_sees_a_predicted_cost_of_every_arm_it_may_take() -> None:
    state = decided(steps(ttt=FakeTtt()))

    assert {arm for arm, _ in state["features"].predicted_cost_s} == set(state["arms"])
    assert state["features"].n_held_out_exact == 2


@pytest.mark.parametrize(
    ("arm", "step"),
    [("icl", "answer_icl"), ("icl_vote", "answer_vote"), ("ttt", "adapt"), ("ttt_short", "adapt")],
)
def test_the_decision_names_the_next_step(arm: str, step: str) -> None:
    bound = steps(ttt=FakeTtt())

    assert bound.after_decide(decided(bound, asked(arm=arm))) == step


# answers


def test_the_answer_in_context_is_the_probe_s_and_costs_no_further_prompt() -> None:
    bound = steps()
    state = decided(bound)
    seen = len(cast(ScriptedModel, bound.model).tasks_seen)
    answered = bound.answer_icl(state)

    assert answered["answers"] is state["probe"].answers
    assert "tokens" not in answered
    assert len(cast(ScriptedModel, bound.model).tasks_seen) == seen


@pytest.mark.parametrize("arm", ["zero_shot", "icl_vote"])
def test_a_prompt_of_another_kind_that_fails_falls_back_on_the_probe(arm: str) -> None:
    def only_in_order(task: Task) -> Value | None:
        if len(task.demonstrations) != 1 and [shown.input for shown in task.demonstrations] != ["a", "b"]:
            raise ValueError("asked otherwise")
        return upper(task)

    bound = steps(ScriptedModel(only_in_order))
    task = TWO.model_copy(update={"instruction": "Shout."})
    state = decided(bound, asked(task, arm))
    answered = bound.answer_icl(state) if arm == "zero_shot" else bound.answer_vote(state)

    assert (answered["answers"], answered["answered_by"]) == (state["probe"].answers, "icl")
    assert "asked otherwise" in answered["degraded"][0]


@pytest.mark.parametrize(("arm", "n_steps"), [("ttt", 8), ("ttt_short", 2), ("icl", 8)])
def test_the_short_arm_trains_the_short_loop_and_an_escalation_the_long(arm: str, n_steps: int) -> None:
    ttt = FakeTtt()
    bound = steps(ttt=ttt)
    adapted = bound.adapt(decided(bound, asked(arm=arm)))

    assert [training.steps for training in ttt.trained] == [n_steps]
    assert (adapted["adapter"], adapted["tokens"], adapted["degraded"]) == (ADAPTER, 1000, ())


# verify


def verified(bound: Steps, state: SolveState, by: str, *values: Value | None) -> SolveState:
    return bound.verify({**state, "answers": answers(*values), "answered_by": by})


def test_answers_to_all_queries_are_let_be() -> None:
    bound = steps(ttt=FakeTtt())

    assert verified(bound, decided(bound), "icl", "C", "D") == {"escalate": False}
    assert verified(bound, decided(bound), "ttt", "C", "D") == {"escalate": False}


def test_a_query_without_an_answer_after_training_gets_the_one_in_context() -> None:
    bound = steps(ttt=FakeTtt())
    state = decided(bound, asked(arm="ttt"))
    some, none = verified(bound, state, "ttt", None, "X"), verified(bound, state, "ttt", None, None)

    assert [answer.value for answer in some["answers"]] == ["C", "X"]
    assert some["answered_by"] == "ttt"
    assert [answer.value for answer in none["answers"]] == ["C", "D"]
    assert none["answered_by"] == "icl"
    assert "answered in context" in some["degraded"][0] == none["degraded"][0]


def test_a_query_without_an_answer_in_context_is_worth_training_once() -> None:
    bound = steps(ttt=FakeTtt())
    state = decided(bound)
    tried: SolveState = {**state, "path": (Step(name="adapt", seconds=1.0),)}
    late: SolveState = {**state, "deadline": time.monotonic() - 1}
    alone: SolveState = {**state, "arms": ("icl",)}
    forced: SolveState = {**state, "forced_arm": "icl"}

    assert verified(bound, state, "icl", "C", None)["escalate"]
    assert bound.after_verify({**state, "escalate": True}) == "adapt"
    assert bound.after_verify({**state, "escalate": False}) == "record"
    for other in (tried, late, alone, forced):
        assert not verified(bound, other, "icl", "C", None)["escalate"]


# record


def test_a_cost_is_learned_from_what_went_as_decided_and_from_nothing_else() -> None:
    bound = steps(ttt=FakeTtt())
    before = bound.costs.predict(ALL, prompt_s=1.0, cached=False)
    state: SolveState = {**decided(bound, asked(arm="ttt")), "answers": answers("C", "D"), "answered_by": "ttt"}
    bound.record({**state, "degraded": ("deadline reached",)})
    unlearned = bound.costs.predict(ALL, prompt_s=1.0, cached=False)
    bound.record(state)
    learned = bound.costs.predict(ALL, prompt_s=1.0, cached=False)

    assert unlearned == before
    assert learned["ttt"] != before["ttt"]
    assert learned["ttt_short"] == before["ttt_short"]


def test_a_trace_holds_what_the_steps_found() -> None:
    bound = steps(ttt=FakeTtt())
    state = decided(bound, asked(arm="ttt"))
    state = {**state, **bound.adapt(state), "answers": answers("C", None), "answered_by": "ttt"}
    trace = trace_of(state, Cost(1.5, 0.0, 99), "fingerprint")

    assert (trace.trace_id, trace.task, trace.seed) == (state["trace_id"], TWO, 0)
    assert [each.candidates[0].value for each in trace.icl] == ["C", "D"]
    assert [len(each.candidates) for each in trace.answers] == [1, 0]
    assert trace.loo_exact == (True, True)
    assert (trace.decision.arm, trace.decision.propensities["ttt"]) == ("ttt", 1.0)
    assert trace.adapter is not None
    assert (trace.adapter.key, trace.adapter.losses) == (ADAPTER.key, ADAPTER.losses)
    assert (trace.cost.seconds, trace.cost.tokens, trace.model_fingerprint) == (1.5, 99, "fingerprint")
