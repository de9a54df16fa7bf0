from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from router.settings import PREFIX
from tests.router.serve.serving import OTHER, Running, serving


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_whoever_runs_the_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper().startswith(PREFIX):
                patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a scripted model, for all tests of a module."""
    with serving(tmp_path_factory.mktemp("serve"), serve_rate=10_000.0) as running:
        yield running


@pytest.fixture
def lab(running: Running) -> Iterator[httpx.Client]:
    """A client of one tenant."""
    with running.client() as client:
        yield client


@pytest.fixture
def other(running: Running) -> Iterator[httpx.Client]:
    """A client of another."""
    with running.client(OTHER) as client:
        yield client
