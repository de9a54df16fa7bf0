"""Which step of a solve follows which. One table: `router.graph` makes a LangGraph graph of it, and `run` walks it.

LangGraph takes several milliseconds for a graph of this size, more than all the steps together where the model answers
at once, and half a second to be imported. So what is solved is walked; the graph is for whoever streams it, draws it or
makes it a node of another.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from router.steps import SolveState, Steps, check_wanted
from router.trace import Step

FIRST = "admit"


@dataclass(frozen=True, slots=True)
class Fork:
    """Several steps may follow."""

    choose: Callable[[Steps, SolveState], str]
    among: tuple[str, ...]


FOLLOWED_BY: Mapping[str, str | Fork | None] = {
    "admit": "probe",
    "probe": "lookup",
    "lookup": Fork(Steps.after_lookup, ("look_closer", "decide")),
    "look_closer": "decide",
    "decide": Fork(Steps.after_decide, ("answer_icl", "answer_vote", "adapt")),
    "answer_icl": "verify",
    "answer_vote": "verify",
    "adapt": "answer_ttt",
    "answer_ttt": "verify",
    "verify": Fork(Steps.after_verify, ("adapt", "record")),
    "record": None,
}


def run(steps: Steps, initial: SolveState) -> SolveState:
    """Take the steps of one solve, and return all that is known at its end.

    Raises:
        Cancelled: nobody wants the answer any more.
        FewShotError: as the steps do.
    """
    state, name = initial, FIRST
    while True:
        state = _with(state, timed(getattr(steps, name))(state))
        following = FOLLOWED_BY[name]
        if following is None:
            return state
        name = following.choose(steps, state) if isinstance(following, Fork) else following


def timed(step: Callable[[SolveState], SolveState]) -> Callable[[SolveState], SolveState]:
    """Wrap a step so that it is told of, and that the way, with its times, is part of the state."""

    def taken(state: SolveState) -> SolveState:
        if "progress" in state:  # a graph around this one gives the first step no more than a task
            check_wanted(state)
            state["progress"](step.__name__, 0, 0)
        started = time.perf_counter()
        added = step(state)
        return {**added, "path": (Step(name=step.__name__, seconds=time.perf_counter() - started),)}

    return taken


def _with(state: SolveState, added: SolveState) -> SolveState:
    known, new = cast("dict[str, Any]", state), cast("dict[str, Any]", added)
    sums = {key: known[key] + new[key] for key in _ADDED_TO & known.keys() & new.keys()}
    return cast("SolveState", {**known, **new, **sums})


_ADDED_TO = frozenset(  # what LangGraph adds, too
    key
    for key, hint in get_type_hints(SolveState, include_extras=True).items()
    if get_origin(hint) is Annotated and operator.add in get_args(hint)
)
