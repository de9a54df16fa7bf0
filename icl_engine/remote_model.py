"""A language model behind an OpenAI-compatible server, such as vLLM's: it answers in context, and nothing else.

Tasks leave this machine for the server that is set, and for no other. One try, no retry: what it costs is the caller's
to decide, and there is the answer of the model here.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from icl_engine.answer import Answer
from icl_engine.errors import ModelUnavailable, RemoteFailed
from icl_engine.task import Task
from icl_engine.text_form import text_form, value_of
from icl_engine.voting import Candidate

_ASKED = "Every Input is followed by its Output. Write the Output that belongs to the last Input, and nothing else."
_MOST_BYTES = 2**20  # of a reply
_UNKNOWN = -800.0  # nats, a probability of 0: said of an answer for which the server gives none


class RemoteModel:
    """Answers few-shot tasks through `POST {url}/chat/completions`. Connects with the first task; safe between threads.

    Attributes:
        expected_s: seconds that a query takes, as far as is known before it is measured.
        kinds: of the tasks it can answer.

    Args:
        url: with the version, such as `http://host:8000/v1`.
        name: of the model, as the server knows it.
        api_key: sent as a bearer token.
        timeout_s: of one query.

    Raises:
        ModelUnavailable: the client library is missing.
    """

    expected_s = 2.0
    kinds = ("grid", "text")

    def __init__(self, url: str, name: str, *, api_key: str | None = None, timeout_s: float = 60.0) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            if error.name != "httpx":
                raise
            remedy = "pip install 'ttt-router[remote]'"
            raise ModelUnavailable("a remote model needs httpx, which is missing", remedy=remedy) from error
        self.name = name
        self._timeout_s = timeout_s
        self._failures = (httpx.HTTPError, httpx.InvalidURL)
        self._url = f"{url.rstrip('/')}/chat/completions"
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._new_client: Callable[[], Any] = lambda: httpx.Client(headers=headers, follow_redirects=False)
        self._client: Any = None  # made with the first task
        self._lock = threading.Lock()

    def answer(self, task: Task, *, deadline: float | None = None) -> tuple[Answer, ...]:
        """Answer each query of the task, greedily, with all demonstrations in the prompt.

        The confidence is the answer's probability, or 0 where the server gives none.

        Args:
            deadline: on the clock of `time.monotonic`.

        Raises:
            RemoteFailed: the server cannot be reached, refuses, or is not done in time.
        """
        until = time.monotonic() + self._timeout_s * len(task.queries)
        until = until if deadline is None else min(until, deadline)
        return tuple(self._answer(task.for_query(i), until) for i in range(len(task.queries)))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _answer(self, task: Task, until: float) -> Answer:
        reply = self._asked(
            {
                "model": self.name,
                "messages": [{"role": "system", "content": _ASKED}, {"role": "user", "content": prompt_of(task)}],
                "temperature": 0,
                "max_tokens": _most_tokens(task),
                "logprobs": True,
            },
            min(until, time.monotonic() + self._timeout_s),
        )
        try:
            (choice, *_) = reply["choices"]
            text, said = choice["message"]["content"] or "", choice.get("logprobs") or {}
            told = said.get("content") or ()
            log_probability = sum(float(token["logprob"]) for token in told) if told else _UNKNOWN
            tokens = max(0, int((reply.get("usage") or {}).get("total_tokens", 0)))
            value = value_of(task, text.removeprefix("Output:"))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RemoteFailed("its reply is no chat completion", task_id=task.id) from error
        if value is None:
            return Answer((), 0.0, tokens)
        log_probability = min(0.0, max(_UNKNOWN, log_probability))  # also where it is no number
        return Answer((Candidate(value, 1, 1.0, log_probability),), math.exp(log_probability), tokens)

    def _asked(self, question: dict[str, object], until: float) -> Any:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise RemoteFailed("no time is left to ask it")
        try:
            with self._connected().stream("POST", self._url, json=question, timeout=left_s) as response:
                if response.status_code != 200:  # what it says beside may hold what was asked
                    raise RemoteFailed(f"it refused with status {response.status_code}")
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise RemoteFailed(f"its reply is longer than {_MOST_BYTES} bytes")
                    if time.monotonic() > until:
                        raise RemoteFailed("it was not done in time")
            return json.loads(body)
        except self._failures as error:
            raise RemoteFailed(f"it cannot be reached ({type(error).__name__})") from error
        except (ValueError, RecursionError) as error:
            raise RemoteFailed("its reply is no JSON") from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._new_client()
            return self._client


def prompt_of(task: Task) -> str:
    """Write a task as `Input:`/`Output:` blocks, the query's output left open."""
    blocks = [] if task.instruction is None else [task.instruction]
    blocks += [f"Input:\n{text_form(each.input)}\nOutput:\n{text_form(each.output)}" for each in task.demonstrations]
    return "\n\n".join([*blocks, f"Input:\n{text_form(task.query)}\nOutput:"])


def _most_tokens(task: Task) -> int:
    """Return how long an answer may grow: a token a character of twice the longest value, and some."""
    values = [task.query, *(each.output for each in task.demonstrations)]
    return 2 * max(len(text_form(value)) for value in values) + 64
