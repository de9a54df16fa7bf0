"""What one solve knows so far, and what follows from that alone."""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Callable, Sequence
from typing import Annotated, TypedDict

from icl_engine.answer import Answer
from icl_engine.probe import ProbeResult
from icl_engine.task import Task
from policies.decision import Arm, Decision, Policy
from policies.features import Features
from policies.records import DecisionRow
from policies.stages import Stage
from router.solution import Cost
from router.trace import AdapterTrace, Step, Trace
from ttt_engine.adapter import Adapter
from ttt_engine.cohort import Seat
from ttt_engine.errors import Cancelled
from ttt_engine.trial import Trial

Progress = Callable[[str, int, int], None]  # step's name, done, of


class SolveState(TypedDict, total=False):
    """What one solve knows so far. Each key is written by one step; those with `operator.add` are added to."""

    task: Task
    forced_arm: str | None
    seed: int
    deadline: float | None  # on the clock of time.monotonic
    progress: Progress
    cancelled: Callable[[], bool]  # looked at before each step, and before each step of training
    seat: Seat | None  # among tasks that are solved together
    sharing: tuple[Task, ...]  # that are to have one adapter, the task among them; none: its own
    prompting: Seat | None  # among those who ask in context, where these do not wait for training
    probed: ProbeResult | None  # where that was done together with others

    trace_id: str
    started: float
    arms: tuple[str, ...]
    probe: ProbeResult
    cached: bool
    nearest_distance: float | None  # to a task that an adapter is known of
    trial: Trial | None
    features: Features
    stage: Stage | None  # that the policy wants to be run next
    decision: Decision
    decided_by: Policy  # as it was then
    adapter: Adapter | None
    adapter_cached: bool
    adapter_waited: bool  # for another solve that trained it
    answers: tuple[Answer, ...]
    answered_by: str
    escalate: bool  # `verify` asks for training
    cost: Cost
    tokens: Annotated[int, operator.add]
    degraded: Annotated[tuple[str, ...], operator.add]
    path: Annotated[tuple[Step, ...], operator.add]


def available_arms(task: Task, arms: Sequence[str]) -> tuple[str, ...]:
    """Return those of the built-in `arms` that can answer `task`: training needs two demonstrations, `zero_shot` an
    instruction.
    """
    fits: dict[str, bool] = {
        Arm.ZERO_SHOT: task.kind == "text" and task.instruction is not None,
        Arm.ICL: True,
        Arm.ICL_VOTE: True,
        Arm.TTT_SHORT: len(task.demonstrations) >= 2,
        Arm.TTT: len(task.demonstrations) >= 2,
    }
    return tuple(arm for arm in arms if fits.get(arm, False))


def family_of(state: SolveState) -> tuple[Task, ...]:
    """Return the tasks that share this one's adapter, as far as they can be trained on with it: of its kind, of two
    demonstrations or more. None where it has the adapter for itself.
    """
    task = state["task"]
    found = [each for each in state["sharing"] if each.kind == task.kind and available_arms(each, (Arm.TTT,))]
    return tuple(found) if len({each.demonstrations_fingerprint for each in found}) > 1 else ()


def check_wanted(state: SolveState) -> None:
    """Go on only while somebody wants the answer.

    Raises:
        Cancelled: nobody does.
    """
    if state["cancelled"]():
        raise Cancelled(task_id=state["task"].id)


def in_time(state: SolveState) -> bool:
    """Say whether there is time left."""
    return state["deadline"] is None or time.monotonic() < state["deadline"]


def seconds_of(state: SolveState) -> float:
    """Return the seconds that the solve took; of one among several its share of what was done together."""
    seat, prompting = state["seat"], state["prompting"]
    if seat is None:
        before_s = 0.0 if state["probed"] is None else state["probed"].seconds
        return before_s + time.perf_counter() - state["started"]
    added = state["decision"].arm not in tuple(Arm)
    own = ("probe", *(("answer_icl",) if added else ()))  # the rest is asked from a seat
    return (
        seat.seconds
        + _shared_training_seconds(state)
        + (0.0 if prompting is None else prompting.seconds)
        + sum(step.seconds for step in state["path"] if step.name in own)
    )


def _shared_training_seconds(state: SolveState) -> float:
    """Return what training the adapter of a family took whoever trained it, which bears that alone. Where it failed,
    nobody can say who: it is the time of each who asked.
    """
    if not family_of(state):
        return 0.0
    adapter = state["adapter"]
    if adapter is None:
        return sum(step.seconds for step in state["path"] if step.name == "adapt")
    return 0.0 if state["adapter_cached"] or state["adapter_waited"] else adapter.train_seconds


def trace_of(state: SolveState, cost: Cost, model_fingerprint: str, recorded: DecisionRow | None = None) -> Trace:
    """Make the record of a solve from its final state and, where there is one, its decision in the ledger."""
    adapter = state["adapter"]
    return Trace.of(
        trace_id=state["trace_id"],
        created_at=None if recorded is None else recorded.created_at,
        tenant="default" if recorded is None else recorded.tenant,
        task=state["task"],
        model_fingerprint=model_fingerprint,
        seed=state["seed"],
        probe=state["probe"],
        features=state["features"],
        decision=state["decision"],
        answers=state["answers"],
        answered_by=state["answered_by"],
        adapter=None
        if adapter is None
        else AdapterTrace(
            key=adapter.key,
            cached=state["adapter_cached"],
            losses=adapter.losses,
            train_seconds=adapter.train_seconds,
            verdict=adapter.verdict,
            parents=adapter.parents,
            tasks=max(1, len({task.demonstrations_fingerprint for task in family_of(state)})),
            lora=json.loads(adapter.spec)["lora"] if adapter.spec else {},
            adapter_bytes=len(adapter.weights),
        ),
        cost=cost,
        degraded=state.get("degraded", ()),
        path=state["path"],
    )
