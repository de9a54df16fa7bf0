"""What an executor's workers share between tenants, without an executor."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from router.router import Router
from router.settings import Settings
from router.workers import RouterWorker
from tests.models import save_tiny_llama


def test_a_tenant_whose_router_is_being_opened_keeps_nobody_else_waiting_and_it_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, model=str(save_tiny_llama(tmp_path / "model")), device="cpu")
    worker = RouterWorker(settings, None, "w")
    begun, go, opened = threading.Event(), threading.Event(), list[str]()
    for_tenant = Router.for_tenant

    def slowly(router: Router, tenant: str) -> Router:
        opened.append(tenant)
        if tenant == "slow":
            begun.set()
            assert go.wait(20)
        return for_tenant(router, tenant)

    monkeypatch.setattr(Router, "for_tenant", slowly)
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(worker._router, "slow") for _ in range(2)]
        assert begun.wait(20)
        quick = pool.submit(worker._router, "quick").result(10)
        worker.bury("another")
        waiting = [each.done() for each in slow]
        go.set()
        first, second = (each.result(20) for each in slow)
    worker.close()

    assert waiting == [False, False]
    assert first is second is worker._router("slow")
    assert (quick.settings.tenant, first.settings.tenant) == ("quick", "slow")
    assert sorted(opened) == ["quick", "slow"]
