"""The executor on a real Ray cluster of three nodes, all on this machine: who gets what, and what a death costs."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from icl_engine.errors import ModelUnavailable, TaskRefused
from tests.ray_cluster import ROOT, RayCluster, ray_cluster
from tests.ttt_engine.executors.workers import SPENT_S, TellingWorker, What, begun, task_of, without_a_model
from ttt_engine.errors import Cancelled, DeadlinePassed, ExecutorUnavailable
from ttt_engine.executors import Batch

pytest.importorskip("ray")

import ray
from ray.exceptions import ObjectLostError

from ttt_engine.executors.ray import RayExecutor
from ttt_engine.executors.ray.actor import Actor, start_actor

Told = tuple[str, str, int]


class Shared(NamedTuple):
    executor: RayExecutor[What, Told]
    notes: Path


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(n_workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def shared(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    executor, notes = RayExecutor[What, Told]("auto", cpus=0.5, workers=2), tmp_path_factory.mktemp("notes")
    executor.start(functools.partial(TellingWorker, notes))
    yield Shared(executor, notes)
    executor.close()


@pytest.fixture
def executor(shared: Shared) -> Iterator[RayExecutor[What, Told]]:
    """One whose two workers are there and have nothing to do; tests that ask for nothing else of it share it."""
    until(lambda: len({batch[0][0] for batch in shared.executor.run(batches("say", 99, 98, 97))}) == 2, within_s=60)
    for note in shared.notes.iterdir():
        note.unlink()
    yield shared.executor
    (shared.notes / "go").touch()


@pytest.fixture
def notes(executor: RayExecutor[What, Told], shared: Shared) -> Path:
    """Where its workers write what they begin."""
    return shared.notes


def batches(what: What, *lengths: int) -> list[Batch[What]]:
    return [Batch((task_of(length),), what) for length in lengths]


def beside_others(length: int, what: What) -> Batch[What]:
    return Batch((task_of(length),), what, beside_others=True)


@contextmanager
def unfitting(notes: Path) -> Iterator[RayExecutor[What, Told]]:
    """Make an executor whose workers find no room."""
    executor = RayExecutor[What, Told]("auto", cpus=64, workers=1, start_within_s=60.0)
    executor.start(functools.partial(TellingWorker, notes))
    yield executor
    executor.close()


def until(is_so: Callable[[], object], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_batches_are_begun_in_order_and_come_back_in_order(executor: RayExecutor[What, Told], notes: Path) -> None:
    found = executor.run(batches("say", 49, 48, 47, 46, 45, 44))

    assert [batch[0][1] for batch in found] == ["49", "48", "47", "46", "45", "44"]
    assert set(begun(notes)[:2]) == {"49", "48"}
    assert len({worker for ((worker, _, _),) in found}) == 2


def test_a_task_goes_to_the_worker_that_has_its_adapter(executor: RayExecutor[What, Told]) -> None:
    first = executor.run(batches("say", 6, 5, 4, 3, 2, 1))
    again = executor.run(batches("say", 1, 2, 3, 4, 5, 6))  # each of the two has some first, wherever these stand

    stayed = [before[0][0] == after[0][0] for before, after in zip(first, reversed(again), strict=True)]
    assert sum(stayed) >= 5  # the last may go to whoever has nothing left


def test_a_batch_whose_worker_dies_is_done_by_another_who_knows_of_it(
    executor: RayExecutor[What, Told], notes: Path
) -> None:
    ((before,),) = executor.run(batches("say", 2))
    (notes / "go").touch()
    for note in notes.glob("*.begun"):
        note.unlink()
    ((said,),) = executor.run(batches("die once", 1))

    assert begun(notes) == ["1", "1"]
    assert said[1:] == ("1", before[2] + 1)  # one more is dead than was before


def test_a_batch_that_kills_everyone_is_given_up(executor: RayExecutor[What, Told], notes: Path) -> None:
    with pytest.raises(ExecutorUnavailable, match="ray status"):
        executor.run(batches("die", 1))

    assert begun(notes) == ["1"] * 3  # once, and two retries
    assert executor.run(batches("say", 2))[0][0][1] == "2"  # the others are none the worse


def test_an_error_comes_back_as_it_was_raised(executor: RayExecutor[What, Told]) -> None:
    with pytest.raises(TaskRefused) as caught:
        executor.run(batches("refuse", 1))

    assert type(caught.value) is TaskRefused
    assert (caught.value.field, caught.value.task_id) == ("task", "1")


def test_a_worker_that_cannot_be_made_is_told_of_at_once(cluster: RayCluster) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(without_a_model)

    with pytest.raises(ModelUnavailable, match="Name another"):
        executor.run(batches("say", 1, 2))
    executor.close()


def test_a_batch_waits_for_a_worker_no_longer_than_its_deadline(cluster: RayCluster, tmp_path: Path) -> None:
    began = time.monotonic()

    with unfitting(tmp_path) as executor:
        with pytest.raises(DeadlinePassed, match="waiting for a worker"):
            executor.run([Batch((task_of(1),), "say", began + 0.5)])
        took_s = time.monotonic() - began

    assert took_s < 10


def test_a_cluster_without_room_is_waited_for_no_longer_than_is_said(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=64, workers=1, start_within_s=1.0)
    executor.start(functools.partial(TellingWorker, tmp_path))
    began = time.monotonic()

    with pytest.raises(ExecutorUnavailable, match=r"no worker has started in 1 s; one needs 0 GPUs and 64 CPUs"):
        executor.run(batches("say", 1))
    executor.close()

    assert time.monotonic() - began < 10


def test_a_cluster_that_grows_takes_up_what_waits(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=4, workers=1, start_within_s=60.0)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(executor.run, batches("say", 1))
        time.sleep(1.0)
        assert not asked.done()
        cluster.grow(num_cpus=4)

        assert asked.result(60)[0][0][1] == "1"
    executor.close()


# What nobody wants any more


def test_a_batch_that_is_cancelled_is_let_go_at_once_and_its_worker_stops(
    executor: RayExecutor[What, Told], notes: Path
) -> None:
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(executor.run, [Batch((task_of(1),), "wait", cancelled=cancelled.is_set)])
        until(lambda: begun(notes))
        cancelled.set()
        with pytest.raises(Cancelled):
            asked.result(2)
        until((notes / "stopped").exists)

    assert executor.run(batches("say", 2))[0][0][1] == "2"


def test_a_batch_that_is_cancelled_while_it_waits_is_never_begun(cluster: RayCluster, tmp_path: Path) -> None:
    with unfitting(tmp_path) as executor, pytest.raises(Cancelled):
        executor.run([Batch((task_of(1),), "say", cancelled=lambda: True)])

    assert begun(tmp_path) == []


def test_what_a_worker_did_is_told_whatever_came_of_it(executor: RayExecutor[What, Told], notes: Path) -> None:
    answered, refused, given_up = list[float](), list[float](), list[float]()
    cancelled = threading.Event()
    executor.run([Batch((task_of(1),), "say", spent=answered.append)])
    told_before_it_returned = list(answered)
    with pytest.raises(TaskRefused):
        executor.run([Batch((task_of(2),), "refuse", spent=refused.append)])
    with ThreadPoolExecutor(1) as pool:
        unwanted: Batch[What] = Batch((task_of(3),), "wait", cancelled=cancelled.is_set, spent=given_up.append)
        asked = pool.submit(executor.run, [unwanted])
        until(lambda: "3" in begun(notes))
        cancelled.set()
        with pytest.raises(Cancelled):
            asked.result(2)
        until(lambda: given_up)

    assert told_before_it_returned == [SPENT_S]
    assert refused == []
    assert given_up == [SPENT_S]


def test_a_worker_that_does_not_end_is_waited_for_only_a_while_after_the_deadline(
    executor: RayExecutor[What, Told], notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttt_engine.executors.ray.executor._LATE_S", 0.3)
    began = time.monotonic()

    with pytest.raises(DeadlinePassed, match="waiting for its worker to end"):
        executor.run([Batch((task_of(1),), "hang", began + 0.3)])
    took_s = time.monotonic() - began
    (notes / "go").touch()

    assert 0.5 < took_s < 5


def test_closing_fails_what_is_under_way_and_waits_for_no_worker_that_hangs(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttt_engine.executors.ray.executor._LET_GO_S", 0.5)
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(executor.run, batches("hang", 1))
        until(lambda: begun(tmp_path))
        began = time.monotonic()
        executor.close()
        took_s = time.monotonic() - began

        with pytest.raises(ExecutorUnavailable, match="closed"):
            asked.result(2)
    assert took_s < 5


# Beside others


def test_a_worker_has_batches_that_may_be_beside_others_at_the_same_time(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1, adapters=3)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(executor.run, [beside_others(n, "wait")]) for n in (1, 2, 3, 4)]
        until(lambda: len(begun(tmp_path)) == 3)
        time.sleep(0.3)
        at_once = len(begun(tmp_path))
        (tmp_path / "go").touch()
        said = [each.result(10)[0][0][1] for each in asked]
    executor.close()

    assert at_once == 3  # as many as are trained together
    assert said == ["1", "2", "3", "4"]


def test_batches_beside_others_go_to_whoever_has_the_fewest(executor: RayExecutor[What, Told], notes: Path) -> None:
    while len(executor.workers) < 2:  # one may have died in a test before
        executor.run(batches("say", 8, 9))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(executor.run, [beside_others(n, "wait")]) for n in (1, 2, 3, 4)]
        until(lambda: {"1", "2", "3", "4"} <= {*begun(notes)})
        (notes / "go").touch()
        workers = [each.result(10)[0][0][0] for each in asked]

    assert sorted(map(workers.count, set(workers))) == [2, 2]


def test_a_batch_that_kills_its_worker_costs_those_beside_it_no_answer(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(3) as pool:
        beside = [pool.submit(executor.run, [beside_others(n, "wait")]) for n in (1, 2)]
        until(lambda: len(begun(tmp_path)) == 2)
        guilty = pool.submit(executor.run, [beside_others(3, "die")])
        until(lambda: "3" in begun(tmp_path))
        (tmp_path / "go").touch()
        said = [each.result(60)[0][0][1] for each in beside]
        with pytest.raises(ExecutorUnavailable):
            guilty.result(60)
    executor.close()

    assert said == ["1", "2"]


# A cluster that cannot be reached


def test_a_cluster_that_is_away_is_said_and_once_it_is_back_it_is_asked_again(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise ConnectionError("nobody is there")

    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("ray.cluster_resources", away)
        with pytest.raises(ExecutorUnavailable, match="nobody is there"):
            executor.run(batches("say", 1))
        fault = executor.fault
        with pytest.raises(ExecutorUnavailable, match="nobody is there"):
            executor.check()
    said = executor.run(batches("say", 2))[0][0][1]
    found = executor.check()
    executor.close()

    assert fault is not None
    assert (said, executor.fault) == ("2", None)
    assert begun(tmp_path) == ["2"]  # what could not be done then is not done later
    assert found.endswith("CPUs")


def test_a_deadline_is_kept_while_connecting_takes_long(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = threading.Event()
    monkeypatch.setattr("ray.is_initialized", lambda: connected.wait(20))
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    began = time.monotonic()

    with pytest.raises(DeadlinePassed):
        executor.run([Batch((task_of(1),), "say", began + 0.3)])
    took_s, fault = time.monotonic() - began, executor.fault
    connected.set()
    executor.close()

    assert took_s < 5
    assert fault == "connecting to Ray"


def test_a_worker_that_cannot_be_asked_for_costs_nothing_where_there_are_others(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=2)
    executor.start(functools.partial(TellingWorker, tmp_path))
    executor.run(batches("say", 9))
    asked_for = threading.Event()

    def refusing(kind: object) -> None:
        asked_for.set()
        raise RuntimeError("no more")

    monkeypatch.setattr("ray.remote", refusing)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(executor.run, batches("wait", 1, 2))
        assert asked_for.wait(10)
        time.sleep(0.2)
        (tmp_path / "go").touch()
        said = [batch[0][1] for batch in asked.result(10)]
    executor.close()

    assert said == ["1", "2"]


class Stray:
    """What stands in for an actor that begins well, and whose first call is of no avail, as `lost` says."""

    def __init__(self, lost: Future[object], called: threading.Event) -> None:
        began = ray.put(None)
        self.begin = SimpleNamespace(remote=lambda make, name: began)
        self.run = SimpleNamespace(remote=self._call)
        self._lost, self._called = lost, called

    def _call(self, *_: object) -> SimpleNamespace:
        self._called.set()
        return SimpleNamespace(future=lambda: self._lost)


def cancelled_call() -> Future[object]:
    lost = Future[object]()
    lost.cancel()
    return lost


def lost_result() -> Future[object]:
    lost = Future[object]()
    lost.set_exception(ObjectLostError("00" * 28, None, ""))
    return lost


@pytest.mark.parametrize("lost", [cancelled_call, lost_result])
def test_a_batch_is_done_by_another_where_its_call_is_cancelled_or_its_result_is_lost(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Callable[[], Future[object]]
) -> None:
    called, start = threading.Event(), start_actor

    def first_a_stray(*given: Any) -> Any:
        return start(*given) if called.is_set() else Stray(lost(), called)

    monkeypatch.setattr("ttt_engine.executors.ray.executor.start_actor", first_a_stray)
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(executor.run, batches("say", 1)).result(60)[0][0]
    executor.close()

    assert called.is_set()
    assert said[1:] == ("1", 1)


def test_a_word_to_stop_is_heard_before_its_batch_comes_and_forgotten_after_it() -> None:
    actor, heard = Actor(), list[bool]()

    class Hearing:
        def bury(self, worker: str) -> None: ...

        def run(
            self, tasks: object, asked: object, deadline_s: object, cancelled: Callable[[], bool], _: object
        ) -> Any:
            heard.append(cancelled())
            return []

    actor.begin(lambda name: Hearing(), "a")  # type: ignore[arg-type, return-value]  # of a worker what is used here
    actor.stop("early")
    actor.run("early", (), None, None, ())
    actor.run("late", (), None, None, ())
    actor.stop("late")

    assert heard == [True, False]
    assert actor._unwanted == {}


FROM_ELSEWHERE = """
import functools, pathlib, sys, time
from tests.ttt_engine.executors.workers import TellingWorker, task_of
from ttt_engine.errors import ExecutorUnavailable
from ttt_engine.executors import Batch, open_executor

executor = open_executor(sys.argv[1])
executor.start(functools.partial(TellingWorker, pathlib.Path(sys.argv[2])))
for left in reversed(range(5)):  # on a busy machine Ray gives up on its own server for a client, and starts another
    try:
        said = executor.run([Batch((task_of(n),), "say") for n in (3, 2, 1)])
        break
    except ExecutorUnavailable:
        if not left:
            raise
        time.sleep(1.0)
print(*(told[0][1] for told in said))
executor.close()
"""


def test_a_process_that_is_no_node_of_the_cluster_is_served_through_its_client_port(
    cluster: RayCluster, tmp_path: Path
) -> None:
    url = f"ray://127.0.0.1:{cluster.client_port}?workers=1&cpus=0.5"
    done = subprocess.run(
        [sys.executable, "-c", FROM_ELSEWHERE, url, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "2", "1"]


def test_workers_without_work_are_ended_and_made_anew(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1, idle_s=0.2)
    executor.start(functools.partial(TellingWorker, tmp_path))
    ((first,),) = executor.run(batches("say", 1))
    until = time.monotonic() + 10
    while executor.workers and time.monotonic() < until:
        time.sleep(0.05)
    ended = executor.workers == ()
    ((second,),) = executor.run(batches("say", 1))
    executor.close()

    assert ended
    assert first[0] != second[0]


def test_what_waits_when_it_is_closed_fails(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor[What, Told]("auto", cpus=64, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(executor.run, batches("say", 1))
        time.sleep(0.5)
        executor.close()

        with pytest.raises(ExecutorUnavailable, match="closed"):
            asked.result(10)


def test_nobody_waits_for_what_was_under_way_when_the_program_ended_its_connection(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of this cluster: Ray 2.60 may start no actors for a process that connects to it once more, and then
    nobody does what was under way.
    """
    monkeypatch.setenv("RAY_ADDRESS", cluster.cluster.address)  # there may be others on this machine
    executor = RayExecutor[What, Told]("auto", cpus=0.5, workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with closing(executor), ThreadPoolExecutor(1) as pool:  # or it would connect to the cluster of the next test
        asked = pool.submit(executor.run, batches("wait", 1))
        until(lambda: begun(tmp_path))
        ray.shutdown()
        executor.check()  # as it does every 10 s
        (tmp_path / "go").touch()  # for whoever has begun with it anew
        with suppress(ExecutorUnavailable):
            assert asked.result(60)[0][0][1] == "1"
