"""Of many who want one adapter one trains; whoever waits gets the same, or gives up when its time is up."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adapters import adapter_of, spec_of
from ttt_engine.adapter import Adapter
from ttt_engine.errors import Cancelled, StoreUnavailable, TrainingFailed
from ttt_engine.stores import MemoryAdapterStore, SingleFlight
from ttt_engine.stores.leases import FileLeases
from ttt_engine.stores.single_flight import Renew

ADAPTER = adapter_of()
KEY = ADAPTER.key


class Training:
    """A training that is over when it is let go, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.n = 0
        self.begun, self.go = threading.Event(), threading.Event()
        self.error = error

    def __call__(self, renew: Renew) -> Adapter:
        self.n += 1
        self.begun.set()
        assert self.go.wait(10)
        renew()
        if self.error is not None:
            raise self.error
        return ADAPTER


def nothing() -> None:
    return None


def flown(flight: SingleFlight, make: Callable[[Renew], Adapter], deadline: float | None = None) -> Adapter:
    return flight.run(KEY, find=nothing, make=make, deadline=deadline)


def test_those_who_wait_get_what_the_first_has_made() -> None:
    flight, training = SingleFlight(), Training()
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(flown, flight, training) for _ in range(10)]
        training.begun.wait(10)
        time.sleep(0.05)
        training.go.set()

        assert all(each.result() is ADAPTER for each in asked)
    assert training.n == 1


def test_other_keys_do_not_wait() -> None:
    flight, training = SingleFlight(), Training()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(flown, flight, training)
        training.begun.wait(10)
        other = adapter_of("other")

        assert flight.run(other.key, find=nothing, make=lambda renew: other) is other
        training.go.set()
        assert asked.result() is ADAPTER


def test_a_training_that_fails_fails_for_all_who_waited_and_the_next_may_try() -> None:
    flight, training = SingleFlight(), Training(TrainingFailed("loss became nan at step 1"))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(flown, flight, training) for _ in range(4)]
        training.begun.wait(10)
        time.sleep(0.05)
        training.go.set()

        for each in asked:
            with pytest.raises(TrainingFailed, match="nan"):
                each.result()
    assert training.n == 1
    assert flown(flight, lambda renew: ADAPTER) is ADAPTER


def test_one_who_ran_out_of_time_hands_over_to_the_next() -> None:
    flight, late = SingleFlight(), Training(TrainingFailed("deadline reached after 3 of 20 steps", gave_up=True))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flown, flight, late)
        late.begun.wait(10)
        second = pool.submit(flown, flight, lambda renew: ADAPTER)
        time.sleep(0.05)
        late.go.set()

        with pytest.raises(TrainingFailed):
            first.result()
        assert second.result() is ADAPTER


def test_waiting_ends_with_the_deadline() -> None:
    flight, training = SingleFlight(), Training()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(flown, flight, training)
        training.begun.wait(10)
        started = time.monotonic()
        with pytest.raises(TrainingFailed, match="deadline reached while another"):
            flown(flight, training, deadline=time.monotonic() + 0.1)
        took = time.monotonic() - started
        training.go.set()

    assert 0.1 <= took < 1.0
    assert training.n == 1


def test_without_a_deadline_whoever_trains_in_this_process_is_waited_for() -> None:
    flight, training = SingleFlight(longest_wait_s=0.1), Training()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(flown, flight, training) for _ in range(2)]
        training.begun.wait(10)
        time.sleep(0.3)
        training.go.set()

        assert all(each.result(10) is ADAPTER for each in asked)
    assert training.n == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_after_a_fork_nobody_waits_for_a_thread_that_has_stayed_behind() -> None:
    flight, training = SingleFlight(), Training()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(flown, flight, training)
        training.begun.wait(10)
        pid = os.fork()
        if pid == 0:
            try:
                flown(flight, lambda renew: ADAPTER, deadline=time.monotonic() + 1.0)
                os._exit(0)
            finally:
                os._exit(1)
        training.go.set()

    assert os.waitpid(pid, 0)[1] == 0


# Between processes


@pytest.fixture
def leases(tmp_path: Path) -> FileLeases:
    return FileLeases(tmp_path / "leases")


def test_a_lease_is_one_holder_s_until_it_is_released(leases: FileLeases) -> None:
    token = leases.take(KEY, 10.0)

    assert token is not None
    assert leases.take(KEY, 10.0) is None
    assert leases.take(spec_of("other").key, 10.0) is not None
    assert leases.renew(KEY, token, 10.0)
    assert not leases.renew(KEY, "another", 10.0)
    leases.release(KEY, token)
    assert leases.take(KEY, 10.0) is not None


def test_a_lease_that_was_not_renewed_is_taken_over_and_cannot_be_renewed(leases: FileLeases) -> None:
    first = leases.take(KEY, 0.05)
    time.sleep(0.7)
    second = leases.take(KEY, 10.0)

    assert first is not None
    assert second is not None
    assert not leases.renew(KEY, first, 10.0)
    leases.release(KEY, first)
    assert leases.take(KEY, 10.0) is None  # the second's is still held


def test_a_lease_of_a_process_that_died_is_free_at_once(leases: FileLeases) -> None:
    pid = os.fork()
    if pid == 0:
        leases.take(KEY, 1000.0)
        os._exit(0)
    os.waitpid(pid, 0)

    assert leases.take(KEY, 10.0) is not None


def test_of_many_one_takes_it(leases: FileLeases) -> None:
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            tokens = [token for token in pool.map(lambda _: leases.take(KEY, 10.0), range(8)) if token]
        assert len(tokens) == 1
        leases.release(KEY, tokens[0])


def test_one_who_waits_for_a_lease_finds_what_the_holder_has_kept(leases: FileLeases) -> None:
    store = MemoryAdapterStore()
    token = leases.take(KEY, 10.0)
    assert token is not None
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            SingleFlight([leases], poll_s=0.01).run, KEY, find=lambda: store.get(KEY), make=Training(), deadline=None
        )
        time.sleep(0.05)
        store.put(ADAPTER)

        assert asked.result(5) == ADAPTER


def test_one_who_gets_the_lease_looks_once_more_before_training(leases: FileLeases) -> None:
    found = iter([ADAPTER])

    assert SingleFlight([leases]).run(KEY, find=lambda: next(found), make=Training()) is ADAPTER
    assert leases.take(KEY, 1.0) is not None


def test_without_a_deadline_waiting_for_a_lease_ends_too_and_one_trains_by_itself(leases: FileLeases) -> None:
    leases.take(KEY, 10.0)

    assert flown(SingleFlight([leases], longest_wait_s=0.1, poll_s=0.01), lambda renew: ADAPTER) is ADAPTER


def test_waiting_for_a_lease_ends_with_the_deadline(leases: FileLeases) -> None:
    leases.take(KEY, 10.0)

    with pytest.raises(TrainingFailed, match="deadline reached while another"):
        flown(SingleFlight([leases], poll_s=0.01), Training(), deadline=time.monotonic() + 0.1)


def test_a_training_under_way_keeps_its_lease(leases: FileLeases) -> None:
    flight = SingleFlight([leases], lease_s=0.3)

    def make(renew: Renew) -> Adapter:
        for _ in range(15):
            time.sleep(0.1)
            renew()
            assert leases.take(KEY, 1.0) is None
        return ADAPTER

    assert flown(flight, make) is ADAPTER


def test_where_files_cannot_be_locked_it_is_said_and_none_is_left_open(
    leases: FileLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    n_open = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="No locks"):
            leases.take(KEY, 10.0)

    assert len(os.listdir("/proc/self/fd")) == n_open


def test_a_lease_that_cannot_be_renewed_ends_no_training(leases: FileLeases, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def make(renew: Renew) -> Adapter:
        monkeypatch.setattr(os, "utime", read_only)
        time.sleep(0.02)
        renew()
        return ADAPTER

    assert flown(SingleFlight([leases], lease_s=0.03), make) is ADAPTER


class NobodyKnows(FileLeases):
    def take(self, key: str, lease_s: float) -> str | None:
        raise StoreUnavailable("away")


def test_where_nobody_can_say_who_trains_one_trains(tmp_path: Path) -> None:
    assert flown(SingleFlight([NobodyKnows(tmp_path)]), lambda renew: ADAPTER) is ADAPTER


def test_one_that_is_cancelled_does_not_wait_for_the_other_to_end() -> None:
    flight, training = SingleFlight(), Training()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flown, flight, training)
        training.begun.wait(10)

        with pytest.raises(Cancelled):
            flight.run(KEY, find=nothing, make=training, cancelled=lambda: True)
        training.go.set()
        assert first.result(10) is ADAPTER


def test_whoever_waits_for_one_that_is_cancelled_trains_itself() -> None:
    flight, training = SingleFlight(), Training()
    given_up = Training(TrainingFailed("cancelled after 3 of 40 steps", gave_up=True))
    training.go.set()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flown, flight, given_up)
        given_up.begun.wait(10)
        second = pool.submit(flown, flight, training)
        time.sleep(0.05)
        given_up.go.set()

        with pytest.raises(TrainingFailed, match="cancelled"):
            first.result(10)
        assert second.result(10) is ADAPTER
    assert training.n == 1
