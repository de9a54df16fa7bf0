"""The router as a node of somebody else's LangGraph graph: `task` goes in, `answers` come out."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from icl_engine.answer import Answer
from icl_engine.task import Task
from router import Router, Settings


class Asked(TypedDict, total=False):
    """The state of the outer graph; what it shares with the router's is called the same."""

    words: list[str]
    task: Task
    answers: tuple[Answer, ...]
    said: str


def ask(state: Asked) -> Asked:
    """Make a task of what came in."""
    pairs = [("not True", "False"), ("not False", "True"), ("True and True", "True")]
    return {"task": Task.from_pairs(pairs, " ".join(state["words"]), id="asked")}


def say(state: Asked) -> Asked:
    """Use the answer."""
    answer = state["answers"][0]
    return {"said": f"{answer.value} (confidence {answer.confidence:.2f})"}


with Router(Settings(arms=("icl",))) as router:  # in context alone: quick
    outer = StateGraph(Asked)
    outer.add_node("ask", ask)
    outer.add_node("solve", router.graph)
    outer.add_node("say", say)
    outer.add_edge(START, "ask")
    outer.add_edge("ask", "solve")
    outer.add_edge("solve", "say")
    outer.add_edge("say", END)
    print(outer.compile().invoke({"words": ["not", "not", "True"]})["said"])

    for update in router.stream(Task.from_pairs([("a", "A"), ("b", "B")], "c"), arm="icl"):
        print(*update)
