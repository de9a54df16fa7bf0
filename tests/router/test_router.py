"""`solve` always answers: each arm in its way, and where anything but the prompt itself fails, in context and saying
so.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import router.router
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import LabelledTask, Limits, Task, Value
from icl_engine.transformers_model import TransformersModel
from policies.costs import Work
from policies.decision import Arm, Decision, Policy
from policies.feature_values import FeatureValues
from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.records import DecisionRow
from router.errors import (
    ArmUnavailable,
    ContextOverflow,
    LedgerUnavailable,
    ModelUnavailable,
    OutcomeConflict,
    PolicyFileDamaged,
    RecordRefused,
    SettingsError,
    TaskRefused,
    TaskTooLarge,
    UnknownTrace,
)
from router.feedback import Audits
from router.router import Router
from router.settings import Settings
from router.solution import Solution
from router.trace import AdapterTrace, Trace
from router.traces import read_trace, replay
from tests.models import (
    ANSWERS,
    CONSTANT,
    CONSTANT_TASK,
    ROW_TASK,
    TASKS,
    TEXT_TASK,
    save_tiny_llama,
    taught_model,
    tiny_model,
)
from tests.redis_server import RedisServer, redis_server
from tests.router.fakes import grid_task, mirrored
from ttt_engine.adapter import Adapter
from ttt_engine.config import LoraSettings
from ttt_engine.errors import AdapterRejected, StoreMisconfigured, StoreUnavailable, TrainingFailed
from ttt_engine.stores import MemoryAdapterStore
from ttt_engine.training import TrainingJob, train_many

ALL_ARMS = ("zero_shot", "icl", "icl_vote", "ttt_short", "ttt")
TRAINED = ("ttt_short", "ttt")
Make = Callable[..., Router]


class FailingPolicy:
    """A policy that is broken in the way of its choice."""

    name, version = "failing", "1"

    def __init__(self, change: Callable[[Decision], Decision] | None = None) -> None:
        self.change = change

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        return (1.0 / len(arms),) * len(arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        if self.change is None:
            raise ZeroDivisionError("no gain")
        return self.change(AlwaysArm(arms[0]).decide(features, rng, arms))


class FailingStore(MemoryAdapterStore):
    """A store in which everything fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def get(self, key: str) -> Adapter | None:
        raise self.error

    def put(self, adapter: Adapter) -> None:
        raise self.error

    def __contains__(self, key: str) -> bool:
        raise self.error


class FullLedger(Ledger):
    """A ledger that takes nothing more."""

    def record_decision(self, row: DecisionRow) -> DecisionRow:
        raise LedgerUnavailable("here", "disk full", remedy="Free some space.")


@pytest.fixture(scope="module")
def taught() -> TransformersModel:
    """Knows TASKS by heart. Adapters come and go on it; its own weights stay."""
    return taught_model()


@pytest.fixture(scope="module")
def tiny() -> TransformersModel:
    """Answers nothing in context, and CONSTANT_TASK once it is trained."""
    return tiny_model()


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    """Training that leaves a taught model about as it was."""
    return Settings(
        home=tmp_path / "home", arms=ALL_ARMS, n_views=2, ttt_rank=4, ttt_alpha=8.0, ttt_steps=4, ttt_batch_size=2,
        ttt_learning_rate=1e-4, epsilon=0.0,
    )  # fmt: skip


@pytest.fixture
def learning(settings: Settings) -> Settings:
    """Training that teaches a tiny model something."""
    return settings.model_copy(update={"ttt_steps": 20, "ttt_batch_size": 4, "ttt_learning_rate": 3e-2})


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    """Make routers that are closed at the end."""
    made: list[Router] = []

    def router(model: object, given: Settings | None = None, **more: object) -> Router:
        made.append(Router(given or settings, model=model, **more))  # type: ignore[arg-type]
        return made[-1]

    yield router
    for each in made:
        each.close()


def ledger_of(settings: Settings) -> Ledger:
    return Ledger.open(settings.ledger_location)


def trace_of(settings: Settings, trace_id: str) -> Trace:
    """The trace of a solve, which comes after its decision."""
    end = time.monotonic() + 60.0
    with ledger_of(settings) as ledger:
        while True:
            try:
                return Trace.read(ledger.trace(trace_id).document)
            except UnknownTrace:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)


def upper(task: Task) -> Value | None:
    assert isinstance(task.query, str)
    return task.query.upper()


UPPER = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], ["d", "e"], instruction="Shout.")

# The arms

PATHS = {
    "zero_shot": ["answer_icl"],
    "icl": ["answer_icl"],
    "icl_vote": ["answer_vote"],
    "ttt_short": ["adapt", "answer_ttt"],
    "ttt": ["adapt", "answer_ttt"],
}


@pytest.mark.parametrize("forced", [True, False], ids=["forced", "decided"])
@pytest.mark.parametrize("arm", ALL_ARMS)
def test_every_arm_can_be_decided_for_and_asked_for(
    make: Make, settings: Settings, taught: TransformersModel, arm: str, forced: bool
) -> None:
    bare = arm == "zero_shot"  # what the taught model knows by heart it knows with the demonstrations
    model, task, answer = (ScriptedModel(upper), UPPER, "D") if bare else (taught, TEXT_TASK, ANSWERS[-1])
    router = make(model) if forced else make(model, policy=AlwaysArm(arm))
    solution = router.solve(task, arm=arm if forced else None)
    trace = trace_of(settings, solution.trace_id)

    assert (solution.answer, solution.answered_by, solution.degraded) == (answer, arm, ())
    assert (solution.arm, solution.propensity) == (arm, 1.0)
    assert [step.name for step in trace.path] == ["admit", "probe", "lookup", "decide", *PATHS[arm], "verify"]
    assert (trace.adapter is not None) == (arm in TRAINED)


def test_the_short_arm_trains_a_quarter_of_the_steps(make: Make, settings: Settings, taught: TransformersModel) -> None:
    router = make(taught)
    adapters = [trace_of(settings, router.solve(ROW_TASK, arm=arm).trace_id).adapter for arm in TRAINED]

    assert [len(adapter.losses) for adapter in adapters if adapter] == [1, 4]


def test_an_arm_that_is_asked_for_need_not_be_among_the_settings(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    router = make(taught, settings.model_copy(update={"arms": ("icl",)}))

    assert router.solve(ROW_TASK, arm="ttt").answered_by == "ttt"
    assert dict(router.decide(ROW_TASK).propensities) == {"icl": 1.0}


@pytest.mark.parametrize(
    ("arm", "task"),
    [
        ("psychic", UPPER),
        ("ttt", UPPER),  # a scripted model cannot be trained
        ("zero_shot", grid_task()),
        ("zero_shot", UPPER.model_copy(update={"instruction": None})),
    ],
)
def test_an_arm_the_task_cannot_be_answered_with_is_refused(make: Make, arm: str, task: Task) -> None:
    with pytest.raises(ArmUnavailable, match=arm) as refused:
        make(ScriptedModel(lambda task: task.query)).solve(task, arm=arm)

    assert refused.value.task_id == task.id


def test_training_needs_two_demonstrations(make: Make, taught: TransformersModel) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])

    assert not set(dict(make(taught).decide(single).propensities)) & set(TRAINED)
    with pytest.raises(ArmUnavailable):
        make(taught).solve(single, arm="ttt")


def test_training_answers_what_no_prompt_does(make: Make, learning: Settings, tiny: TransformersModel) -> None:
    router = make(tiny, learning)

    assert router.solve(CONSTANT_TASK, arm="icl").answer is None
    assert router.solve(CONSTANT_TASK, arm="ttt").answer == CONSTANT
    assert router.solve(CONSTANT_TASK, arm="icl").answer is None


def test_every_query_is_answered_under_every_arm(make: Make, taught: TransformersModel) -> None:
    several = TEXT_TASK.model_copy(update={"queries": ("a", TEXT_TASK.query)})
    router = make(taught)

    for arm in ("icl", "icl_vote", "ttt"):
        solution = router.solve(several, arm=arm)

        assert len(solution.answers) == 2
        assert solution.answers[1].value == ANSWERS[-1]


# Decisions and their record


def test_the_ledger_holds_the_decision_that_was_made(make: Make, settings: Settings, taught: TransformersModel) -> None:
    settings = settings.model_copy(update={"epsilon": 0.3})
    router = make(taught, settings)
    for seed in range(4):
        decision, solution = router.decide(ROW_TASK, seed=seed), router.solve(ROW_TASK, seed=seed)
        with ledger_of(settings) as ledger:
            row = ledger.decision(solution.trace_id)

        assert (row.arm, row.propensity, row.propensities) == (decision.arm, decision.propensity, decision.propensities)
        assert (row.policy, row.reason, row.difficulty) == (decision.policy, decision.reason, decision.difficulty)
        assert (solution.arm, solution.propensity, solution.reason) == (row.arm, row.propensity, row.reason)
        assert sum(p for _, p in row.propensities) == pytest.approx(1.0)
        assert (row.task_fingerprint, row.seed, row.degraded) == (ROW_TASK.fingerprint, seed, solution.degraded)
        assert row.measured.seconds == solution.cost.seconds
        assert row.predicted_cost_s is not None


def test_deciding_answers_nothing_and_records_nothing(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    decision = make(taught).decide(TEXT_TASK)

    with ledger_of(settings) as ledger:
        assert ledger.latest(5) == ()
    assert decision.arm in ALL_ARMS


def test_the_prior_decides_before_anything_is_learned_and_its_decision_can_be_made_again(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    router = make(taught)
    solution = router.solve(ROW_TASK)
    router.flush()

    with ledger_of(settings) as ledger:
        stored = read_trace(ledger, solution.trace_id)
    assert "model=prior-" in stored.decision.policy
    assert "by the prior alone" in solution.reason
    assert replay(stored.decision).equal


@pytest.mark.parametrize("learning", ["off", "follow"])
def test_a_damaged_prior_costs_no_answer_and_is_said(
    make: Make, settings: Settings, taught: TransformersModel, monkeypatch: pytest.MonkeyPatch, learning: str
) -> None:
    def damaged(**_: object) -> Policy:
        raise PolicyFileDamaged("prior", "prior.json", "it is no JSON")

    monkeypatch.setattr("policies.cold_start.cold_start", damaged)
    solution = make(taught, settings.model_copy(update={"learning": learning})).solve(ROW_TASK)

    assert solution.answers[0].value is not None
    assert any("prior.json" in said for said in solution.degraded)


@pytest.mark.parametrize("arms", [("icl", "icl_vote"), ("icl_vote", "ttt")])
def test_where_there_is_nothing_to_gain_over_or_to_train_the_rule_decides(
    make: Make, settings: Settings, taught: TransformersModel, arms: tuple[str, ...]
) -> None:
    decision = make(taught, settings.model_copy(update={"arms": arms})).decide(ROW_TASK)

    assert decision.policy.startswith("loo_threshold@")


def test_the_rule_answers_in_context_what_the_model_has_understood_and_trains_on_the_rest(
    make: Make, learning: Settings, tiny: TransformersModel
) -> None:
    learning = learning.model_copy(update={"cold_start": "rule"})
    understood = make(ScriptedModel(upper), learning).solve(UPPER)
    puzzling = make(tiny, learning).solve(CONSTANT_TASK)

    assert (understood.arm, understood.answer) == ("icl", "D")
    assert (puzzling.arm, puzzling.answer) == ("ttt", CONSTANT)
    assert "0 of 3" in puzzling.reason


def test_the_same_seed_gives_the_same_decision_and_answer_and_the_second_time_trains_nothing(
    make: Make, learning: Settings, tiny: TransformersModel
) -> None:
    learning = learning.model_copy(update={"cold_start": "rule"})
    told: list[tuple[str, int, int]] = []
    first = make(tiny, learning).solve(CONSTANT_TASK, seed=3)
    again = make(tiny_model(), learning).solve(CONSTANT_TASK, seed=3, progress=lambda *of: told.append(of))
    adapters = [trace_of(learning, solution.trace_id).adapter for solution in (first, again)]

    assert (again.arm, again.answers, again.propensity) == (first.arm, first.answers, first.propensity)
    assert [adapter.cached for adapter in adapters if adapter] == [False, True]
    assert [step for step in told if step[0] == "adapt" and step[2]] == []
    assert "at hand" in again.reason
    assert again.cost.tokens < first.cost.tokens


def test_other_seeds_explore_other_arms(make: Make, settings: Settings) -> None:
    settings = settings.model_copy(update={"arms": ("icl", "icl_vote")})
    router = make(ScriptedModel(mirrored), settings, policy=LooThreshold(epsilon=1.0))

    assert {router.decide(grid_task(), seed=seed).arm for seed in range(20)} == {"icl", "icl_vote"}
    assert len({router.decide(grid_task(), seed=5).arm for _ in range(5)}) == 1


def test_progress_names_every_step_and_counts_training(make: Make, taught: TransformersModel) -> None:
    told: list[tuple[str, int, int]] = []
    make(taught).solve(ROW_TASK, arm="ttt", progress=lambda *of: told.append(of))

    assert [name for name, _, of in told if not of] == [
        "admit", "probe", "lookup", "decide", "adapt", "answer_ttt", "verify", "record",
    ]  # fmt: skip
    assert [(done, of) for name, done, of in told if of] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_solution_reaches_model_policy_or_ledger(make: Make, settings: Settings) -> None:
    solution: Value = "the solution"
    labelled = LabelledTask.parse(UPPER, [solution, solution])
    model = ScriptedModel(upper)
    router = make(model)
    solved = [router.solve(labelled.task, arm=arm) for arm in ("zero_shot", "icl", "icl_vote")]

    assert model.tasks_seen
    assert not any("solution" in task.model_dump_json() for task in model.tasks_seen)
    for each in solved:
        assert "the solution" not in trace_of(settings, each.trace_id).model_dump_json()
    assert solved[0].is_correct(labelled.solutions) == (False, False)


# What goes wrong


@pytest.mark.parametrize("arm", ["ttt", "ttt_short", None])
def test_no_time_to_train_is_an_answer_in_context(make: Make, taught: TransformersModel, arm: str | None) -> None:
    router = make(taught, policy=AlwaysArm("ttt"))
    solution = router.solve(ROW_TASK, arm=arm, deadline_s=1e-9)

    assert (solution.arm, solution.answered_by, solution.answer) == (arm or "ttt", "icl", ANSWERS[0])
    assert any("deadline reached" in said for said in solution.degraded)


def test_no_time_left_after_training_is_an_answer_in_context(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    make(taught).solve(ROW_TASK, arm="ttt")
    solution = make(taught).solve(ROW_TASK, arm="ttt", deadline_s=1e-9)  # the adapter is at hand; using it takes time

    assert (solution.answered_by, solution.answer) == ("icl", ANSWERS[0])
    assert solution.degraded == ("deadline reached before the trained answer; answered in context",)


def test_the_deadline_of_the_settings_holds_where_none_is_given(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    router = make(taught, settings.model_copy(update={"deadline_s": 1e-9}))

    assert router.solve(ROW_TASK, arm="ttt").answered_by == "icl"
    assert router.solve(ROW_TASK, arm="ttt", deadline_s=1000.0).answered_by == "ttt"


def test_training_that_explodes_is_an_answer_in_context(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    router = make(taught, settings.model_copy(update={"ttt_learning_rate": 1e30}))
    solution = router.solve(ROW_TASK, arm="ttt")

    assert (solution.arm, solution.answered_by, solution.answer) == ("ttt", "icl", ANSWERS[0])
    assert any("training stopped" in said for said in solution.degraded)
    assert trace_of(settings, solution.trace_id).adapter is None


@pytest.mark.parametrize(
    "policy",
    [
        FailingPolicy(),
        FailingPolicy(lambda decision: replace(decision, arm="psychic")),
        FailingPolicy(lambda decision: replace(decision, arm="ttt")),
    ],
    ids=["raises", "invents an arm", "takes an arm that is not there"],
)
def test_a_policy_that_fails_is_an_answer_in_context(make: Make, settings: Settings, policy: Policy) -> None:
    solution = make(ScriptedModel(upper), policy=policy).solve(UPPER)

    assert (solution.arm, solution.answered_by, solution.answer, solution.propensity) == ("icl", "icl", "D", 1.0)
    assert "policy failing failed" in solution.degraded[0]
    with ledger_of(settings) as ledger:
        assert ledger.decision(solution.trace_id).degraded == solution.degraded


@pytest.mark.parametrize("propensity", [0.0, float("nan"), 2.0])
def test_a_decision_the_ledger_refuses_costs_the_record_and_not_the_answer(make: Make, propensity: float) -> None:
    policy = FailingPolicy(lambda decision: replace(decision, arm="icl", propensity=propensity))
    solution = make(ScriptedModel(upper), policy=policy).solve(UPPER)

    assert solution.answer == "D"
    assert "not recorded" in solution.degraded[0]


@pytest.mark.parametrize("error", [StoreUnavailable("the store is down"), ValueError("no such bucket")])
def test_a_store_that_fails_never_costs_the_answer(make: Make, taught: TransformersModel, error: Exception) -> None:
    solution = make(taught, store=FailingStore(error)).solve(ROW_TASK, arm="ttt")

    assert solution.answer == ANSWERS[0]
    assert any(str(error) in said for said in solution.degraded)
    assert solution.answered_by == "ttt"


class ForgedStore(MemoryAdapterStore):
    """A store in which somebody has put something of his own."""

    def get(self, key: str) -> Adapter | None:
        raise AdapterRejected("signature", "it is not ours")


def test_a_rejected_adapter_is_said_where_training_fails_too(make: Make, taught: TransformersModel) -> None:
    solution = make(taught, store=ForgedStore()).solve(ROW_TASK, arm="ttt", deadline_s=1e-9)

    assert solution.answered_by == "icl"
    assert "rejected (signature)" in solution.degraded[0]
    assert "deadline reached" in solution.degraded[1]


def test_a_ledger_that_cannot_be_opened_costs_the_record_and_not_the_answer(
    make: Make, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    router = make(ScriptedModel(upper), settings.model_copy(update={"home": tmp_path / "file" / "home"}))
    solutions = [router.solve(UPPER), router.solve(UPPER)]

    assert [solution.answer for solution in solutions] == ["D", "D"]
    assert all("not recorded" in solution.degraded[-1] for solution in solutions)
    with pytest.raises(LedgerUnavailable):
        router.feedback(solutions[0].trace_id, True)


def test_a_ledger_that_takes_nothing_more_costs_the_record_and_not_the_answer(make: Make, settings: Settings) -> None:
    with FullLedger.open(settings.ledger_location) as ledger:
        solution = make(ScriptedModel(upper), ledger=ledger).solve(UPPER)

    assert solution.answer == "D"
    assert "disk full" in solution.degraded[0]


def test_a_model_of_broken_weights_gives_no_answer_and_is_still_on_record(make: Make, settings: Settings) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.module.model.norm.weight[0] = float("nan")
    router = make(model, settings.model_copy(update={"cold_start": "rule"}))  # which has demonstrations held out
    solution = router.solve(ROW_TASK)

    assert solution.answer is None
    assert any("nan" in said for said in solution.degraded)
    assert "nan nats" in router.explain(solution.trace_id)


def test_a_fault_of_the_prompt_itself_is_an_error(make: Make, taught: TransformersModel) -> None:
    long = Task.from_pairs([("a", "b" * 600), ("c", "d")], "e", id="long")

    with pytest.raises(ContextOverflow) as refused:
        make(taught).solve(long)

    assert refused.value.task_id == "long"


def test_a_task_beyond_the_limits_of_the_settings_is_refused(make: Make, settings: Settings) -> None:
    router = make(ScriptedModel(mirrored), settings.model_copy(update={"limits": Limits(side=2, line=2)}))

    with pytest.raises(TaskTooLarge):
        router.solve(grid_task())


def test_a_task_that_wider_limits_let_in_can_be_explained(make: Make, settings: Settings) -> None:
    wide = Limits(line=300)
    task = Task.parse({"demonstrations": [{"input": [1] * 300, "output": [1] * 300}], "queries": [[2] * 300]}, wide)
    router = make(ScriptedModel(mirrored), settings.model_copy(update={"limits": wide}))

    assert "Task" in router.explain(router.solve(task).trace_id)


def test_a_model_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with Router(Settings(home=tmp_path, model=str(tmp_path / "nowhere"))) as router, pytest.raises(ModelUnavailable):
        router.solve(ROW_TASK)


def test_a_home_that_cannot_be_written_costs_what_is_kept_and_not_the_answer(
    make: Make, settings: Settings, taught: TransformersModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    router = make(taught, settings.model_copy(update={"home": tmp_path / "file" / "home"}))
    solution = router.solve(ROW_TASK, arm="ttt")

    assert solution.answered_by == "ttt"
    assert any("kept in memory only" in said for said in solution.degraded)


def test_redis_that_is_away_is_said_and_costs_nothing_but_itself(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    away = settings.model_copy(update={"store_url": "redis://127.0.0.1:1"})
    router = make(taught, away)
    first = router.solve(ROW_TASK, arm="ttt")
    again = router.solve(ROW_TASK, arm="ttt")
    other = router.solve(TEXT_TASK, arm="icl")

    assert first.answered_by == again.answered_by == "ttt"
    assert [said for said in first.degraded if "Redis cannot be reached" in said] == list(first.degraded)
    assert again.degraded == ()  # found in memory; nobody asked Redis
    assert "Redis cannot be reached" in other.degraded[0]
    assert first.answers == again.answers


def test_redis_that_refuses_us_is_an_error_at_the_start(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    with redis_server(requirepass="secret") as server:
        refused = settings.model_copy(update={"store_url": server.tcp_url})

        with pytest.raises(StoreMisconfigured, match="password"):
            make(taught, refused).solve(ROW_TASK)


def test_redis_that_refuses_us_is_an_error_for_every_solve(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    with redis_server(requirepass="secret") as server:
        router = make(taught, settings.model_copy(update={"store_url": server.tcp_url}))
        for _ in range(2):
            with pytest.raises(StoreMisconfigured, match="password"):
                router.solve(ROW_TASK)


def test_two_routers_share_an_adapter_through_redis_and_another_tenant_does_not(
    make: Make, settings: Settings, taught: TransformersModel, redis: RedisServer, tmp_path: Path
) -> None:
    def solved(home: str, tenant: str = "default") -> AdapterTrace:
        shared = settings.model_copy(
            update={
                "store_url": redis.url,
                "home": tmp_path / home,
                "tenant": tenant,
                "store_secrets": "a secret that both of them have",
            }
        )
        router = make(taught, shared)
        solution = router.solve(ROW_TASK, arm="ttt")
        assert solution.degraded == ()
        adapter = trace_of(shared, solution.trace_id).adapter
        assert adapter is not None
        return adapter

    first, second, foreign = solved("one"), solved("two"), solved("three", "acme")

    assert (first.cached, second.cached, foreign.cached) == (False, True, False)
    assert first.key == second.key != foreign.key


def test_what_training_began_with_is_in_the_trace_and_said(
    make: Make, settings: Settings, taught: TransformersModel
) -> None:
    router = make(taught, settings.model_copy(update={"warm_start": 0.2}))
    router.solve(ROW_TASK, arm="ttt")
    like = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:2])
    said = router.explain(router.solve(like, arm="ttt").trace_id)

    assert "beginning with" in said


def test_a_store_of_an_unknown_kind_is_named(folder: Path, tmp_path: Path, taught: TransformersModel) -> None:
    with (
        Router(Settings(home=tmp_path, store_url="cloud:abc"), model=taught) as router,
        pytest.raises(SettingsError, match="TTT_ROUTER_STORE_URL"),
    ):
        router.solve(ROW_TASK)


# Escalation


def test_where_the_prompt_gives_nothing_training_is_tried_once(
    make: Make, learning: Settings, tiny: TransformersModel
) -> None:
    for arm in ("icl", "icl_vote"):
        solution = make(tiny, learning, policy=AlwaysArm(arm)).solve(CONSTANT_TASK, seed=1)
        trace = trace_of(learning, solution.trace_id)

        assert (solution.arm, solution.answered_by, solution.answer) == (arm, "ttt", CONSTANT)
        assert solution.degraded == ("no answer in context; trained instead",)
        assert [step.name for step in trace.path].count("adapt") == 1


def test_training_that_gives_nothing_either_is_no_answer_in_context(
    make: Make, settings: Settings, tiny: TransformersModel
) -> None:
    solution = make(tiny, settings.model_copy(update={"ttt_steps": 0}), policy=AlwaysArm("icl")).solve(CONSTANT_TASK)

    assert (solution.answer, solution.answered_by) == (None, "icl")
    assert solution.degraded[0] == "no answer in context; trained instead"
    assert [step.name for step in trace_of(settings, solution.trace_id).path].count("adapt") == 1


@pytest.mark.parametrize(
    ("arm", "deadline_s", "n_demonstrations"), [("icl", None, 3), (None, 1e-9, 3), (None, None, 1)]
)
def test_an_arm_that_was_asked_for_no_time_and_no_second_demonstration_rule_training_out(
    make: Make,
    learning: Settings,
    tiny: TransformersModel,
    arm: str | None,
    deadline_s: float | None,
    n_demonstrations: int,
) -> None:
    task = CONSTANT_TASK.replace(demonstrations=CONSTANT_TASK.demonstrations[:n_demonstrations])
    solution = make(tiny, learning, policy=AlwaysArm("icl")).solve(task, arm=arm, deadline_s=deadline_s)

    assert (solution.answer, solution.answered_by) == (None, "icl")
    assert solution.degraded == ("the model gave no answer of the task's kind",)


# Event loops, threads, lifetimes


def test_it_works_inside_a_running_event_loop(make: Make, taught: TransformersModel) -> None:
    router = make(taught)

    async def everything() -> list[Value | None]:
        several = await asyncio.gather(*(router.asolve(task, arm="ttt") for task in TASKS))
        return [router.solve(ROW_TASK, arm="icl").answer, *(solution.answer for solution in several)]

    assert asyncio.run(everything()) == [ANSWERS[0], *ANSWERS]


def test_the_event_loop_goes_on_while_a_task_is_solved(make: Make) -> None:
    ticks: list[int] = []

    def slow(task: Task) -> Value | None:
        time.sleep(0.05)
        return upper(task)

    async def both() -> Value | None:
        solving = asyncio.create_task(make(ScriptedModel(slow)).asolve(UPPER, arm="icl"))
        while not solving.done():
            ticks.append(1)
            await asyncio.sleep(0.01)
        return (await solving).answer

    assert asyncio.run(both()) == "D"
    assert len(ticks) > 3


def test_threads_on_a_fresh_router_get_what_one_after_another_gets(
    make: Make, learning: Settings, tmp_path: Path
) -> None:
    work = [(task, arm) for arm in ("ttt", "icl", "icl_vote") for task in (CONSTANT_TASK, TEXT_TASK)]
    one, many = (learning.model_copy(update={"home": tmp_path / name}) for name in ("one", "many"))
    router = make(tiny_model(), one)
    alone = [router.solve(task, arm=arm) for task, arm in work]
    router = make(tiny_model(), many)
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda each: router.solve(each[0], arm=each[1]), work))

    assert [solution.answers for solution in at_once] == [solution.answers for solution in alone]
    assert len({solution.trace_id for solution in at_once}) == len(work)
    with ledger_of(many) as ledger:
        assert len(ledger.latest(99)) == len(work)


def test_a_home_that_is_made_is_its_user_s_alone(make: Make, taught: TransformersModel, settings: Settings) -> None:
    make(taught).solve(TASKS[0], arm="icl")

    assert settings.home.stat().st_mode & 0o777 == 0o700


def test_a_prompt_that_was_asked_with_others_has_its_share_of_the_time_in_the_path(
    make: Make, taught: TransformersModel
) -> None:
    router = make(taught)
    for solution in router.solve_many(TASKS, arm="icl"):
        took = {step.name: step.seconds for step in router._stored(solution.trace_id).trace.path}
        assert took["probe"] > 0.5 * solution.cost.seconds > 0.0


def test_solve_many_answers_in_order(make: Make, taught: TransformersModel) -> None:
    solutions = make(taught).solve_many(TASKS, arm="icl")

    assert tuple(solution.answer for solution in solutions) == ANSWERS
    assert [solution.task for solution in solutions] == list(TASKS)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Passes are shared out over two threads, however many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("arm", [None, "ttt", "ttt_short"])
def test_tasks_solved_together_come_out_as_alone(
    make: Make, learning: Settings, tmp_path: Path, arm: str | None
) -> None:
    tasks = [CONSTANT_TASK, TEXT_TASK, ROW_TASK, CONSTANT_TASK.replace(queries=(((9, 9),),)), CONSTANT_TASK]
    one, many = (learning.model_copy(update={"home": tmp_path / name}) for name in ("one", "many"))
    alone = [make(tiny_model(), one).solve(task, arm=arm) for task in tasks]

    together = make(tiny_model(), many).solve_many(tasks, arm=arm)

    assert [solution.task for solution in together] == tasks
    assert [solution.arm for solution in together] == [solution.arm for solution in alone]
    assert [solution.answer for solution in together] == [solution.answer for solution in alone]
    assert [solution.degraded for solution in together] == [solution.degraded for solution in alone]
    with ledger_of(many) as ledger:
        assert len(ledger.latest(99)) == len(tasks)
        assert len({solution.trace_id for solution in together}) == len(tasks)


def test_tasks_solved_together_share_the_time_and_teach_the_cost_model_nothing(make: Make, learning: Settings) -> None:
    router = make(tiny_model(), learning)
    began = time.perf_counter()
    solutions = router.solve_many([CONSTANT_TASK, TEXT_TASK, ROW_TASK], arm="ttt")
    wall = time.perf_counter() - began
    costs = router.steps.costs

    assert sum(solution.cost.seconds for solution in solutions) <= wall
    assert all(solution.cost.seconds > 0 for solution in solutions)
    fresh = make(tiny_model(), learning).steps.costs
    assert costs.predict(("ttt",), work=Work(1.0), cached=False) == fresh.predict(
        ("ttt",), work=Work(1.0), cached=False
    )


def test_tasks_solved_together_share_one_training_run_of_the_model(
    make: Make, learning: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[int] = []

    def noted(model: TransformersModel, lora: LoraSettings, jobs: Sequence[TrainingJob]) -> object:
        served.append(len(jobs))
        return train_many(model, lora, jobs)

    monkeypatch.setattr("ttt_engine.engine.train_many", noted)
    make(tiny_model(), learning).solve_many([CONSTANT_TASK, TEXT_TASK, ROW_TASK, CONSTANT_TASK], arm="ttt")

    assert served == [3]


def test_tasks_that_share_an_adapter_are_trained_on_once_for_each_kind_and_say_so(
    make: Make, learning: Settings
) -> None:
    like = Task.from_pairs([([7, 7], [0, 0]), ([2], [0, 0]), ([1, 9], [0, 0])], [3])
    router = make(tiny_model(), learning)

    first = router.solve_many([CONSTANT_TASK, like, TEXT_TASK], arm="ttt", share_adapter=True)
    again = router.solve_many([like, CONSTANT_TASK], arm="ttt", share_adapter=True)
    own = router.solve(like, arm="ttt")

    def adapters(solutions: Sequence[Solution]) -> list[AdapterTrace]:
        return [cast("AdapterTrace", router._stored(each.trace_id).trace.adapter) for each in solutions]

    row, other_row, text = adapters(first)
    assert row.key == other_row.key == adapters(again)[0].key == adapters(again)[1].key
    assert len({row.key, text.key, adapters([own])[0].key}) == 3
    assert [each.tasks for each in (row, other_row, text, *adapters([own]))] == [2, 2, 1, 1]
    assert [each.cached for each in adapters(again)] == [True, True]
    assert [each.answer for each in (*first[:2], *again)] == [CONSTANT] * 4
    assert "for 2 tasks together" in router.explain(first[1].trace_id)
    assert not any(each.degraded for each in (*first, *again))


def test_of_tasks_that_share_an_adapter_whoever_trains_it_bears_what_that_took(make: Make, learning: Settings) -> None:
    like = Task.from_pairs([([7, 7], [0, 0]), ([2], [0, 0]), ([1, 9], [0, 0])], [3])
    router = make(tiny_model(), learning)
    began = time.perf_counter()
    solutions = router.solve_many([CONSTANT_TASK, like], arm="ttt", share_adapter=True)
    wall = time.perf_counter() - began
    adapter = cast("AdapterTrace", router._stored(solutions[0].trace_id).trace.adapter)

    assert adapter.train_seconds < sum(each.cost.seconds for each in solutions) <= wall
    assert sorted(each.cost.seconds > adapter.train_seconds for each in solutions) == [False, True]


def test_a_shared_training_that_fails_is_paid_for_and_answered_in_context(
    make: Make, learning: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(model: TransformersModel, lora: LoraSettings, job: TrainingJob) -> object:
        time.sleep(0.3)
        raise TrainingFailed("loss became nan at step 1")

    like = Task.from_pairs([([7, 7], [0, 0]), ([2], [0, 0]), ([1, 9], [0, 0])], [3])
    monkeypatch.setattr("ttt_engine.engine.train", failing)
    solutions = make(tiny_model(), learning).solve_many([CONSTANT_TASK, like], arm="ttt", share_adapter=True)

    assert [each.answered_by for each in solutions] == ["icl", "icl"]
    assert all("nan" in each.degraded[0] for each in solutions)
    assert max(each.cost.seconds for each in solutions) > 0.3


def test_tasks_that_share_an_adapter_have_it_with_deadlines_too(make: Make, learning: Settings) -> None:
    like = CONSTANT_TASK.replace(demonstrations=CONSTANT_TASK.demonstrations[:2])
    router = make(tiny_model(), learning)
    one, two = router.solve_many([CONSTANT_TASK, like], arm="ttt", share_adapter=True, deadline_s=120.0)
    adapters = [router._stored(each.trace_id).trace.adapter for each in (one, two)]

    assert [each.answered_by for each in (one, two)] == ["ttt", "ttt"]
    assert len({adapter.key for adapter in adapters if adapter}) == 1


def test_a_task_among_several_that_is_refused_is_told_of(make: Make, taught: TransformersModel) -> None:
    long = TEXT_TASK.replace(queries=("x" * 600,))

    with pytest.raises(ContextOverflow):
        make(taught).solve_many([*TASKS, long], arm="icl")


def test_with_a_deadline_each_of_several_tasks_has_its_own_time(make: Make, taught: TransformersModel) -> None:
    solutions = make(taught).solve_many(TASKS, arm="ttt", deadline_s=60.0)

    assert [solution.answered_by for solution in solutions] == ["ttt"] * 3


def test_no_task_is_no_solution(make: Make, taught: TransformersModel) -> None:
    assert make(taught).solve_many([]) == []


def test_a_ledger_that_was_handed_in_is_used_and_stays_open(settings: Settings, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "elsewhere.sqlite") as ledger:
        with Router(settings, model=ScriptedModel(upper), ledger=ledger) as used:
            trace_id = used.solve(UPPER, arm="icl").trace_id
        used.feedback(trace_id, True)

        assert ledger.decision(trace_id).arm == "icl"
        assert len(ledger.outcomes(trace_id)) == 1
    assert not settings.home.exists()


def test_a_router_that_is_gone_keeps_no_model_alive(settings: Settings) -> None:
    used = Router(settings, model=ScriptedModel(upper))
    used.solve(UPPER)
    used.close()
    alive = weakref.ref(used)
    del used
    gc.collect()

    assert alive() is None


def test_solve_without_a_router_uses_the_settings_of_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTT_ROUTER_MODEL", str(save_tiny_llama(tmp_path / "llama")))
    monkeypatch.setenv("TTT_ROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TTT_ROUTER_DEVICE", "cpu")
    router.router._default_router.cache_clear()
    try:
        solution = router.router.solve(TEXT_TASK, arm="icl")
        router.router._default_router().close()
    finally:
        router.router._default_router.cache_clear()

    assert solution.arm == Arm.ICL
    assert (tmp_path / "home" / "ledger.sqlite").exists()


# Feedback and explanations


def test_feedback_is_kept_and_told(make: Make, settings: Settings) -> None:
    router = make(ScriptedModel(upper))
    trace_id = router.solve(UPPER, arm="icl").trace_id
    router.feedback(trace_id, True)
    router.feedback(trace_id, 0.25, source="grader")
    router.feedback(trace_id, True)  # the same again changes nothing

    with ledger_of(settings) as ledger:
        assert [(row.source, row.value) for row in ledger.outcomes(trace_id)] == [("user", 1.0), ("grader", 0.25)]
    assert "says user" in router.explain(trace_id)
    assert "0.25, says grader" in router.explain(trace_id)
    with ledger_of(settings) as ledger:
        ledger.correct_outcome(trace_id, source="grader", kind="exact", value=1.0, reason="read upside down")
    assert "exact 1 (before: 0.25), says grader" in router.explain(trace_id)


@pytest.mark.parametrize("in_time", [True, False])
def test_a_corrected_answer_corrects_what_an_audit_said_of_training(
    make: Make, learning: Settings, tiny: TransformersModel, in_time: bool
) -> None:
    router, jobs = make(tiny, learning), list[Callable[[], None]]()
    router.audits = Audits(1.0, jobs.append)
    trace_id = router.solve(CONSTANT_TASK, arm="icl").trace_id

    def do_jobs() -> float:
        while jobs:
            jobs.pop(0)()
        with ledger_of(learning) as ledger:
            (audited,) = (each for each in ledger.effective_outcomes(trace_id) if each.reported.source == "audit")
        assert audited.reported.kind == "exact:ttt"
        return audited.value

    router.feedback(trace_id, answer=[[9, 9]])
    if in_time:  # else the correction comes before the first audit
        assert do_jobs() == 0.0
    router.feedback(trace_id, answer=[CONSTANT], reason="misread")
    assert do_jobs() == 1.0
    router.feedback(trace_id, answer=[[9, 9]], source="another")
    assert do_jobs() == 1.0
    router.feedback(trace_id, answer=[[9, 9]], reason="no, it was right")
    assert do_jobs() == 0.0


@pytest.mark.parametrize("arm", ["icl", "icl_vote"])
def test_a_verdict_on_training_that_had_to_answer_says_that_the_arm_drawn_was_worth_nothing(
    make: Make, learning: Settings, tiny: TransformersModel, arm: str
) -> None:
    router = make(tiny, learning, policy=AlwaysArm(arm))
    trace_id = router.solve(CONSTANT_TASK, seed=1).trace_id
    router.feedback(trace_id, True)

    with ledger_of(learning) as ledger:
        said = {row.kind: row.value for row in ledger.outcomes(trace_id)}
    assert said == {"exact": 1.0, "exact:icl": 0.0, f"exact:{arm}": 0.0}


def test_feedback_that_cannot_be_kept_is_an_error(make: Make) -> None:
    router = make(ScriptedModel(upper))
    trace_id = router.solve(UPPER).trace_id
    router.feedback(trace_id, True)

    with pytest.raises(OutcomeConflict):
        router.feedback(trace_id, False)
    with pytest.raises(RecordRefused):
        router.feedback(trace_id, 1.5, source="another")
    with pytest.raises(UnknownTrace):
        router.feedback("no such trace", True)


def test_an_explanation_says_what_why_how_and_at_what_cost(
    make: Make, learning: Settings, tiny: TransformersModel
) -> None:
    router = make(tiny, learning.model_copy(update={"cold_start": "rule"}))
    solution = router.solve(CONSTANT_TASK, seed=11)
    said = router.explain(solution.trace_id)

    assert CONSTANT_TASK.id in said
    assert solution.reason in said
    assert f"{solution.propensity:.3f}" in said
    assert "over 20 steps" in said
    assert said.count("wrong (") == 3
    assert f"{solution.cost.tokens} tokens" in said
    assert "adapt" in said.splitlines()[-1]
    with pytest.raises(UnknownTrace):
        router.explain("no such trace")


def test_an_explanation_outlives_the_router(make: Make) -> None:
    with make(ScriptedModel(upper)) as first:
        trace_id = first.solve(UPPER).trace_id

    assert UPPER.id in make(ScriptedModel(upper)).explain(trace_id)


def test_tokens_are_those_of_the_probe_of_training_and_of_the_answers(make: Make, taught: TransformersModel) -> None:
    store = MemoryAdapterStore()
    solved = {arm: make(taught, store=store).solve(ROW_TASK, arm=arm) for arm in ("icl", "icl_vote", "ttt")}
    (adapter,) = store._adapters.values()
    probed = solved["icl"].cost.tokens
    vote, trained = (sum(answer.tokens for answer in solved[arm].answers) for arm in ("icl_vote", "ttt"))

    assert solved["icl_vote"].cost.tokens == probed + vote
    assert solved["ttt"].cost.tokens == probed + adapter.train_tokens + trained
    assert 0 < vote < trained  # the vote goes on from the probe, whose first view need not be asked again


def test_seconds_on_a_gpu_are_those_of_the_solve_where_there_is_one(make: Make, taught: TransformersModel) -> None:
    cost = make(taught).solve(ROW_TASK, arm="icl").cost

    assert cost.seconds > 0
    assert cost.gpu_seconds == 0.0  # the model of these tests is on the CPU


def test_mistakes_are_told_of_before_the_model_is_loaded(settings: Settings) -> None:
    nowhere = Router(settings.model_copy(update={"model": "no/such/folder"}))

    with pytest.raises(TaskRefused, match="task: got str"):
        nowhere.solve("demonstrations")  # type: ignore[arg-type]
    with pytest.raises(ArmUnavailable, match="'foo'"):
        nowhere.solve(ROW_TASK, arm="foo")
    for deadline_s in (0.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="deadline_s"):
            nowhere.solve(ROW_TASK, deadline_s=deadline_s)
