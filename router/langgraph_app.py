"""The graph of a solve as LangGraph's own tools look for it (`langgraph.json`); settings come from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.router import Router

if TYPE_CHECKING:
    from router.graph import CompiledStateGraph
    from router.solve_state import SolveState


def graph() -> CompiledStateGraph[SolveState, None, SolveState, SolveState]:
    """Make the graph; the model loads with it."""
    return Router().graph
