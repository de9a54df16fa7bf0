"""A router whose tasks are solved on a Ray cluster of three nodes, with a real Redis and a real PostgreSQL: as in this
process, and whatever node is lost.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from icl_engine.task import Task
from policies.ledger import Ledger
from router.doctor import examine
from router.errors import (
    Cancelled,
    ContextOverflow,
    ExecutorUnavailable,
    ModelUnavailable,
    SettingsError,
    UnknownTrace,
)
from router.parts import store_of
from router.router import Router
from router.serve.jobs import Asked as ServeAsked
from router.serve.service import Service
from router.serve.tenants import Tenants
from router.settings import PREFIX, Settings
from router.trace import Trace
from tests.models import save_tiny_llama, tiny_model
from tests.postgres_server import running_postgres
from tests.ray_cluster import RayCluster, ray_cluster
from tests.redis_server import RedisServer
from ttt_engine.executors import InProcessExecutor, open_executor
from ttt_engine.stores import MemoryAdapterStore

pytest.importorskip("ray")

from tests.router.dying_worker import DyingOnce

TOGETHER = 3  # adapters in a batch


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(n_workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ledger_url() -> Iterator[str]:
    with running_postgres() as server, server.database() as url:
        yield url


@pytest.fixture
def settings(folder: Path, tmp_path: Path, redis: RedisServer, ledger_url: str) -> Settings:
    """For machines that share a ledger and a store, and for a model that learns nothing, slowly enough to be killed."""
    return settings_in(tmp_path, redis, ledger_url)


def settings_in(folder: Path, redis: RedisServer, ledger_url: str) -> Settings:
    return Settings(
        home=folder / "shared",
        model=str(save_tiny_llama(folder / "llama")),
        device="cpu",
        ledger_url=ledger_url,
        store_url=redis.url,
        store_secrets="a secret of all machines",
        arms=("icl", "ttt"),
        ttt_steps=150,
        ttt_batch_size=2,
        ttt_rank=2,
        n_views=1,
    )


@pytest.fixture(scope="module")
def tenants(
    cluster: RayCluster, one_redis: RedisServer, ledger_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tenants]:
    """What a service has, with one worker elsewhere, for all tests that ask for nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
            patch.delenv(name)
        settings = settings_in(tmp_path_factory.mktemp("service"), one_redis, ledger_url)
    with workers(settings.model_copy(update={"arms": ("icl", "ttt_short", "ttt")})) as tenants:
        yield tenants


@pytest.fixture
def elsewhere(tenants: Tenants, redis: RedisServer) -> Router:
    """The router whose worker answers, and no adapter is there."""
    assert tenants.elsewhere is not None
    return tenants.elsewhere


def texts(n: int, seed: int) -> list[Task]:
    """Tasks of different lengths and nothing in common."""
    rng = random.Random(seed)
    pairs = [[("".join(rng.choices("abcdef ", k=4 + i)), rng.choice("xy")) for _ in range(3)] for i in range(n)]
    return [Task.from_pairs(each, "abc", id=f"{seed}-{i}") for i, each in enumerate(pairs)]


def traces(settings: Settings, ids: list[str]) -> list[Trace]:
    with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
        return [Trace.read(ledger.trace(id).document) for id in ids]


def weights(settings: Settings, keys: list[str]) -> list[bytes]:
    with_keys = [store_of(settings).fetch(key).adapter for key in keys]
    assert None not in with_keys
    return [bytes(adapter.weights) for adapter in with_keys if adapter is not None]


def leases(redis: RedisServer) -> list[str]:
    """Return of each training that goes on by whom it is done."""
    with redis.client() as client:
        held = [client.get(name) for name in client.scan_iter("ttt:*:lease")]
    return [token.decode().partition("/")[0] for token in held if token is not None]


@contextmanager
def counting_trainings(redis: RedisServer) -> Iterator[Callable[[], Counter[str]]]:
    """Count how often each adapter was stored, which is once for every training that came to its end."""
    with redis.client() as client, client.pubsub() as listening:
        client.config_set("notify-keyspace-events", "K$")
        listening.psubscribe("__keyspace@0__:ttt:*:head")

        def counted() -> Counter[str]:
            found: Counter[str] = Counter()
            while (told := listening.get_message(timeout=0.2)) is not None:
                if told["type"] == "pmessage" and told["data"] == b"set":
                    found[told["channel"].decode().split(":")[-2].strip("{}")] += 1
            return found

        yield counted


def until(is_so: Callable[[], object], within_s: float = 120) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_node_lost_in_mid_batch_costs_no_answer_and_no_second_training(
    cluster: RayCluster, settings: Settings, redis: RedisServer, tmp_path: Path
) -> None:
    tasks = texts(2 * TOGETHER, seed=1)
    settings = settings.model_copy(update={"executor": f"ray://auto?workers=2&adapters={TOGETHER}"})
    with counting_trainings(redis) as trainings, Router(settings) as router, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(router.solve_many, tasks, arm="ttt", seed=3)
        until(lambda: len(set(leases(redis))) == 2 or asked.done())
        n_training = len(set(leases(redis)))
        cluster.kill(cluster.nodes[0].node_id)
        solutions = asked.result(120)
        again = router.solve_many(tasks, arm="ttt", seed=3)
        counted = trainings()
    cluster.grow()  # for the tests after this: a worker takes all of a node

    assert n_training == 2
    assert [solution.task for solution in solutions] == tasks
    assert [solution.degraded for solution in solutions] == [()] * len(tasks)
    trained = [trace.adapter for trace in traces(settings, [solution.trace_id for solution in solutions])]
    assert [adapter is not None and adapter.cached for adapter in trained] == [False] * len(tasks)
    found = [trace.adapter for trace in traces(settings, [solution.trace_id for solution in again])]
    assert [adapter is not None and adapter.cached for adapter in found] == [True] * len(tasks)
    keys = [adapter.key for adapter in trained if adapter is not None]
    assert counted == dict.fromkeys(keys, 1)
    assert len(counted) == len(tasks)

    alone = settings.model_copy(
        update={"home": tmp_path / "alone", "ledger_url": None, "store_url": "local:", "executor": "in-process"}
    )
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker with one CPU
    try:
        with Router(alone, executor=InProcessExecutor(TOGETHER)) as router:
            here = router.solve_many(tasks, arm="ttt", seed=3)
    finally:
        torch.set_num_threads(n_threads)

    assert weights(alone, keys) == weights(settings, keys)
    assert [solution.answers for solution in here] == [solution.answers for solution in solutions]


def test_a_worker_lost_when_part_of_its_batch_is_stored_costs_the_rest_alone(
    cluster: RayCluster, settings: Settings, redis: RedisServer, tmp_path: Path
) -> None:
    tasks = texts(TOGETHER, seed=4)
    executor = DyingOnce(tmp_path / "dead", "auto", workers=1, adapters=TOGETHER)
    settings = settings.model_copy(update={"ttt_steps": 5})
    with counting_trainings(redis) as trainings, Router(settings, executor=executor) as router:
        solutions = router.solve_many(tasks, arm="ttt", seed=3)
        counted = trainings()
    executor.close()

    assert (tmp_path / "dead").exists()
    found = [trace.adapter for trace in traces(settings, [solution.trace_id for solution in solutions])]
    assert sorted(adapter is not None and adapter.cached for adapter in found) == [False] * (TOGETHER - 1) + [True]
    assert counted == {adapter.key: 1 for adapter in found if adapter is not None}
    assert len(counted) == TOGETHER


def test_all_that_a_router_does_goes_on_without_a_model_here(elsewhere: Router) -> None:
    task, router = texts(1, seed=2)[0], elsewhere
    decision = router.decide(task, seed=5)
    solution = router.solve(task, arm="ttt_short", seed=5)
    hurried = router.solve(task.replace(queries=("other",)), arm="ttt_short", deadline_s=1e-6)
    router.feedback(solution.trace_id, True)
    said = router.explain(solution.trace_id)
    with pytest.raises(ContextOverflow):
        router.solve(Task.from_pairs([("long " * 300, "a"), ("b", "c")], "d"), arm="icl")

    assert decision.arm in router.settings.arms
    assert (solution.answered_by, router._parts._model) == ("ttt_short", None)
    assert "right" in said
    assert hurried.answered_by == "icl"
    assert hurried.degraded != ()


def test_a_model_that_is_not_there_is_said_by_name(cluster: RayCluster, settings: Settings, tmp_path: Path) -> None:
    nowhere = {"model": str(tmp_path / "nowhere"), "executor": "ray://auto?workers=1"}
    with Router(settings.model_copy(update=nowhere)) as router, pytest.raises(ModelUnavailable, match="nowhere"):
        router.solve(texts(1, seed=3)[0])


# What cannot be shared


@pytest.mark.parametrize("given", ["model", "store"])
def test_an_object_of_this_process_is_refused_by_workers_elsewhere(settings: Settings, given: str) -> None:
    handed = {"model": tiny_model()} if given == "model" else {"store": MemoryAdapterStore()}

    with pytest.raises(SettingsError, match=f"^{given}: "):
        Router(settings, executor=open_executor("ray://auto"), **handed)


@pytest.mark.parametrize(("setting", "value"), [("ledger_url", None), ("store_url", "local:"), ("store_secrets", None)])
def test_what_machines_cannot_share_is_refused(settings: Settings, setting: str, value: str | None) -> None:
    with pytest.raises(SettingsError, match=f"TTT_ROUTER_{setting.upper()}"):
        Router(settings.model_copy(update={setting: value, "executor": "ray://auto"}))


def test_a_cluster_of_this_machine_alone_shares_its_files(settings: Settings) -> None:
    own = {"ledger_url": None, "store_url": "local:", "store_secrets": None, "executor": "ray://local"}

    Router(settings.model_copy(update=own)).close()


# Behind a service


def test_all_tenants_are_answered_by_the_same_worker_and_see_their_own_traces_alone(
    tenants: Tenants, elsewhere: Router
) -> None:
    task = texts(1, seed=9)[0]
    solutions = [elsewhere.solve_elsewhere(task, tenant=tenant, arm="ttt_short") for tenant in ("lab", "other")]
    decision = tenants.router("lab").decide(task)
    tenants.check_own("lab", solutions[0].trace_id)
    tenants.check_own("other", solutions[1].trace_id)
    with pytest.raises(UnknownTrace):
        tenants.check_own("other", solutions[0].trace_id)

    adapters = [trace.adapter for trace in traces(elsewhere.settings, [each.trace_id for each in solutions])]
    assert [adapter.cached for adapter in adapters if adapter is not None] == [False, False]  # to each its own
    assert decision.arm in elsewhere.settings.arms


def test_tasks_that_are_asked_one_by_one_are_trained_side_by_side(elsewhere: Router, redis: RedisServer) -> None:
    tasks = texts(TOGETHER, seed=5)
    with ThreadPoolExecutor(TOGETHER) as pool:
        asked = [pool.submit(elsewhere.solve_elsewhere, task, tenant="lab", arm="ttt") for task in tasks]
        until(lambda: len(leases(redis)) == TOGETHER or all(each.done() for each in asked))
        at_once = leases(redis)
        answered_by = [each.result(60).answered_by for each in asked]

    assert len(at_once) == TOGETHER
    assert len(set(at_once)) == 1  # worker
    assert answered_by == ["ttt"] * TOGETHER


def test_a_task_that_is_cancelled_while_a_worker_trains_is_let_go_and_so_is_its_lease_and_its_time_is_told(
    elsewhere: Router, redis: RedisServer
) -> None:
    task, cancelled, in_context_s, until_then_s = texts(1, seed=6)[0], threading.Event(), list[float](), list[float]()
    elsewhere.solve_elsewhere(task, tenant="lab", arm="icl", spent=in_context_s.append)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            elsewhere.solve_elsewhere,
            task,
            tenant="lab",
            arm="ttt",
            cancelled=cancelled.is_set,
            spent=until_then_s.append,
        )
        until(lambda: leases(redis))
        time.sleep(0.5)  # that it trains
        cancelled.set()
        with pytest.raises(Cancelled):
            asked.result(2)
        until(lambda: not leases(redis), within_s=5)
        until(lambda: until_then_s, within_s=5)
        answered_by = elsewhere.solve_elsewhere(task, tenant="lab", arm="icl").answered_by

    assert answered_by == "icl"
    assert sum(in_context_s) > 0
    assert sum(until_then_s) > 0.4


def test_a_service_that_is_stopped_waits_for_no_training_of_its_workers(
    cluster: RayCluster, settings: Settings, redis: RedisServer, tmp_path: Path
) -> None:
    slow = {"executor": "ray://auto?workers=1", "ttt_steps": 100_000, "serve_stop_s": 0.5}
    settings = settings.model_copy(update=slow)

    async def stopped() -> tuple[float, dict[str, Any]]:
        with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
            service = Service(settings, ledger)
            service.begin()
            job = await service.submit("lab", ServeAsked((texts(1, seed=8)[0],), arm="ttt"))
            await asyncio.to_thread(until, lambda: leases(redis))
            began = time.monotonic()
            await service.stop()
            return time.monotonic() - began, job.results[0]

    took_s, result = asyncio.run(stopped())

    assert took_s < 10
    assert result["problem"]["code"] == "stopping"


def test_a_service_whose_cluster_is_lost_is_degraded_until_it_is_back(
    cluster: RayCluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise ConnectionError("nobody is there")

    with workers(settings) as tenants:
        sound = tenants.faults
        with monkeypatch.context() as patch:
            patch.setattr("ray.cluster_resources", away)
            assert tenants.elsewhere is not None
            with pytest.raises(ExecutorUnavailable):
                tenants.elsewhere.solve_elsewhere(texts(1, seed=9)[0], tenant="lab")
            lost = tenants.faults
            with pytest.raises(ExecutorUnavailable):
                tenants.open()
        tenants.open()
        back = tenants.faults

    assert (sound, back) == ((), ())
    assert any("nobody is there" in fault for fault in lost)


def test_doctor_names_what_the_cluster_has(cluster: RayCluster, settings: Settings) -> None:
    there = settings.model_copy(update={"executor": "ray://auto"})
    found = next(finding for finding in examine(there) if finding.check == "executor")

    assert found.state == "ok"
    assert "CPUs" in found.found


@contextmanager
def workers(settings: Settings) -> Iterator[Tenants]:
    """What a service has, with one worker elsewhere."""
    settings = settings.model_copy(update={"executor": f"ray://auto?workers=1&adapters={TOGETHER}"})
    with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
        tenants = Tenants(settings, ledger)
        try:
            tenants.open()
            yield tenants
        finally:
            tenants.close()
