"""A router whose tasks are solved on a Ray cluster of three nodes, with a real Redis and a real PostgreSQL: as in this
process, and whatever node is lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from icl_engine.task import Task
from policies.ledger import Ledger
from router.errors import ContextOverflow, ModelUnavailable, SettingsError, UnknownTrace
from router.router import Router, store_of
from router.serve.tenants import Tenants
from router.settings import Settings
from router.trace import Trace
from tests.models import save_tiny_llama, tiny_model
from tests.postgres_server import running_postgres
from tests.ray_cluster import RayCluster, ray_cluster
from tests.redis_server import RedisServer
from ttt_engine.executors import InProcessExecutor, open_executor
from ttt_engine.stores import MemoryAdapterStore

pytest.importorskip("ray")

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
    return Settings(
        home=tmp_path / "shared",
        model=str(save_tiny_llama(tmp_path / "llama")),
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


def holders(redis: RedisServer) -> set[str]:
    """Return who is training now."""
    with redis.client() as client:
        held = [client.get(name) for name in client.scan_iter("ttt:*:lease")]
    return {token.decode().partition("/")[0] for token in held if token is not None}


def test_a_node_lost_in_mid_batch_costs_no_answer_and_no_second_training(
    cluster: RayCluster, settings: Settings, redis: RedisServer, tmp_path: Path
) -> None:
    tasks = texts(2 * TOGETHER, seed=1)
    settings = settings.model_copy(update={"executor": f"ray://auto?workers=2&adapters={TOGETHER}"})
    with Router(settings) as router, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(router.solve_many, tasks, arm="ttt", seed=3)
        until = time.monotonic() + 120
        while len(training := holders(redis)) < 2 and not asked.done() and time.monotonic() < until:
            time.sleep(0.02)
        cluster.kill(cluster.nodes[0].node_id)
        solutions = asked.result(120)
        again = router.solve_many(tasks, arm="ttt", seed=3)

    assert len(training) == 2
    assert [solution.task for solution in solutions] == tasks
    assert [solution.degraded for solution in solutions] == [()] * len(tasks)
    trained = [trace.adapter for trace in traces(settings, [solution.trace_id for solution in solutions])]
    assert [adapter is not None and adapter.cached for adapter in trained] == [False] * len(tasks)
    found = [trace.adapter for trace in traces(settings, [solution.trace_id for solution in again])]
    assert [adapter is not None and adapter.cached for adapter in found] == [True] * len(tasks)
    keys = [adapter.key for adapter in trained if adapter is not None]
    assert len(set(keys)) == len(tasks)

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


def test_all_that_a_router_does_goes_on_without_a_model_here(cluster: RayCluster, settings: Settings) -> None:
    task = texts(1, seed=2)[0]
    with Router(settings.model_copy(update={"ttt_steps": 2, "executor": "ray://auto?workers=1"})) as router:
        decision = router.decide(task, seed=5)
        solution = router.solve(task, arm="ttt", seed=5)
        hurried = router.solve(task.replace(queries=("other",)), arm="ttt", deadline_s=1e-6)
        router.feedback(solution.trace_id, True)
        said = router.explain(solution.trace_id)
        with pytest.raises(ContextOverflow):
            router.solve(Task.from_pairs([("long " * 300, "a"), ("b", "c")], "d"), arm="icl")
        loaded = router._model

    assert decision.arm in ("icl", "ttt")
    assert (solution.arm, loaded) == ("ttt", None)
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


def test_in_a_service_the_workers_of_each_tenant_answer_and_the_service_itself_decides(
    cluster: RayCluster, settings: Settings
) -> None:
    task = texts(1, seed=9)[0]
    settings = settings.model_copy(update={"executor": "ray://auto?workers=1"})
    with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
        tenants = Tenants(settings, ledger)
        tenants.open()
        workers = tenants.elsewhere("lab")
        assert workers is not None
        solution, decision = workers.solve(task, arm="icl"), tenants.router("lab").decide(task)
        tenants.check_own("lab", solution.trace_id)
        with pytest.raises(UnknownTrace):
            tenants.check_own("other", solution.trace_id)
        tenants.close()

    assert solution.arm == "icl"
    assert decision.arm in settings.arms
