"""Each step on its own: which arms fit, what is looked at before deciding, what verifying makes of answers, and when a
cost is learned from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from icl_engine.answer import Answer
from icl_engine.errors import OutOfMemory
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import Generation
from icl_engine.loaders import load_tasks
from icl_engine.probe import Prober, ProbeResult
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Limits, Task, Value
from icl_engine.voting import Candidate
from policies.cold_start import cold_start
from policies.costs import CostModel, Work
from policies.decision import Arm, Decision, Policy, as_it_is, at_price
from policies.errors import ArmUnavailable
from policies.feature_values import FeatureValues
from policies.features import FEATURE_NAMES, Features
from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.pacing import BudgetPacer, PacedPolicy
from policies.records import DecisionRow
from policies.stages import Stage
from policies.wishes import ShareBudget
from router.acting_policy import ActingPolicy, InCharge
from router.added_arms import CheckedArm
from router.graph import build_graph
from router.router import Router
from router.settings import Settings
from router.solution import Cost
from router.solve_state import SolveState, available_arms, trace_of
from router.steps import Steps
from router.trace import IN_CONTEXT_INSTEAD, TRAINED_INSTEAD, Step, Trace
from router.traces import TraceWriter
from tests.models import CONSTANT_TASK, TASKS, TEXT_TASK, taught_model, tiny_model
from tests.router.fakes import grid_task, text_task
from ttt_engine.adapter import Adapter
from ttt_engine.cohort import Cohort, Seat
from ttt_engine.config import TrainingSettings
from ttt_engine.engine import Adapted, TttEngine
from ttt_engine.trial import Trial

ALL = tuple(Arm)
ADAPTER = Adapter("k" * 64, b"", "{}", "base", "task", (2.0, 1.0), 0.5, 1000)
TWO = Task.from_pairs([("a", "A"), ("b", "B")], ["c", "d"])


class FakeTtt:
    """Stands in for the engine where only its calls matter."""

    def __init__(self, values: tuple[Value | None, ...] = ("C", "D"), verdict: str = "") -> None:
        self.values = values
        self.verdict = verdict
        self.trained: list[TrainingSettings] = []
        self.looked_up: list[TrainingSettings] = []
        self.tried: list[tuple[float, ...]] = []
        self.families: list[tuple[Task, ...]] = []

    def is_cached(self, task: Task, training: TrainingSettings, **_: object) -> bool:
        self.looked_up.append(training)
        return False

    def nearest_distance(self, task: Task) -> float | None:
        return 0.25

    def trial(self, task: Task, training: TrainingSettings, *, untrained: tuple[float, ...], **_: object) -> Trial:
        self.tried.append(untrained)
        return Trial(2.0, 0.5, False, tokens=300, seconds=0.25)

    def adapt(self, task: Task, training: TrainingSettings, **_: object) -> Adapted:
        self.trained.append(training)
        return Adapted(replace(ADAPTER, verdict=self.verdict), False, ())

    def adapt_shared(self, tasks: Sequence[Task], training: TrainingSettings, **_: object) -> Adapted:
        self.families.append(tuple(tasks))
        return Adapted(ADAPTER, False, ())

    def answer(self, task: Task, adapter: Adapter, **_: object) -> tuple[Answer, ...]:
        return answers(*self.values)


def answers(*values: Value | None) -> tuple[Answer, ...]:
    return tuple(Answer(() if value is None else (Candidate(value, 1, 1.0, -0.5),), 0.5, tokens=7) for value in values)


def upper(task: Task) -> Value | None:
    assert isinstance(task.query, str)
    return task.query.upper()


class StagedPolicy:
    """Takes one arm, but asks for stages, watches training and escalates as it is told to."""

    name, version = "staged", "1"

    def __init__(
        self,
        arm: str = "icl",
        stages: tuple[Stage | None, ...] = (),
        *,
        escalate_below: float = 0.0,
        check_every: int | None = None,
        error: Exception | None = None,
    ) -> None:
        self.arm = arm
        self.stages = list(stages)
        self.escalate_below = escalate_below
        self.check_every = check_every
        self.error = error
        self.seen: list[FeatureValues] = []
        self.asked_of: list[tuple[str, float]] = []

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        self.seen.append(features)
        if self.error is not None:
            raise self.error
        return self.stages.pop(0) if self.stages else None

    def escalates(self, features: FeatureValues, arm: str, confidence: float) -> bool:
        self.asked_of.append((arm, confidence))
        if self.error is not None:
            raise self.error
        return confidence < self.escalate_below

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        return AlwaysArm(self.arm).propensities(features, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        self.seen.append(features)
        return AlwaysArm(self.arm).decide(features, rng, arms)


def steps(
    model: ScriptedModel | None = None, ttt: FakeTtt | None = None, arm: str = "icl", policy: Policy | None = None
) -> Steps:
    model = model or ScriptedModel(upper)
    return Steps(
        model=model,
        prober=Prober(model),
        policy=policy or AlwaysArm(arm),
        ledger=None,
        ttt=cast(TttEngine, ttt),
        costs=CostModel(n_views=2, training_sequences=8),
        arms=ALL,
        training=TrainingSettings(steps=8),
        inference=InferenceSettings(n_views=2),
        gpu=False,
        limits=Limits(),
        added={},
    )


def asked(task: Task = TWO, arm: str | None = None, deadline: float | None = None) -> SolveState:
    return {
        "task": task,
        "forced_arm": arm,
        "seed": 0,
        "deadline": deadline,
        "progress": lambda name, done, of: None,
        "cancelled": lambda: False,
        "seat": None,
        "sharing": (),
        "prompting": None,
        "probed": None,
        "path": (),
    }


def decided(bound: Steps, state: SolveState | None = None) -> SolveState:
    """The state after `decide`."""
    state = asked() if state is None else state
    for step in (bound.admit, bound.probe, bound.lookup, bound.decide):
        state = {**state, **step(state)}
    return state


def looked_up(bound: Steps, state: SolveState | None = None) -> SolveState:
    """The state after `lookup`."""
    state = asked() if state is None else state
    for step in (bound.admit, bound.probe, bound.lookup):
        state = {**state, **step(state)}
    return state


def solved(bound: Steps, state: SolveState | None = None) -> SolveState:
    """The state at the end of the graph."""
    final: SolveState = build_graph(bound).invoke(asked() if state is None else state)  # type: ignore[assignment]
    return final


def path_of(state: SolveState) -> list[str]:
    return [step.name for step in state["path"]]


# the order


@pytest.mark.parametrize(
    ("policy", "way"),
    [
        (StagedPolicy("icl"), ["decide", "answer_icl", "verify"]),
        (StagedPolicy("icl_vote", (Stage.VOTES,)), ["look_closer", "decide", "answer_vote", "verify"]),
        (StagedPolicy("ttt", (Stage.TRIAL,)), ["look_closer", "decide", "adapt", "answer_ttt", "verify"]),
        (
            StagedPolicy("icl", escalate_below=1.1),
            ["decide", "answer_icl", "verify", "adapt", "answer_ttt", "verify"],
        ),
        (AlwaysArm("icl"), ["decide", "answer_icl", "verify"]),
    ],
)
def test_a_solve_goes_the_way_that_its_policy_wants(policy: Policy, way: list[str]) -> None:
    state = solved(steps(ttt=FakeTtt(), policy=policy))

    assert path_of(state) == ["admit", "probe", "lookup", *way, "record"]


def test_what_a_step_adds_is_added_up_and_the_state_before_it_stays_as_it_was() -> None:
    initial = asked()

    ended = solved(steps(ttt=FakeTtt(), policy=StagedPolicy("icl", escalate_below=1.1)), initial)

    assert ended["tokens"] > ended["probe"].tokens
    assert initial == asked() | {"progress": initial["progress"], "cancelled": initial["cancelled"]}


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


# before deciding


def test_a_policy_that_asks_for_nothing_decides_at_once_on_what_the_probe_says() -> None:
    bound, asking = steps(ttt=FakeTtt()), steps(policy=StagedPolicy(stages=(Stage.VOTES,) * 2))
    state = looked_up(bound)

    assert bound.after_lookup(state) == "decide"
    assert asking.after_lookup(looked_up(asking, asked(arm="icl"))) == "decide"
    assert asking.after_lookup(looked_up(asking)) == "look_closer"
    assert state["nearest_distance"] == 0.25
    assert decided(bound)["features"].nearest_adapter_distance == 0.25


class UnreadablePolicy(AlwaysArm):
    """Cannot say what it is at the moment."""

    def now(self) -> Policy:
        raise RuntimeError("no policy at hand")


@pytest.mark.parametrize(
    ("weighs", "step"),
    [
        (AlwaysArm("icl"), "decide"),
        (StagedPolicy(), "decide"),
        (StagedPolicy(stages=(Stage.VOTES,)), "look_closer"),
        (LooThreshold(), "look_closer"),
        (cold_start(price=0.1, explore=0.05), "decide"),
        (ActingPolicy(AlwaysArm("icl")), "decide"),
        (ActingPolicy(StagedPolicy(stages=(Stage.VOTES,))), "look_closer"),
        (InCharge(AlwaysArm("icl"), StagedPolicy(stages=(Stage.VOTES,)), 0.5), "look_closer"),
    ],
)
def test_a_budget_looks_closer_only_over_a_policy_that_asks_for_it(weighs: Policy, step: str) -> None:
    budget = BudgetPacer(ShareBudget(("ttt",), 0.5))
    bound = steps(ttt=FakeTtt(), policy=PacedPolicy(lambda price: at_price(as_it_is(weighs), price), budget))

    assert bound.after_lookup(looked_up(bound)) == step


def test_a_policy_that_fails_before_it_is_asked_leaves_the_answer_in_context() -> None:
    state = solved(steps(ttt=FakeTtt(), policy=UnreadablePolicy("ttt")))

    assert state["answered_by"] == "icl"
    assert "no policy at hand" in state["degraded"][0]


def test_views_are_asked_at_the_policy_s_wish_and_it_is_asked_again_with_what_they_say() -> None:
    policy = StagedPolicy(stages=(Stage.VOTES,))
    model = ScriptedModel(upper)
    bound = steps(model, policy=policy)
    state = looked_up(bound)
    n_before = len(model.tasks_seen)
    looked = bound.look_closer(state)
    n_views = len(model.tasks_seen) - n_before

    assert [seen.value("vote_agreement") for seen in policy.seen] == [None, 1.0]
    assert n_views == 2  # two demonstrations have one other order, asked for each of two queries
    assert looked["features"].vote_agreement == 1.0
    assert looked["tokens"] == sum(search.tokens for asked in looked["probe"].asked for search in asked.said[1:])
    assert looked["probe"].answers == state["probe"].answers


def test_a_trial_is_run_at_the_policy_s_wish_and_charged() -> None:
    policy, ttt = StagedPolicy(stages=(Stage.HELD_OUT, Stage.TRIAL)), FakeTtt()
    bound = steps(ttt=ttt, policy=policy)
    state = looked_up(bound)
    looked = bound.look_closer(state)

    assert (looked["features"].trial_nll, looked["features"].trial_nll_change) == (0.5, -1.5)
    assert looked["tokens"] == 300 + looked["probe"].tokens - state["probe"].tokens
    assert len(looked["probe"].loo_nll) == 2
    assert ttt.tried == [looked["probe"].loo_nll]


def test_a_stage_is_run_once_however_often_it_is_asked_for() -> None:
    ttt = FakeTtt()
    bound = steps(ttt=ttt, policy=StagedPolicy(stages=(Stage.TRIAL,) * 5))
    bound.look_closer(looked_up(bound))

    assert len(ttt.tried) == 1


def test_no_stage_is_run_late_nor_where_it_cannot_be_nor_for_an_arm_that_is_asked_for() -> None:
    ttt = FakeTtt()
    model = ScriptedModel(upper)
    bound = steps(model, ttt=ttt, policy=StagedPolicy(stages=(Stage.VOTES, Stage.TRIAL) * 9))
    untrainable = steps(model, policy=StagedPolicy(stages=(Stage.TRIAL,)))
    late, forced = (looked_up(bound, each) for each in (asked(deadline=time.monotonic() - 1), asked(arm="icl")))
    untrained = looked_up(untrainable)

    assert [state["stage"] for state in (late, forced, untrained)] == [None] * 3
    assert ttt.tried == []


def test_what_is_asked_for_after_a_stage_is_not_run_late() -> None:
    ttt = FakeTtt()
    bound = steps(ttt=ttt, policy=StagedPolicy(stages=(Stage.HELD_OUT, Stage.TRIAL)))
    state = bound.look_closer({**looked_up(bound), "deadline": time.monotonic() - 1})

    assert state["features"].n_held_out is None
    assert "could not look closer" in state["degraded"][0]
    assert ttt.tried == []


@pytest.mark.parametrize("stage", [Stage.STRUCTURE, Stage.PROBE])
def test_what_has_always_run_is_not_run_again(stage: Stage) -> None:
    model = ScriptedModel(upper)
    bound = steps(model, policy=StagedPolicy(stages=(stage,)))
    state = looked_up(bound)
    n_seen = len(model.tasks_seen)

    assert bound.look_closer(state)["probe"] == state["probe"]
    assert len(model.tasks_seen) == n_seen


def test_a_policy_that_fails_when_asked_what_it_wants_still_decides() -> None:
    state = solved(steps(policy=StagedPolicy(error=ZeroDivisionError("no stage"))))

    assert [answer.value for answer in state["answers"]] == ["C", "D"]
    assert any("no stage" in said for said in state["degraded"])


def test_demonstrations_are_held_out_at_the_policy_s_wish_and_charged() -> None:
    policy = StagedPolicy("icl", (Stage.HELD_OUT, None))
    bound = steps(policy=policy)
    state = looked_up(bound)
    found = bound.look_closer(state)

    assert (state["probe"].loo_exact, found["probe"].loo_exact) == ((), (True, True))
    assert [features.value("n_held_out") for features in policy.seen] == [None, 2]
    assert found["tokens"] == found["probe"].tokens - state["probe"].tokens > 0
    assert found["probe"].prompt_s == state["probe"].prompt_s


def test_a_policy_that_cannot_ask_for_them_has_them_held_out_from_the_start() -> None:
    by_policy = {
        policy.name: len(looked_up(steps(policy=policy))["probe"].loo_exact)
        for policy in (AlwaysArm("icl"), LooThreshold(), cold_start(price=0.1, explore=0.05))
    }

    assert list(by_policy.values()) == [2, 0, 0]


def test_an_arm_that_is_forced_holds_nothing_out() -> None:
    bound = steps(ttt=FakeTtt())

    assert looked_up(bound, asked(arm="icl_vote"))["probe"].loo_exact == ()
    assert looked_up(bound, asked())["probe"].loo_exact == (True, True)


def test_the_rule_asks_for_what_it_goes_by_and_the_shipped_policy_for_nothing() -> None:
    seen = []
    for policy in (LooThreshold(), cold_start(price=0.1, explore=0.05)):
        bound = steps(ttt=FakeTtt(), policy=policy)
        seen.append(bound.look_closer(looked_up(bound))["features"].n_held_out)

    assert seen == [2, None]


class OneAtATime(Prober):
    """Has memory for the held-out demonstrations of one task alone, and for none of the second task's."""

    def hold_out(self, probed: Sequence[tuple[Task, ProbeResult]]) -> list[ProbeResult]:
        if len(probed) > 1 or probed[0][0] == TASKS[1]:
            raise OutOfMemory("too many at once")
        return super().hold_out(probed)


def test_who_is_served_with_a_task_that_cannot_be_held_out_is_served_all_the_same() -> None:
    prober = OneAtATime(taught_model())
    bound = replace(steps(), prober=prober)
    probed = [(task, prober.probe(task, held_out=False)) for task in TASKS]

    first, second, third = bound._all_held_out(probed)

    assert isinstance(second, OutOfMemory)
    for task, found in ((TASKS[0], first), (TASKS[2], third)):
        assert isinstance(found, ProbeResult)
        assert len(found.loo_nll) == len(task.demonstrations)


def test_what_was_looked_at_before_deciding_is_part_of_the_solve_and_of_no_arm_s_cost() -> None:
    state = solved(steps(ttt=FakeTtt(), policy=StagedPolicy("ttt", stages=(Stage.VOTES, Stage.TRIAL))))

    assert path_of(state)[2:5] == ["lookup", "look_closer", "decide"]
    assert state["tokens"] == state["probe"].tokens + 300 + ADAPTER.train_tokens + 2 * 7
    assert state["features"].vote_agreement == 1.0
    assert state["features"].trial_nll_change == -1.5
    assert trace_of(state, state["cost"], "f").decision.features["vote_agreement"] == 1.0


# the answer of the probe


@pytest.mark.parametrize("stages", [(), (Stage.VOTES,)], ids=["", "views"])
def test_the_answer_in_context_is_asked_for_once_in_a_whole_solve(stages: tuple[Stage, ...]) -> None:
    model = ScriptedModel(upper)
    state = solved(steps(model, policy=StagedPolicy("icl", stages)))
    questions = [TWO.for_query(0), TWO.for_query(1)]

    assert state["answers"] == state["probe"].answers
    assert [model.tasks_seen.count(question) for question in questions] == [1, 1]
    assert len(model.tasks_seen) == 2 + 2 * len(stages)  # queries; views, held-out demonstrations


def test_a_vote_goes_on_from_the_probe_and_asks_nothing_twice() -> None:
    model = ScriptedModel(upper)
    bound = steps(model, policy=StagedPolicy("icl_vote", (Stage.VOTES,)))
    state = solved(bound)
    asked_twice = [task for task in model.tasks_seen if model.tasks_seen.count(task) > 1]

    assert state["answered_by"] == "icl_vote"
    assert asked_twice == []
    assert state["tokens"] == state["probe"].tokens  # two views, and both were known


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


@pytest.mark.parametrize("verdict", ["gave up", "worse"])
def test_of_adapted_and_unadapted_the_one_that_is_better_on_held_out_demonstrations_answers(verdict: str) -> None:
    worse, better = (
        solved(steps(ttt=FakeTtt(("X", "Y"), verdict=each), policy=AlwaysArm("ttt"))) for each in (verdict, "learned")
    )

    assert ([answer.value for answer in worse["answers"]], worse["answered_by"]) == (["C", "D"], "icl")
    assert ([answer.value for answer in better["answers"]], better["answered_by"]) == (["X", "Y"], "ttt")


def test_a_policy_may_have_training_watched_and_the_adapter_is_looked_up_as_such() -> None:
    ttt = FakeTtt()
    solved(steps(ttt=ttt, policy=StagedPolicy("ttt", check_every=3)))
    solved(steps(ttt=ttt, policy=StagedPolicy("ttt_short", check_every=3)))
    solved(steps(ttt=ttt, policy=StagedPolicy("ttt")))
    solved(steps(ttt=ttt, policy=StagedPolicy("ttt", check_every=3)), asked(arm="ttt"))

    assert [(each.steps, each.check_every) for each in ttt.trained] == [(8, 3), (2, 3), (8, None), (8, None)]
    assert [each.check_every for each in ttt.looked_up] == [3, 3, None, None]


class Counted(ScriptedModel):
    """Counts what it is asked at once."""

    __slots__ = ("batches",)

    def generate(self, tasks: Sequence[Task], **more: Any) -> list[Generation]:
        self.batches = [*getattr(self, "batches", []), len(tasks)]
        return ScriptedModel.generate(self, tasks, **more)


@pytest.mark.parametrize("arm", ["icl_vote", "zero_shot"])
def test_who_is_solved_together_asks_in_context_together_and_is_charged_its_share_once(arm: str) -> None:
    model = Counted(upper)
    bound = steps(model, arm=arm)
    task = TWO.model_copy(update={"instruction": "Shout."})
    cohort = Cohort(2)

    def one(seat: Seat) -> SolveState:
        try:
            return solved(bound, {**asked(task), "seat": seat, "probed": probed})
        finally:
            seat.leave()

    probed = bound.prober.probe(task)
    model.batches.clear()
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(one, cohort.seats))

    assert len([n for n in model.batches if n]) == 1
    assert [state["answered_by"] for state in states] == [arm] * 2
    for state, seat in zip(states, cohort.seats, strict=True):
        probe_s = next(step.seconds for step in state["path"] if step.name == "probe")
        assert seat.seconds > 0.0
        assert state["cost"].seconds == pytest.approx(seat.seconds + probe_s)


class Left(Seat):
    def __init__(self) -> None:
        super().__init__(Cohort(1), 0)
        self.n_left = 0

    def leave(self) -> None:
        self.n_left += 1


def test_a_server_s_fault_of_any_kind_ends_in_context_and_nobody_waits_for_it() -> None:
    class Broken:
        expected_s = 1.0
        kinds = ("text",)

        def answer(self, task: Task, *, deadline: float | None) -> tuple[Answer, ...]:
            raise ZeroDivisionError("no server")

        def close(self) -> None: ...

    bound = replace(steps(), added={"remote": CheckedArm.of("remote", Broken(), remedy="")})
    seat, prompting = Left(), Left()
    state = decided(bound, {**asked(arm="remote"), "seat": seat, "prompting": prompting})
    answered = bound.answer_icl(state)

    assert answered["answered_by"] == "icl"
    assert answered["degraded"] == ("the arm remote failed (ZeroDivisionError: no server)", IN_CONTEXT_INSTEAD)
    assert (seat.n_left, prompting.n_left) == (1, 1)


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


@pytest.mark.parametrize("arm", ["zero_shot", "icl_vote", "remote"])
def test_where_an_arm_gives_no_answer_the_one_in_context_stands_and_nothing_is_trained(arm: str) -> None:
    bound = steps(ttt=FakeTtt())
    state = decided(bound)
    some, none = verified(bound, state, arm, None, "X"), verified(bound, state, arm, None, None)

    assert ([answer.value for answer in some["answers"]], some["answered_by"]) == (["C", "X"], arm)
    assert ([answer.value for answer in none["answers"]], none["answered_by"]) == (["C", "D"], "icl")
    assert some["degraded"] == none["degraded"] == (IN_CONTEXT_INSTEAD,)
    assert not some["escalate"]
    assert not none["escalate"]


def test_what_an_arm_and_the_answer_in_context_leave_open_together_is_worth_training_and_the_rest_is_kept() -> None:
    bound = steps(ttt=FakeTtt())
    state = decided(bound)
    state = {**state, "probe": replace(state["probe"], answers=answers("C", None))}
    found = verified(bound, state, "icl_vote", None, None)
    after = bound.answer_ttt({**state, **found, "adapter": None})
    last = bound.verify({**state, **after, "path": (Step(name="adapt", seconds=1.0),)})

    assert found["escalate"]
    assert found["degraded"] == (IN_CONTEXT_INSTEAD, TRAINED_INSTEAD)
    assert [answer.value for answer in after["answers"]] == ["C", None]
    assert (last["escalate"], last["degraded"]) == (False, ("the model gave no answer of the task's kind",))
    assert last["answers"] == after["answers"]


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


def test_a_policy_that_finds_the_vote_too_unsure_has_the_task_trained() -> None:
    policy, ttt = StagedPolicy("icl_vote", escalate_below=0.9), FakeTtt(("X", "Y"))

    def by_order(task: Task) -> Value | None:
        return task.demonstrations[0].input if task.demonstrations else None

    state = solved(steps(ScriptedModel(by_order), ttt, policy=policy))

    assert policy.asked_of == [("icl_vote", 0.5)]  # two views say two things
    assert path_of(state)[4:] == ["answer_vote", "verify", "adapt", "answer_ttt", "verify", "record"]
    assert ([answer.value for answer in state["answers"]], state["answered_by"]) == (["X", "Y"], "ttt")
    assert state["decision"].arm == "icl_vote"
    assert state["degraded"] == ("icl_vote was unsure (confidence 0.50); trained instead",)


def test_a_sure_vote_is_let_be() -> None:
    ttt = FakeTtt()
    state = solved(steps(ttt=ttt, policy=StagedPolicy("icl_vote", escalate_below=0.9)))

    assert (state["answered_by"], state.get("degraded", ()), ttt.trained) == ("icl_vote", (), [])


def test_an_escalation_that_does_not_help_ends_in_the_answer_there_was() -> None:
    policy, ttt = StagedPolicy("icl_vote", escalate_below=2.0), FakeTtt(("X", "Y"), verdict="worse")
    state = solved(steps(ttt=ttt, policy=policy))

    assert ([answer.value for answer in state["answers"]], state["answered_by"]) == (["C", "D"], "icl_vote")
    assert len(ttt.trained) == len(policy.asked_of) == 1


def test_there_is_no_escalation_that_the_deadline_does_not_leave_time_for() -> None:
    bound = steps(ttt=FakeTtt(), policy=StagedPolicy("icl", escalate_below=2.0))
    state: SolveState = {**decided(bound), "answers": answers("C", "D"), "answered_by": "icl"}
    slow = replace(state["features"], predicted_cost_s=(("ttt", 60.0),))

    assert bound.verify({**state, "features": slow})["escalate"]
    assert bound.verify({**state, "features": slow, "deadline": time.monotonic() + 600})["escalate"]
    assert not bound.verify({**state, "features": slow, "deadline": time.monotonic() + 6})["escalate"]
    assert not bound.verify({**state, "forced_arm": "icl"})["escalate"]
    assert not bound.verify({**state, "answered_by": "ttt"})["escalate"]


def test_a_policy_that_fails_over_an_answer_leaves_it_as_it_is() -> None:
    bound = steps(ttt=FakeTtt(), policy=StagedPolicy("icl", error=ZeroDivisionError("no mind")))
    state: SolveState = {**decided(bound), "answers": answers("C", "D"), "answered_by": "icl"}
    said = bound.verify(state)

    assert not said["escalate"]
    assert "no mind" in said["degraded"][0]


# record


def test_a_cost_is_learned_from_what_went_as_decided_and_from_nothing_else() -> None:
    bound = steps(ttt=FakeTtt())
    work = Work(1.0, kind="text")
    before = bound.costs.predict(ALL, work=work, cached=False)
    state: SolveState = {**decided(bound, asked(arm="ttt")), "answers": answers("C", "D"), "answered_by": "ttt"}
    bound.record({**state, "degraded": ("deadline reached",)})
    unlearned = bound.costs.predict(ALL, work=work, cached=False)
    bound.record(state)
    learned = bound.costs.predict(ALL, work=work, cached=False)

    assert unlearned == before
    assert learned["ttt"] != before["ttt"]
    assert learned["ttt_short"] == before["ttt_short"]


def test_seconds_of_a_probe_that_came_from_elsewhere_are_the_solve_s_and_no_arm_s() -> None:
    bound = steps(ttt=FakeTtt())
    work = Work(1.0, kind="text")
    before = bound.costs.predict(ALL, work=work, cached=False)
    elsewhere = replace(bound.prober.probe(TWO), seconds=500.0, prompt_s=1.0)
    state = solved(bound, {**asked(arm="icl_vote"), "probed": elsewhere})
    after = bound.costs.predict(ALL, work=work, cached=False)

    assert state["cost"].seconds > 500.0
    assert 0.0 < after["icl_vote"] < before["icl_vote"]


class Unwritable:
    """A ledger that is broken in a way nobody thought of, or a queue of traces that is."""

    def record_decision(self, row: DecisionRow) -> DecisionRow:
        raise ZeroDivisionError("no ledger")

    def put(self, *_: object) -> tuple[str, ...]:
        raise ZeroDivisionError("no queue")


class Unreasonable(AlwaysArm):
    """Gives a difficulty that is no number."""

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        return replace(super().decide(features, rng, arms), difficulty=cast(float, object()))


def test_whatever_is_wrong_with_a_record_costs_the_record_and_not_the_answer(tmp_path: Path) -> None:
    broken = Unwritable()
    with Ledger.open(tmp_path) as ledger:
        states = [
            solved(replace(steps(), ledger=cast(Ledger, broken))),
            solved(replace(steps(policy=Unreasonable("icl")), ledger=ledger)),
            solved(replace(steps(), ledger=ledger, traces=cast(TraceWriter, broken))),
        ]

    assert [[answer.value for answer in state["answers"]] for state in states] == [["C", "D"]] * 3
    assert [state["degraded"][0].partition(":")[0] for state in states] == [*["not recorded"] * 2, "trace not kept"]


def test_a_policy_that_cannot_count_what_was_spent_costs_the_count_and_not_the_answer() -> None:
    class Counting(StagedPolicy):
        def spent(self, arm: str, seconds: float) -> None:
            raise ZeroDivisionError(f"no budget for {arm}")

    state = solved(steps(policy=Counting("icl")))

    assert [answer.value for answer in state["answers"]] == ["C", "D"]
    assert state["degraded"] == (
        "what was spent is not counted: policy staged failed (ZeroDivisionError: no budget for icl)",
    )


def test_a_trace_holds_what_the_steps_found() -> None:
    bound = steps(ttt=FakeTtt())
    state = decided(bound, asked(arm="ttt"))
    state = {**state, **bound.adapt(state), "answers": answers("C", None), "answered_by": "ttt"}
    trace = trace_of(state, Cost(1.5, 0.0, 99), "fingerprint")

    assert (trace.trace_id, trace.task, trace.seed) == (state["trace_id"], TWO, 0)
    assert [each.candidates[0].value for each in trace.icl] == ["C", "D"]
    assert [len(each.candidates) for each in trace.answers] == [1, 0]
    assert trace.loo_exact == ()  # nobody asked for them
    assert (trace.decision.arm, trace.decision.propensities["ttt"]) == ("ttt", 1.0)
    assert trace.adapter is not None
    assert (trace.adapter.key, trace.adapter.losses) == (ADAPTER.key, ADAPTER.losses)
    assert (trace.cost.seconds, trace.cost.tokens, trace.model_fingerprint) == (1.5, 99, "fingerprint")


# features


@pytest.mark.parametrize("solutions", [("C", "D"), ("C", "another one"), ("0", "c")])
def test_a_solution_in_the_file_changes_no_feature(tmp_path: Path, solutions: tuple[str, str]) -> None:
    shots = [{"input": shown.input, "target": shown.output} for shown in TWO.demonstrations]
    path = tmp_path / "letters.json"
    found = []
    for solution in solutions:
        path.write_text(json.dumps({"examples": [*shots, {"input": "c", "target": solution}]}))
        (labelled,) = load_tasks(path, shots=2)
        bound = steps(ttt=FakeTtt(), policy=StagedPolicy("icl", (Stage.HELD_OUT, Stage.VOTES, Stage.TRIAL)))
        found.append(bound.look_closer(looked_up(bound, asked(labelled.task)))["features"])

    assert replace(found[0], predicted_cost_s=()) == replace(found[1], predicted_cost_s=())


class CuriousPolicy(StagedPolicy):
    """Wants to know all there is to know of each task."""

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        unknown = {Stage.HELD_OUT: "loo_nll_mean", Stage.VOTES: "vote_agreement", Stage.TRIAL: "trial_nll"}
        return next((stage for stage, name in unknown.items() if features.value(name) is None), None)


def test_features_of_every_stage_are_the_same_alone_and_among_others(folder: Path, tmp_path: Path) -> None:
    model = taught_model()  # answers these tasks, so that none of them leaves an adapter

    def features_by_task(name: str, *, together: bool) -> dict[str, Features]:
        settings = Settings(home=tmp_path / name, arms=("icl", "ttt"))
        with Router(settings, model=model, policy=CuriousPolicy("icl")) as router:
            solutions = router.solve_many(TASKS) if together else [router.solve(task) for task in TASKS]
        assert [solution.degraded for solution in solutions] == [()] * len(TASKS)
        with Ledger.open(settings.ledger_location) as ledger:
            traces = [Trace.read(ledger.trace(each.trace_id).document) for each in solutions]
        return {trace.task.id: Features.read(json.dumps(trace.decision.features)) for trace in traces}

    alone, among = features_by_task("alone", together=False), features_by_task("among", together=True)

    assert alone.keys() == among.keys()
    for task_id, features in alone.items():
        for name in FEATURE_NAMES:
            assert among[task_id].value(name) == pytest.approx(features.value(name), abs=1e-2), name
        assert features.vote_agreement is not None
        assert (features.trial_nll is None) == (features.n_demonstrations < 3)  # none can be spared


def test_a_training_that_does_not_help_is_given_up_where_the_policy_has_it_watched(
    folder: Path, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, arms=("icl", "ttt"), ttt_steps=20, ttt_learning_rate=1e-9, ttt_rank=2, n_views=1)
    with Router(settings, model=tiny_model(), policy=StagedPolicy("ttt", check_every=2)) as router:
        solution = router.solve(CONSTANT_TASK)
    with Ledger.open(settings.ledger_location) as ledger:
        adapter = Trace.read(ledger.trace(solution.trace_id).document).adapter

    assert (solution.arm, solution.answered_by) == ("ttt", "icl")
    assert adapter is not None
    assert adapter.verdict == "gave up"
    assert len(adapter.losses) == 2 * len(CONSTANT_TASK.demonstrations)  # one round of looks, of 20 steps


# a family


def test_a_family_is_trained_on_without_those_of_another_kind_or_with_too_few_demonstrations() -> None:
    single, fake = Task.from_pairs([("a", "b")], "c"), FakeTtt()
    bound = steps(ScriptedModel(lambda task: task.query), fake, "ttt")
    family = (TWO, TEXT_TASK, single, CONSTANT_TASK)
    for task in (TEXT_TASK, CONSTANT_TASK):
        bound.adapt(decided(bound, {**asked(task), "sharing": family}))

    assert fake.families == [(TWO, TEXT_TASK)]
    assert len(fake.trained) == 1  # the grid, which has its adapter for itself
