"""The executor in this process calls its one worker, batch after batch; and what a URL names."""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path

import pytest

from icl_engine.errors import TaskRefused
from tests.ttt_engine.executors.workers import TellingWorker, What, begun, task_of
from ttt_engine.errors import ExecutorUnavailable
from ttt_engine.executors import Batch, InProcessExecutor, open_executor

Told = tuple[str, str, int]


@pytest.fixture
def executor(tmp_path: Path) -> InProcessExecutor[What, Told]:
    executor = InProcessExecutor[What, Told]()
    executor.start(functools.partial(TellingWorker, tmp_path))
    return executor


def test_results_come_in_the_order_of_the_batches(executor: InProcessExecutor[What, Told], tmp_path: Path) -> None:
    batches: list[Batch[What]] = [Batch((task_of(3), task_of(1)), "say"), Batch((task_of(2),), "say")]

    found = executor.run(batches)

    assert [[id for _, id, _ in batch] for batch in found] == [["3", "1"], ["2"]]
    assert begun(tmp_path) == ["3,1", "2"]


def test_after_a_batch_that_raises_none_is_begun(executor: InProcessExecutor[What, Told], tmp_path: Path) -> None:
    with pytest.raises(TaskRefused, match="got this one"):
        executor.run([Batch((task_of(1),), "refuse"), Batch((task_of(2),), "say")])

    assert begun(tmp_path) == ["1"]


def test_what_is_left_of_a_deadline_is_told_and_is_never_nothing() -> None:
    told: list[float | None] = []

    class Listening(TellingWorker):
        def run(
            self, tasks: object, asked: What, deadline_s: float | None, cancelled: object, spent: object
        ) -> list[Told]:
            told.append(deadline_s)
            return []

    executor = InProcessExecutor[What, Told]()
    executor.start(functools.partial(Listening, Path()))
    now = time.monotonic()
    for deadline in (None, now + 60.0, now - 60.0):
        executor.run([Batch((task_of(1),), "say", deadline)])

    assert told[0] is None
    assert told[1] is not None
    assert 50.0 < told[1] <= 60.0
    assert told[2] == 1e-9


def test_closing_ends_the_worker(executor: InProcessExecutor[What, Told], tmp_path: Path) -> None:
    executor.run([Batch((task_of(1),), "say")])
    executor.close()

    assert (tmp_path / "closed").exists()


def test_an_executor_serves_one_router(executor: InProcessExecutor[What, Told], tmp_path: Path) -> None:
    with pytest.raises(ExecutorUnavailable, match="Give each router its own"):
        executor.start(functools.partial(TellingWorker, tmp_path))


# From a URL


@pytest.mark.parametrize(
    "url",
    [
        "",
        "local:",
        "process",
        "processes/2",
        "processes:2",
        "//processes",
        "redis://host",
        "ray:",
        "ray://",
        "ray://host/path",
        "ray://[::1",
    ],
)
def test_what_is_no_executor_is_refused_with_those_there_are(url: str) -> None:
    with pytest.raises(ExecutorUnavailable, match="in-process, processes, ray://local, ray://auto or ray://host"):
        open_executor(url)


@pytest.mark.parametrize(
    "option",
    ["gpus=", "gpus=-1", "cpus=many", "cpus=nan", "cpus=inf", "workers=1.5", "workers=0", "adapters=0", "colour=1"],
)
def test_an_option_that_cannot_be_used_is_named(option: str) -> None:
    with pytest.raises(ExecutorUnavailable, match=option.partition("=")[0]):
        open_executor(f"ray://local?{option}")


@pytest.mark.parametrize("option", ["workers=0", "adapters=two", "retries=-1", "gpus=1"])
def test_an_option_that_processes_cannot_use_is_named(option: str) -> None:
    with pytest.raises(ExecutorUnavailable, match=option.partition("=")[0]):
        open_executor(f"processes?{option}")


def test_processes_are_named_with_how_many_and_none_is_started() -> None:
    executor = open_executor("processes?workers=3&adapters=8&retries=0")

    assert (executor.reach, executor.adapters_together) == ("machine", 8)
    assert executor.check().startswith("3 processes on this machine")
    executor.close()


@pytest.mark.parametrize(("place", "reach"), [("local", "machine"), ("auto", "cluster"), ("head:10001", "cluster")])
def test_a_url_names_a_cluster_and_connects_to_nothing(place: str, reach: str) -> None:
    pytest.importorskip("ray")
    executor = open_executor(f"ray://{place}?gpus=0.5&workers=3&adapters=8")

    assert (executor.reach, executor.adapters_together) == (reach, 8)
    executor.close()


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("ttt_engine.executors.ray")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ExecutorUnavailable, match=r"pip install 'ttt-router\[ray\]'"):
        open_executor("ray://local")
