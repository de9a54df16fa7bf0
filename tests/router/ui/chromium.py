"""The system's chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, Playwright

from tests.system_packages import found_or_installed

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """Start it; where it is missing it is installed if we may, or it is said how."""
    program = found_or_installed(lambda: next(filter(None, map(shutil.which, _NAMES)), None), "chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root in a container has none
    try:
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
    except Error as error:
        raise RuntimeError(f"playwright {playwright.chromium.name} cannot drive {program}: {error}") from error
    try:
        yield browser
    finally:
        browser.close()
