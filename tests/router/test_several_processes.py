"""Several processes that share a Redis and a PostgreSQL act as one: one training a task, one policy promoted."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from icl_engine.task import Task
from policies.ledger import Ledger
from router.router import Router
from router.settings import Settings
from router.trace import Trace
from tests.models import CONSTANT_TASK
from tests.postgres_server import PostgresServer, running_postgres
from tests.redis_server import RedisServer
from tests.router.made_up_policy import publish_made_up_policy

OTHER = Task.from_pairs([("up", "down"), ("left", "right")], "right")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def settings(folder: Path, tmp_path: Path, redis: RedisServer, postgres: PostgresServer) -> Iterator[Settings]:
    """Of every process; each has a home of its own, but for the policies' files."""
    with postgres.database() as url:
        yield Settings(
            home=tmp_path,
            device="cpu",
            ledger_url=url,
            store_url=redis.url,
            store_secrets="a secret of all processes",
            arms=("icl", "ttt"),
            epsilon=0.0,
            ttt_steps=20,
            ttt_learning_rate=3e-2,
            ttt_data="shuffles",
            ttt_loss_on="outputs",
            n_views=1,
        )


def serve(settings: Settings, name: str, pipe: Connection) -> None:
    """A process with a router; does what it is told through the pipe until it hears nothing."""
    import torch

    from tests.models import tiny_model

    torch.set_num_threads(1)
    home = settings.home / name
    home.mkdir()
    (settings.home / "policies").mkdir(exist_ok=True)
    (home / "policies").symlink_to(settings.home / "policies")  # the folder that machines share
    with Router(settings.model_copy(update={"home": home}), model=tiny_model()) as router:
        router.decide(OTHER)  # everything is loaded
        pipe.send(router.model.fingerprint)
        while (asked := pipe.recv()) is not None:
            pipe.send(_done(router, *asked))


def _done(router: Router, what: str, n: int) -> Any:
    if what == "solve":
        with ThreadPoolExecutor(n) as pool:
            solutions = list(pool.map(lambda _: router.solve(CONSTANT_TASK, arm="ttt"), range(n)))
        router.flush()
        return [(solution.trace_id, solution.answer, solution.degraded) for solution in solutions]
    return router.decide(OTHER).policy


@pytest.fixture
def processes(settings: Settings) -> Iterator[tuple[list[Connection], str]]:
    """Two of them, ready, and the fingerprint of their model."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes = []
        for name in ("one", "two"):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(settings, name, theirs))
            process.start()
            theirs.close()
            stack.callback(process.join, 60)
            pipes.append(ours)
        fingerprints = {pipe.recv() for pipe in pipes}
        yield pipes, fingerprints.pop()
        for pipe in pipes:
            pipe.send(None)


def test_fifty_equal_tasks_in_two_processes_are_trained_on_once(
    settings: Settings, processes: tuple[list[Connection], str]
) -> None:
    pipes, _ = processes
    for pipe in pipes:
        pipe.send(("solve", 25))
    solved = [each for pipe in pipes for each in pipe.recv()]

    assert len({trace_id for trace_id, _, _ in solved}) == 50
    assert {degraded for _, _, degraded in solved} == {()}
    assert len({answer for _, answer, _ in solved}) == 1
    with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
        adapters = [Trace.read(ledger.trace(trace_id).document).adapter for trace_id, _, _ in solved]
    assert len({adapter.key for adapter in adapters if adapter is not None}) == 1
    assert [adapter is not None and adapter.cached for adapter in adapters].count(False) == 1


@pytest.mark.alone
def test_a_promotion_is_seen_by_every_process_within_two_seconds(
    settings: Settings, processes: tuple[list[Connection], str]
) -> None:
    pipes, fingerprint = processes
    before = [_policy_of(pipe) for pipe in pipes]
    with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
        version = publish_made_up_policy(ledger, fingerprint)
        ledger.policy_versions.promote(version, expected_epoch=0, reason="by hand")
        promoted = time.monotonic()
        until = promoted + 10
        while any(_policy_of(pipe) in before for pipe in pipes) and time.monotonic() < until:
            time.sleep(0.02)
        took_s = time.monotonic() - promoted
        after = [_policy_of(pipe) for pipe in pipes]

    assert len(set(before)) == len(set(after)) == 1
    assert after[0].startswith("learned@")
    assert took_s < 2.0


def _policy_of(pipe: Connection) -> str:
    pipe.send(("decide", 1))
    return str(pipe.recv())
