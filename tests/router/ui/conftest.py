"""A ledger with decisions, a server that shows it, and one browser for all tests of the pages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from icl_engine.task import Task
from policies.ledger import Ledger
from router.granting import Kept
from router.ui import Attached, make_app
from tests.router.ui import samples, strangers
from tests.router.ui.chromium import launched


@dataclass
class Site:
    """A server of the pages and what it was asked to run."""

    url: str
    ledger: Ledger
    ran: list[tuple[str, str, int]] = field(default_factory=list)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on a free port, over a ledger of samples, with a router that answers everything with one trace."""
    with Ledger.open(tmp_path_factory.mktemp("ui")) as ledger:
        samples.fill_history(ledger, 60)
        samples.fill(ledger)
        strangers.fill(ledger)
        large = samples.large_task()
        record = samples.trace_of(large, samples.answer((large.query, 3)), trace_id="large")
        samples.record(ledger, record)
        served = Site("", ledger)

        def run(task: Task, arm: str, seed: int) -> str:
            served.ran.append((task.id, arm, seed))
            return "explored"

        known = {samples.drop_task().fingerprint: (samples.fallen(),)}
        kept = Kept("ttt <= 30 %", "28.3% over 60 tasks, at a price of 0.21 now")
        app = make_app(Attached(ledger, run, known, kept=lambda: kept))
        with _Running(uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))) as port:
            served.url = f"http://127.0.0.1:{port}"
            yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; not for longer than a module, as asyncio has no other loop in this thread meanwhile."""
    with sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@dataclass
class Visit:
    """A page with all that went on in it."""

    page: Page
    said: list[str] = field(default_factory=list)  # console errors, uncaught errors, dialogs
    asked: list[str] = field(default_factory=list)  # URLs of requests


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A page of its own, at 1280 pixels, watched."""
    with _Context(browser) as context:
        yield watched(context)


def watched(context: BrowserContext) -> Visit:
    """Open a page and write down its errors, dialogs and requests."""
    visit = Visit(context.new_page())

    def dismissed(dialog: Dialog) -> None:
        visit.said.append(dialog.message)
        dialog.dismiss()

    visit.page.on("console", lambda line: visit.said.append(line.text) if line.type in ("error", "warning") else None)
    visit.page.on("pageerror", lambda error: visit.said.append(str(error)))
    visit.page.on("dialog", dismissed)
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    return visit


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Where a download goes."""
    return tmp_path / "saved.html"


class _Context:
    def __init__(self, browser: Browser) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 900})

    def __enter__(self) -> BrowserContext:
        return self._context

    def __exit__(self, *_: object) -> None:
        self._context.close()


class _Running:
    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.run, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
