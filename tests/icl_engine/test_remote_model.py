"""A model on an OpenAI-compatible server: what it is asked, how its reply is read, and that every fault is typed."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import closing

import pytest

from icl_engine.answer import Answer
from icl_engine.errors import ModelUnavailable, RemoteFailed
from icl_engine.remote_model import RemoteModel, prompt_of
from icl_engine.task import Task
from tests.models import GRID_TASK, TEXT_TASK
from tests.openai_server import openai_server
from tests.redis_server import free_port


def answered(
    url: str, task: Task, *, api_key: str | None = None, timeout_s: float = 60.0, deadline: float | None = None
) -> tuple[Answer, ...]:
    """Ask a server once, and close the connection."""
    with closing(RemoteModel(url, "large", api_key=api_key, timeout_s=timeout_s)) as model:
        return model.answer(task, deadline=deadline)


def test_a_prompt_holds_the_demonstrations_and_leaves_the_output_open() -> None:
    assert prompt_of(GRID_TASK).startswith("Input:\n1 2\n3 4\nOutput:\n2 1\n4 3\n\nInput:\n0 7 1\nOutput:\n1 7 0\n\n")
    assert prompt_of(GRID_TASK).endswith("Input:\n4 5\n1 1\nOutput:")
    assert prompt_of(TEXT_TASK).startswith("Say what it is.\n\nInput:\nnot True\n")


def test_each_query_is_asked_greedily_and_answered_with_its_probability() -> None:
    task = GRID_TASK.replace(queries=(GRID_TASK.query, ((9,),)))
    with openai_server(lambda asked: "5 4\n1 1" if "4 5" in asked else "Output:\n9", key="k") as server:
        answers = answered(server.url, task, api_key="k")

    assert [answer.value for answer in answers] == [((5, 4), (1, 1)), ((9,),)]
    assert [answer.confidence for answer in answers] == [pytest.approx(0.4), pytest.approx(0.4)]
    assert [answer.tokens for answer in answers] == [42, 42]
    assert [(each["model"], each["temperature"]) for each in server.asked] == [("large", 0), ("large", 0)]


def test_a_server_that_tells_no_probability_gives_an_answer_nobody_is_sure_of() -> None:
    with openai_server(lambda asked: "yes", fault="no logprobs") as server:
        (answer,) = answered(server.url, TEXT_TASK)

    assert (answer.value, answer.confidence) == ("yes", 0.0)


def test_a_server_that_is_sure_of_each_token_is_sure_of_the_answer() -> None:
    with openai_server(lambda asked: "yes", fault="sure") as server:
        (answer,) = answered(server.url, TEXT_TASK)

    assert (answer.value, answer.confidence) == ("yes", 1.0)


def test_a_server_that_counts_below_zero_has_cost_nothing() -> None:
    with openai_server(lambda asked: "yes", fault="owed tokens") as server:
        (answer,) = answered(server.url, TEXT_TASK)

    assert answer.tokens == 0


def test_a_reply_that_is_no_grid_is_no_answer() -> None:
    with openai_server(lambda asked: "I would say 5") as server:
        (answer,) = answered(server.url, GRID_TASK)

    assert (answer.value, answer.tokens) == (None, 42)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (429, "status 429"),
        (500, "status 500"),
        (302, "status 302"),
        ("no json", "no JSON"),
        ("no choice", "no chat completion"),
        ("deep", "no JSON"),
        ("endless tokens", "no chat completion"),
        ("long", "longer than"),
    ],
)
def test_a_server_that_does_something_else_has_failed(fault: int | str, said: str) -> None:
    with openai_server(str, fault=fault) as server, pytest.raises(RemoteFailed, match=said):
        answered(server.url, TEXT_TASK)


def test_a_key_that_is_refused_is_not_repeated() -> None:
    with openai_server(str, key="right") as server, pytest.raises(RemoteFailed, match="status 401") as caught:
        answered(server.url, TEXT_TASK, api_key="wrong-key")

    assert "wrong-key" not in str(caught.value)


def test_a_server_that_is_not_there_has_failed() -> None:
    with pytest.raises(RemoteFailed, match="cannot be reached"):
        answered(f"http://127.0.0.1:{free_port()}/v1", TEXT_TASK)


@pytest.mark.parametrize("by", ["timeout", "deadline"])
def test_a_slow_server_is_given_up_in_time(by: str) -> None:
    given_up = threading.Event()
    with openai_server(lambda asked: str(given_up.wait(30))) as server:
        began = time.monotonic()
        try:
            with pytest.raises(RemoteFailed, match="ReadTimeout"):
                answered(
                    server.url,
                    TEXT_TASK,
                    timeout_s=0.2 if by == "timeout" else 60.0,
                    deadline=None if by == "timeout" else began + 0.2,
                )
        finally:
            given_up.set()
        took = time.monotonic() - began

    assert took < 5


def test_without_the_client_library_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)

    with pytest.raises(ModelUnavailable, match=r"ttt-router\[remote\]"):
        RemoteModel("http://host/v1", "large")
