"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, redis_server

BESIDE_THE_PROJECT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public task sets; without it the tests that need it are skipped."""
    folder = Path(os.environ.get("TTT_ROUTER_DATA") or BESIDE_THE_PROJECT)
    if not folder.is_dir():
        pytest.skip(f"no task sets at {folder}; set TTT_ROUTER_DATA to the folder that holds arc-agi-1, 1d-arc and bbh")
    return folder


@pytest.fixture(scope="session")
def one_redis() -> Iterator[RedisServer]:
    """A real redis-server on a private socket, for all tests together; ask for `redis`."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(one_redis: RedisServer) -> RedisServer:
    """A real redis-server, empty."""
    with one_redis.client() as client:
        client.flushall()
    return one_redis
