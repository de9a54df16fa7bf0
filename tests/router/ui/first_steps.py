"""The README's five minutes as a person walks them: its commands in a shell of their own, its pages in a browser.

`python -m tests.router.ui.first_steps` walks them too and puts the README's two pictures into docs/screenshots.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from router.settings import PREFIX
from tests.router.ui.chromium import launched

ROOT = Path(__file__).resolve().parents[3]
SECTION = "## Five minutes"
PICTURES = ("first-look.png", "look-again.png")
TTT_ROUTER = [sys.executable, "-c", "import sys; from router.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Ran:
    """A command and what it said."""

    command: str
    out: str


def commands() -> tuple[str, ...]:
    """The commands of the section, in its order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index(SECTION) :].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    return tuple(line for block in blocks for line in block.splitlines())


def walk(home: Path, look: Callable[[str], None], given: Mapping[str, str] | None = None) -> Iterator[Ran]:
    """Run one command after the other in the checkout, all with one new home; `look` is given the URL of the pages."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = {**others, "PYTHONPATH": str(ROOT), "COLUMNS": "120", f"{PREFIX}HOME": str(home), **(given or {})}
    for command in commands():
        program, *arguments = shlex.split(command)
        assert program == "ttt-router"
        if arguments == ["ui"]:
            with _serving(environment) as url:
                look(url)
            yield Ran(command, url)
            continue
        done = subprocess.run(
            [*TTT_ROUTER, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        yield Ran(command, done.stdout)


@contextmanager
def _serving(environment: Mapping[str, str]) -> Iterator[str]:
    """Start the pages, and stop them as Ctrl-C does."""
    server = subprocess.Popen([*TTT_ROUTER, "ui"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        said = server.stderr.readline()
        found = re.search(r"http://\S+", said)
        assert found, said + server.stderr.read()
        yield found[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0, server.stderr.read()
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def open_newest(page: Page, url: str) -> None:
    """Go from the list to the task at its top."""
    page.goto(url)
    page.get_by_role("table", name="Traces").get_by_role("link").first.click()


def main() -> None:
    """Walk with the settings as they are, and take the two pictures."""
    pictures = iter(PICTURES)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright, launched(playwright) as browser:
        page = browser.new_page(viewport={"width": 1080, "height": 1125})

        def look(url: str) -> None:
            open_newest(page, url)
            if (picture := next(pictures)) == PICTURES[0]:
                page.get_by_role("button", name="right").click()
                page.get_by_text("It was right.").wait_for()
            page.screenshot(path=ROOT / "docs" / "screenshots" / picture)

        for ran in walk(Path(home), look):
            print(f"$ {ran.command}\n{ran.out}")


if __name__ == "__main__":
    main()
