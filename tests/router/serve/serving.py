"""A real server for tests: uvicorn on a free port, in a thread of its own, over a ledger in a folder of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from icl_engine.language_model import LanguageModel
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task, Value
from policies.ledger import Ledger
from router.serve.app import make_app
from router.serve.keys import ApiKeys
from router.serve.server import Server, bound, make_server
from router.serve.service import Service
from router.settings import Settings

LAB, OTHER = "key-of-the-lab-0123456789", "key-of-the-other-0123456789"
KEYS = ApiKeys([("lab", LAB), ("other", OTHER)])


def text(query: str = "d", id: str = "upper") -> dict[str, Any]:
    """A task of text as it is sent; a model that has understood it answers in capitals."""
    pairs = [("a", "A"), ("b", "B"), ("c", "C")]
    return {"id": id, "demonstrations": [{"input": i, "output": o} for i, o in pairs], "queries": [query]}


def shouting(task: Task) -> Value:
    """The script of that model."""
    assert isinstance(task.query, str)
    return task.query.upper()


@dataclass
class Held:
    """A script that begins on the query "wait" and answers when it is let."""

    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Event = field(default_factory=threading.Event)
    n: int = 0

    def __call__(self, task: Task) -> Value:
        if task.query == "wait":
            self.n += 1
            self.begun.release()
            assert self.go.wait(20)
        return shouting(task)

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=20)


@dataclass
class Running:
    """A server that runs, and clients of it."""

    url: str
    service: Service
    server: Server
    ledger: Ledger
    thread: threading.Thread

    def client(self, key: str | None = LAB, **options: Any) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def stop(self) -> None:
        self.server.should_exit = True

    def solves(self) -> int:
        """How many decisions the ledger holds."""
        return self.ledger.last_seq()


@contextmanager
def serving(
    home: Path,
    model: LanguageModel | Callable[[Task], Value | None] = shouting,
    *,
    jobs: Path | None = None,
    **given: Any,
) -> Iterator[Running]:
    """Serve with a scripted model, or another; `jobs` is the folder of its jobs, `given` are settings."""
    settings = Settings(
        **{"home": home, "serve_stop_s": 5.0, "cold_start": "rule", **given}
    )  # which is easily foretold
    scripted = ScriptedModel(model) if callable(model) else model
    with Ledger.open(home) as ledger:
        service = Service(settings, ledger, model=scripted, secrets=KEYS.secrets)
        service.keep_jobs(jobs or home / "jobs")
        service.tenants.open()
        server, listening = make_server(make_app(service, KEYS), service), bound("127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running = Running(_url(listening), service, server, ledger, thread)
        try:
            until(lambda: server.started, "the server did not start")
            yield running
        finally:
            running.stop()
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"


def until(is_so: Callable[[], object], else_said: str, within_s: float = 15.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, else_said
        time.sleep(0.005)


def _url(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"
