"""The breaker opens after a few failures, costs nothing while open, and finds out aside whether it may close."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest

from ttt_engine.errors import StoreUnavailable
from ttt_engine.stores.breaker import Breaker

AWAY = StoreUnavailable("away", code="timeout")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Other:
    """The other side: back or not, and how often asked."""

    def __init__(self) -> None:
        self.is_back = False
        self.n_asked = 0
        self.answered = threading.Event()

    def __call__(self) -> None:
        self.n_asked += 1
        try:
            if not self.is_back:
                raise AWAY
        finally:
            self.answered.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def other() -> Other:
    return Other()


@pytest.fixture
def breaker(other: Other, clock: Clock) -> Breaker:
    return Breaker(other, failures=3, budget_s=0.45, pause_s=2.0, clock=clock)


def open_(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.check()
        breaker.failed(AWAY, 0.0)


def asked(breaker: Breaker, other: Other) -> None:
    """Come by, and see the question through."""
    other.answered.clear()
    with pytest.raises(StoreUnavailable):
        breaker.check()
    assert other.answered.wait(5)
    deadline = time.monotonic() + 5
    while breaker._asking and time.monotonic() < deadline:
        time.sleep(0.001)


def test_it_opens_after_three_failures_in_a_row_and_not_before(breaker: Breaker) -> None:
    breaker.failed(AWAY, 0.0)
    breaker.failed(AWAY, 0.0)
    breaker.succeeded()
    breaker.failed(AWAY, 0.0)
    breaker.failed(AWAY, 0.0)
    assert not breaker.is_open
    breaker.failed(AWAY, 0.0)
    assert breaker.is_open


def test_it_opens_sooner_where_failures_are_slow(breaker: Breaker) -> None:
    breaker.failed(AWAY, 0.25)
    assert not breaker.is_open
    breaker.failed(AWAY, 0.25)
    assert breaker.is_open


def test_open_it_says_why_and_asks_nothing_until_the_pause_is_over(
    breaker: Breaker, other: Other, clock: Clock
) -> None:
    open_(breaker)
    clock.now += 1.9
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="away") as refused:
            breaker.check()
        assert refused.value.code == "timeout"
    assert other.n_asked == 0


def test_after_the_pause_one_question_is_asked_aside_and_the_answer_decides(
    breaker: Breaker, other: Other, clock: Clock
) -> None:
    open_(breaker)
    clock.now += 2.0
    asked(breaker, other)
    assert (other.n_asked, breaker.is_open) == (1, True)
    other.is_back = True
    clock.now += 2.0
    asked(breaker, other)
    assert (other.n_asked, breaker.is_open) == (2, False)
    breaker.check()


def test_a_question_that_takes_long_keeps_nobody_waiting(clock: Clock) -> None:
    answered = threading.Event()

    def ask() -> None:
        answered.wait(10)

    breaker = Breaker(ask, pause_s=2.0, clock=clock)
    open_(breaker)
    clock.now += 2.0
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(StoreUnavailable):
            breaker.check()
    took = time.monotonic() - started
    answered.set()

    assert took < 1.0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_after_a_fork_the_question_is_asked_anew() -> None:
    begun, go = threading.Event(), threading.Event()

    def ask() -> None:
        begun.set()
        assert go.wait(10)

    breaker = Breaker(ask, pause_s=0.0)
    open_(breaker)
    with pytest.raises(StoreUnavailable):
        breaker.check()
    assert begun.wait(10)
    pid = os.fork()
    if pid == 0:
        breaker._probe = lambda: None  # no lock that the thread left behind may hold
        until = time.monotonic() + 5
        while breaker.is_open and time.monotonic() < until:
            with contextlib.suppress(StoreUnavailable):
                breaker.check()
            time.sleep(0.01)
        os._exit(breaker.is_open)
    go.set()

    assert os.waitpid(pid, 0)[1] == 0


def test_where_no_thread_can_be_started_the_next_to_come_asks(
    breaker: Breaker, other: Other, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    open_(breaker)
    clock.now += 2.0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(StoreUnavailable, match="away"):
            breaker.check()
    asked(breaker, other)

    assert other.n_asked == 1
