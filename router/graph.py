"""A solve as a LangGraph graph, made of the table in `router.order`: to stream, to draw, to have in another graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StreamMode

from icl_engine.task import Task
from router.order import FIRST, FOLLOWED_BY, Fork, timed
from router.steps import SolveState, Steps

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
    graph.add_edge(START, FIRST)
    for name, following in FOLLOWED_BY.items():
        step = _completing(steps, unasked) if name == FIRST and unasked is not None else getattr(steps, name)
        node: Any = timed(step)  # none of LangGraph's overloads takes a plain function of a state
        graph.add_node(name, node)
        if isinstance(following, Fork):
            graph.add_conditional_edges(name, functools.partial(following.choose, steps), list(following.among))
        else:
            graph.add_edge(name, END if following is None else following)
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
