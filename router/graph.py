"""The state machine of a solve, as a LangGraph graph: which step follows which. What the steps do is in steps.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StreamMode

from icl_engine.task import Task
from router.solve_state import SolveState, check_wanted
from router.steps import Steps
from router.trace import Step

__all__ = ["CompiledStateGraph", "StreamMode", "build_graph"]


def build_graph(
    steps: Steps, unasked: Callable[[Task], SolveState] | None = None
) -> CompiledStateGraph[SolveState, None, SolveState, SolveState]:
    """Compile admit → probe → lookup → (look_closer →) decide → (answer_icl | answer_vote | adapt → answer_ttt) →
    verify → record; `verify` may lead back to adapt.

    Args:
        unasked: gives what a solve begins with beside its task, where a graph around this one gives the task alone.
    """
    graph = StateGraph(SolveState)
    graph.add_node("admit", _timed(steps.admit if unasked is None else _completing(steps, unasked)))
    graph.add_node("probe", _timed(steps.probe, spent_before=_probed_before))
    for node in (
        steps.look_closer,
        steps.answer_icl,
        steps.answer_vote,
        steps.adapt,
        steps.answer_ttt,
        steps.record,
    ):
        graph.add_node(node.__name__, _timed(node))
    # what they lead to is said by the steps themselves: a conditional edge would copy the whole state to look at it
    for node, then, destinations in (
        (steps.lookup, steps.after_lookup, ("look_closer", "decide")),
        (steps.decide, steps.after_decide, ("answer_icl", "answer_vote", "adapt")),
        (steps.verify, steps.after_verify, ("adapt", "record")),
    ):
        graph.add_node(node.__name__, _timed(node, then=then), destinations=destinations)
    graph.add_edge(START, "admit")
    graph.add_edge("admit", "probe")
    graph.add_edge("probe", "lookup")
    graph.add_edge("look_closer", "decide")
    graph.add_edge("adapt", "answer_ttt")
    for answered in ("answer_icl", "answer_vote", "answer_ttt"):
        graph.add_edge(answered, "verify")
    graph.add_edge("record", END)
    # the state holds the caller's functions, which no checkpoint can: a checkpointer of a graph around it keeps out
    return graph.compile(checkpointer=False, name="solve")


def _completing(steps: Steps, unasked: Callable[[Task], SolveState]) -> Callable[[SolveState], SolveState]:
    """Wrap the first step: the task may be plain data, as it comes from outside Python, and all else may be missing."""

    def admit(state: SolveState) -> SolveState:
        given: object = state["task"]
        task = given if isinstance(given, Task) else Task.parse(given, steps.limits)
        begun: SolveState = {**unasked(task), **state, "task": task}
        return {**begun, **steps.admit(begun)}

    return admit


def _probed_before(state: SolveState) -> float:
    """Return the seconds that were this task's share of a probe of several."""
    probed = state["probed"]
    return 0.0 if probed is None else probed.seconds


def _timed(
    node: Callable[[SolveState], SolveState],
    *,
    then: Callable[[SolveState], str] | None = None,
    spent_before: Callable[[SolveState], float] = lambda state: 0.0,
) -> Any:
    """Wrap a step so that the path through the graph, with its times, is part of the state.

    Args:
        then: names the next step, where there are several, of the state as this one leaves it.
        spent_before: gives seconds of the step that were spent before it is its turn.
    """

    def timed(state: SolveState) -> SolveState | Command[str]:
        if "progress" in state:  # a graph around this one gives the first step no more than a task
            check_wanted(state)
            state["progress"](node.__name__, 0, 0)
        started = time.perf_counter()
        added = node(state)
        seconds = spent_before(state) + time.perf_counter() - started
        added = {**added, "path": (Step(name=node.__name__, seconds=seconds),)}
        return added if then is None else Command(update=added, goto=then({**state, **added}))

    return timed
