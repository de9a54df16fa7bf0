"""A small HTTP server that speaks as much of OpenAI's interface as our client uses, and fails as it is told to."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str], str]  # from the user's message to the assistant's


@dataclass(slots=True)
class OpenAiServer:
    """Answers every chat completion with `reply`, each of two tokens of probability 0.5 and 0.8.

    `fault`: a status it answers with, or what else it does wrong.
    """

    reply: Reply
    key: str | None = None
    fault: int | str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answered(self, path: str, key: str | None, body: bytes) -> tuple[int, bytes]:
        if path != "/v1/chat/completions":
            return 404, b"{}"
        if self.key is not None and key != f"Bearer {self.key}":
            return 401, json.dumps({"error": {"message": f"wrong key {key}"}}).encode()
        if isinstance(self.fault, int):
            return self.fault, b'{"error": {"message": "no"}}'
        question = json.loads(body)
        self.asked.append(question)
        if self.fault == "long":
            return 200, b" " * 2**21
        if self.fault == "no json":
            return 200, b"<html>"
        if self.fault == "deep":
            return 200, b"[" * 200_000
        if self.fault == "no choice":
            return 200, b'{"choices": []}'
        message = {"role": "assistant", "content": self.reply(question["messages"][-1]["content"])}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if self.fault != "no logprobs":
            tokens = [{"token": "?", "logprob": math.log(p)} for p in (0.5, 0.8)]
            tokens = [{**token, "logprob": 0.0} for token in tokens] if self.fault == "sure" else tokens
            choice["logprobs"] = {"content": tokens}
        usage = {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42}
        if self.fault in ("endless tokens", "owed tokens"):
            usage["total_tokens"] = math.inf if self.fault == "endless tokens" else -42  # type: ignore[assignment]
        return 200, json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@contextmanager
def openai_server(reply: Reply, *, key: str | None = None, fault: int | str | None = None) -> Iterator[OpenAiServer]:
    """Start a server on a port of its own for a with block."""
    server = OpenAiServer(reply, key, fault)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = server.answered(self.path, self.headers.get("Authorization"), body)
            with suppress(ConnectionError):  # who asked may have given up
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = False  # closing waits for those who still answer
        server.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
