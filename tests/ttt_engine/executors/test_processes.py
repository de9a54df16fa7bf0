"""Processes beside this one: batches side by side, a death survived, what nobody wants let go, nothing left behind."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from icl_engine.errors import ModelUnavailable, TaskRefused
from tests.ttt_engine.executors.workers import SPENT_S, TellingWorker, What, begun, task_of, without_a_model
from ttt_engine.errors import Cancelled, DeadlinePassed, ExecutorUnavailable
from ttt_engine.executors import Batch
from ttt_engine.executors.processes import ProcessesExecutor

ROOT = Path(__file__).resolve().parents[3]
Told = tuple[str, str, int]
FORSAKEN = """
import functools, os, sys, threading
from pathlib import Path
from tests.ttt_engine.executors.workers import TellingWorker, begun, task_of
from ttt_engine.executors import Batch
from ttt_engine.executors.processes import ProcessesExecutor

notes = Path(sys.argv[1])
executor = ProcessesExecutor(workers=1)  # no guard: a script is not run again by its workers
executor.start(functools.partial(TellingWorker, notes))
threading.Thread(target=executor.run, args=([Batch((task_of(1),), "hang")],), daemon=True).start()
while not begun(notes):
    pass
print(executor._processes[0]._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProcessesExecutor[What, Told], Path]]:
    notes = tmp_path_factory.mktemp("notes")
    executor = ProcessesExecutor[What, Told](workers=2)
    executor.start(functools.partial(TellingWorker, notes))
    yield executor, notes
    executor.close()


@pytest.fixture
def notes(shared: tuple[ProcessesExecutor[What, Told], Path]) -> Path:
    for note in shared[1].iterdir():
        note.unlink()
    return shared[1]


@pytest.fixture
def executor(shared: tuple[ProcessesExecutor[What, Told], Path], notes: Path) -> ProcessesExecutor[What, Told]:
    return shared[0]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[ProcessesExecutor[What, Told]]:
    executor = ProcessesExecutor[What, Told](workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    yield executor
    executor.close()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have SIGINT interrupt, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def batches(what: What, *lengths: int) -> list[Batch[What]]:
    return [Batch((task_of(n),), what) for n in lengths]


def until(is_so: Callable[[], object], within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_batches_come_back_in_order_from_as_many_processes_as_there_may_be(
    executor: ProcessesExecutor[What, Told], notes: Path
) -> None:
    found = executor.run(batches("say", 6, 5, 4, 3, 2, 1))
    again = executor.run(batches("say", 6, 5, 4, 3, 2, 1))  # both are there by now

    assert [batch[0][1] for batch in found] == ["6", "5", "4", "3", "2", "1"]
    assert len({worker for ((worker, _, _),) in [*found, *again]}) == 2
    assert set(begun(notes)[:2]) == {"6", "5"}


def test_one_batch_needs_one_process(one: ProcessesExecutor[What, Told]) -> None:
    found = [one.run(batches("say", n))[0][0] for n in (1, 2, 3)]

    assert [told[1:] for told in found] == [("1", 0), ("2", 0), ("3", 0)]
    assert len({worker for worker, _, _ in found}) == 1


def test_a_batch_whose_process_dies_is_done_by_another_who_knows_of_it(
    executor: ProcessesExecutor[What, Told], notes: Path
) -> None:
    ((before,),) = executor.run(batches("say", 2))
    for note in notes.glob("*.begun"):
        note.unlink()
    ((said,),) = executor.run(batches("die once", 1))

    assert begun(notes) == ["1", "1"]
    assert said[1] == "1"
    assert said[2] > before[2]


def test_a_batch_that_kills_everyone_is_given_up(executor: ProcessesExecutor[What, Told], notes: Path) -> None:
    with pytest.raises(ExecutorUnavailable, match=r"exit code 1.*as did 2 before it.*in-process"):
        executor.run(batches("die", 1))

    assert begun(notes) == ["1"] * 3  # once, and two retries
    assert executor.run(batches("say", 2))[0][0][1] == "2"


def test_an_error_comes_back_as_it_was_raised_and_what_is_not_begun_is_left_out(
    one: ProcessesExecutor[What, Told], tmp_path: Path
) -> None:
    with pytest.raises(TaskRefused, match="got this one") as refused:
        one.run([*batches("refuse", 1), *batches("say", 2)])

    assert refused.value.task_id == "1"
    assert begun(tmp_path) == ["1"]


def test_a_worker_that_cannot_be_made_is_told_of_and_tried_again_with_the_next_batch() -> None:
    executor = ProcessesExecutor[What, Told](workers=2)
    executor.start(without_a_model)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="no such model"):
            executor.run(batches("say", 1, 2))
    executor.close()


def test_what_cannot_be_sent_to_a_process_is_said() -> None:
    executor = ProcessesExecutor[What, Told](workers=1)
    executor.start(lambda name: TellingWorker(Path(), name))

    with pytest.raises(ExecutorUnavailable, match="no worker could be started"):
        executor.run(batches("say", 1))
    executor.close()


def test_a_batch_that_cannot_be_sent_costs_no_process(one: ProcessesExecutor[What, Told]) -> None:
    ((before,),) = one.run(batches("say", 1))
    unsendable: Any = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        one.run([Batch((task_of(2),), unsendable)])

    assert one.run(batches("say", 3))[0][0] == (before[0], "3", 0)


def test_a_batch_that_is_cancelled_is_let_go_at_once_and_its_worker_goes_on_with_others(
    one: ProcessesExecutor[What, Told], tmp_path: Path
) -> None:
    cancelled, spent = threading.Event(), list[float]()
    ((before,),) = one.run(batches("say", 9))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(one.run, [Batch((task_of(1),), "wait", cancelled=cancelled.is_set, spent=spent.append)])
        until(lambda: "1" in begun(tmp_path))
        cancelled.set()
        with pytest.raises(Cancelled):
            asked.result(2)
    ((after,),) = one.run(batches("say", 2))
    until(lambda: spent)

    assert (tmp_path / "stopped").exists()
    assert after == (before[0], "2", 0)
    assert spent == [SPENT_S]


def test_an_interruption_from_the_keyboard_lets_all_go_and_begins_nothing_more(
    one: ProcessesExecutor[What, Told], tmp_path: Path, interruptible: None
) -> None:
    one.run(batches("say", 9))
    for asked in (batches("wait", 1), batches("wait", 1, 2, 3)):
        for note in tmp_path.iterdir():
            note.unlink()
        interrupt = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            one.run(asked)

        until((tmp_path / "stopped").exists)
        assert one.run(batches("say", 4))[0][0][2] == 0  # its worker goes on, nobody has died
        assert begun(tmp_path) == ["1", "4"]


def test_a_process_that_does_not_end_is_ended_a_while_after_the_deadline(
    one: ProcessesExecutor[What, Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttt_engine.executors.processes._LATE_S", 0.3)
    one.run(batches("say", 9))
    began = time.monotonic()

    with pytest.raises(DeadlinePassed, match="waiting for its worker to end"):
        one.run([Batch((task_of(1),), "hang", began + 0.3)])

    assert 0.5 < time.monotonic() - began < 5
    assert one.run(batches("say", 2))[0][0][1:] == ("2", 1)  # by another, who knows of one that is dead


def test_a_batch_waits_for_a_process_no_longer_than_its_deadline(
    one: ProcessesExecutor[What, Told], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(one.run, batches("wait", 1))
        until(lambda: begun(tmp_path))
        with pytest.raises(DeadlinePassed, match="waiting for a worker"):
            one.run([Batch((task_of(2),), "say", time.monotonic() + 0.2)])
        (tmp_path / "go").touch()
        asked.result(10)

    assert begun(tmp_path) == ["1"]


def test_closing_fails_what_is_under_way_and_waits_for_no_process_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttt_engine.executors.processes._LET_GO_S", 0.5)
    executor = ProcessesExecutor[What, Told](workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(executor.run, batches("hang", 1))
        until(lambda: begun(tmp_path))
        (pid,) = (each._process.pid for each in executor._processes)
        executor.close()
        with pytest.raises(ExecutorUnavailable, match="closed"):
            asked.result(2)

    assert not is_there(pid)
    with pytest.raises(ExecutorUnavailable, match="closed"):
        executor.run(batches("say", 1))


def test_closing_ends_the_workers_in_good_order(tmp_path: Path) -> None:
    executor = ProcessesExecutor[What, Told](workers=1)
    executor.start(functools.partial(TellingWorker, tmp_path))
    executor.run(batches("say", 1))
    executor.close()

    assert (tmp_path / "closed").exists()


def test_an_interruption_of_the_terminal_ends_no_worker(one: ProcessesExecutor[What, Told]) -> None:
    ((before,),) = one.run(batches("say", 1))
    os.kill(one._processes[0]._process.pid, signal.SIGINT)

    assert one.run(batches("say", 2))[0][0][0] == before[0]


def test_a_process_ends_with_the_program_however_that_ends_and_runs_nothing_of_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", FORSAKEN, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment, check=False
    )

    assert ran.returncode == -signal.SIGKILL
    until(lambda: not is_there(int(ran.stdout)))
    assert begun(tmp_path) == ["1"]
