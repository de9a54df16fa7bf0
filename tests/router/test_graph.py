"""LangGraph's conventions hold: the graph is at hand, streams as any other, and fits into somebody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict, cast

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from icl_engine.answer import Answer
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.ledger import Ledger
from router.errors import ArmUnavailable, TaskRefused
from router.router import Router
from router.settings import Settings
from router.ui import graph_drawing
from tests.router.fakes import grid_task, mirrored

ROOT = Path(__file__).resolve().parents[2]
WAY = ["admit", "probe", "lookup", "decide", "answer_icl", "verify", "record"]


@pytest.fixture
def router(folder: Path, tmp_path: Path) -> Iterator[Router]:
    settings = Settings(home=tmp_path / "home", arms=("icl",), epsilon=0.0)
    with Router(settings, model=ScriptedModel(mirrored)) as made:
        yield made


class Outer(TypedDict, total=False):
    task: Task
    answers: tuple[Answer, ...]
    said: str


def test_the_task_alone_is_enough_for_the_graph(router: Router) -> None:
    found = router.graph.invoke({"task": grid_task()})

    assert found["answers"][0].value == mirrored(grid_task())
    assert [step.name for step in found["path"]] == WAY
    assert router.solve(grid_task()).answers == found["answers"]


def test_a_task_may_come_as_plain_data(router: Router) -> None:
    plain = json.loads(grid_task().model_dump_json())

    assert router.graph.invoke({"task": plain})["task"] == grid_task()
    with pytest.raises(TaskRefused):
        router.graph.invoke({"task": cast(Task, {"demonstrations": []})})


def test_a_solve_by_the_graph_is_on_record(router: Router) -> None:
    trace_id = router.graph.invoke({"task": grid_task()})["trace_id"]
    router.flush()

    with Ledger.open(router.settings.ledger_location) as ledger:
        assert ledger.trace(trace_id).trace_id == trace_id


def test_updates_are_streamed_step_by_step(router: Router) -> None:
    updates = list(router.stream(grid_task()))

    assert [next(iter(update)) for update in updates if isinstance(update, dict)] == WAY


def test_stream_modes_are_passed_through(router: Router) -> None:
    values = list(router.stream(grid_task(), stream_mode="values"))
    both = list(router.stream(grid_task(), stream_mode=["updates", "values"]))

    assert isinstance(values[-1], dict)
    assert values[-1]["answers"][0].value == mirrored(grid_task())
    assert {mode for mode, _ in both} == {"updates", "values"}  # type: ignore[misc,has-type]


def test_a_mistake_is_told_before_anything_is_streamed(router: Router) -> None:
    with pytest.raises(ArmUnavailable):
        router.stream(grid_task(), arm="no such arm")


def test_it_is_a_node_of_another_graph_also_of_one_with_checkpoints(router: Router) -> None:
    outer = StateGraph(Outer)
    outer.add_node("solve", router.graph)
    outer.add_node("say", lambda state: {"said": str(state["answers"][0].value)})
    outer.add_edge(START, "solve")
    outer.add_edge("solve", "say")
    outer.add_edge("say", END)

    found = outer.compile().invoke({"task": grid_task()})
    checkpointed = outer.compile(checkpointer=InMemorySaver())
    again = checkpointed.invoke({"task": grid_task()}, {"configurable": {"thread_id": "1"}})

    assert found["said"] == again["said"] == str(mirrored(grid_task()))
    assert found.keys() == {"task", "answers", "said"}


def test_langgraph_json_names_a_graph_that_is_there() -> None:
    named = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["solve"]
    path, _, name = named.partition(":")

    assert (ROOT / path).is_file()
    assert f"def {name}(" in (ROOT / path).read_text()


def test_the_page_draws_every_step_and_every_way_there_is(router: Router) -> None:
    drawn = router.graph.get_graph()
    ways = {(edge.source, edge.target) for edge in drawn.edges}

    assert set(graph_drawing.PLACES) == set(drawn.nodes) - {START, END}
    assert set(graph_drawing.EDGES) == {way for way in ways if not {START, END} & set(way)}
