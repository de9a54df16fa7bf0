"""What cannot be reached is known a little later, and told without asking anybody."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


@pytest.mark.alone
def test_a_check_that_hangs_is_told_as_a_fault_and_keeps_nobody_waiting_or_from_stopping(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(router.serve.watch, "_LATE_S", 1.0)
    begun, go = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        assert go.wait(20)

    watch = Watch({"it hangs": hangs})
    watch.start()
    assert begun.wait(20)
    at_first = watch.faults
    looked = watch.look()  # waits until it is late, and no longer
    began = time.monotonic()
    again = watch.look()
    took_s = time.monotonic() - began
    go.set()
    until(lambda: watch.faults == (), "it is not taken back")
    watch.stop()

    assert (at_first, looked, again, took_s < 0.5) == ((), ("it hangs",), ("it hangs",), True)
    assert [(r.message, r.__dict__.get("why")) for r in caplog.records] == [
        ("it hangs", "no answer within 1 s"),
        ("no longer: it hangs", None),
    ]


def test_however_many_ask_there_is_one_look_at_a_time_and_they_join_it() -> None:
    begun, go, n_at_work, most = threading.Event(), threading.Event(), 0, 0

    def check() -> None:
        nonlocal n_at_work, most
        n_at_work += 1
        most = max(most, n_at_work)
        begun.set()
        assert go.wait(20)
        n_at_work -= 1
        raise RuntimeError("lost")

    watch = Watch({"it is lost": check})
    watch.start()
    assert begun.wait(20)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(watch.look) for _ in range(8)]
        go.set()
        found = [each.result(20) for each in asked]
    watch.stop()

    assert (set(found), most) == ({("it is lost",)}, 1)
    assert watch.look() == ("it is lost",)  # nobody looks any more, and nobody waits


def test_to_look_after_a_redis_writes_nothing_to_it(tmp_path: Path) -> None:
    with (
        RedisServer() as redis,
        serving(tmp_path, tiny_model(), store_url=redis.url) as running,
        running.client() as lab,
        redis.client() as client,
    ):
        client.config_resetstat()
        for _ in range(5):
            assert lab.get("/ready").status_code == 200
        commands = {
            name for name in client.info("commandstats") if not name.startswith(("cmdstat_config", "cmdstat_info"))
        }

    assert commands == {"cmdstat_ping"}
