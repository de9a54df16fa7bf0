"""What cannot be reached is known a little later, and told without asking anybody."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest

import router.serve.watch
from router.serve.watch import Watch
from tests.models import tiny_model
from tests.redis_server import RedisServer
from tests.router.serve.serving import serving, until

LEDGER, STORE = "the ledger cannot be reached", "the store of adapters cannot be reached"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router.serve.watch, "_LOOK_S", 0.02)


def test_a_ledger_that_is_lost_is_told_by_health_which_stays_200_and_makes_the_server_not_ready(tmp_path: Path) -> None:
    mark = tmp_path / "ledger.sqlite.quarantined"
    with serving(tmp_path) as running, running.client() as lab:

        def health() -> httpx.Response:
            return httpx.get(f"{running.url}/health")

        before = (health().json(), lab.get("/ready").status_code)
        mark.write_text("damaged, as far as anybody can tell")
        until(lambda: health().json()["status"] == "degraded", "it is not told")
        lost, ready = health(), lab.get("/ready")
        mark.unlink()
        until(lambda: health().json()["status"] == "ok", "it is not taken back")

    assert before == ({"status": "ok", "degraded": []}, 200)
    assert (lost.status_code, lost.json()["degraded"]) == (200, [LEDGER])
    assert (ready.status_code, ready.json()["degraded"]) == (503, [LEDGER])


def test_a_redis_that_is_lost_is_told_and_the_server_stays_ready(tmp_path: Path) -> None:
    with (
        RedisServer() as redis,
        serving(tmp_path, tiny_model(), store_url=redis.url) as running,
        running.client() as lab,
    ):
        before = lab.get("/health").json()["status"]
        redis.kill()
        until(lambda: lab.get("/health").json()["degraded"] == [STORE], "it is not told")
        ready = lab.get("/ready")
        redis.start()
        until(lambda: lab.get("/health").json()["status"] == "ok", "it is not taken back")

    assert before == "ok"
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert str(redis.folder) not in ready.text


def test_a_check_that_hangs_keeps_nobody_from_what_is_known_or_from_stopping() -> None:
    begun, go = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        assert go.wait(20)

    watch = Watch({"it hangs": hangs})
    watch.start()
    assert begun.wait(20)
    began = time.monotonic()
    known = watch.faults
    watch.stop()
    took_s = time.monotonic() - began
    go.set()

    assert (known, took_s < 0.1) == ((), True)
