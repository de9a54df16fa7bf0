"""What waits in a lane is served together, whoever has come furthest comes first, and who gives up holds up nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ttt_engine.errors import Cancelled
from ttt_engine.lane import Lane, LaneSeat


class Held:
    """Serves squares as soon as it is let, and notes what was asked for together."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.served: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.served.append(list(numbers))
        self.begun.set()
        assert self.go.wait(10)
        return [number * number if number >= 0 else ValueError(f"{number} is below zero") for number in numbers]


def asked(lane: Lane, serve: Held, number: int) -> int:
    with lane.seat() as seat:
        return seat.ask(serve, number)


def wait_for(what: str, lane: Lane, n: int) -> None:
    end = time.monotonic() + 10
    while lane.n_waiting != n:
        assert time.monotonic() < end, f"{what}: {lane.n_waiting} wait, not {n}"
        time.sleep(0.001)


def test_a_lane_whose_thread_could_not_begin_serves_the_next_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, squares = Lane(), Held()
    squares.go.set()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            asked(lane, squares, 2)

    assert asked(lane, squares, 3) == 9
    assert squares.served == [[3]]


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_waits_while_another_is_served_is_served_at_once() -> None:
    lane, squares = Lane(), Held()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(asked, lane, squares, 1)
        assert squares.begun.wait(10)
        others = [pool.submit(asked, lane, squares, number) for number in (2, 3, 4, 5)]
        wait_for("the others", lane, 4)
        squares.go.set()

        assert [first.result(10), *(each.result(10) for each in others)] == [1, 4, 9, 16, 25]
    assert [sorted(batch) for batch in squares.served] == [[1], [2, 3, 4, 5]]


def test_no_more_are_served_at_once_than_may() -> None:
    lane, squares = Lane(at_once=2), Held()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(asked, lane, squares, 1)
        assert squares.begun.wait(10)
        others = [pool.submit(asked, lane, squares, number) for number in (2, 3, 4)]
        wait_for("the others", lane, 3)
        squares.go.set()
        for each in (first, *others):
            each.result(10)

    assert [len(batch) for batch in squares.served] == [1, 2, 1]


def test_whoever_was_served_before_is_waited_for_and_comes_first() -> None:
    lane, trainings, answers = Lane(), Held(), Held()
    answers.go.set()

    def solved(seat: LaneSeat) -> int:
        with seat:
            trained = seat.ask(trainings, 2)
            time.sleep(0.05)  # on the way to the next question; meanwhile another waits to train
            order.append("first asks for its answer")
            return seat.ask(answers, trained)

    def later(number: int) -> None:
        asked(lane, trainings, number)
        order.append("the other is trained")

    order: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(solved, lane.seat())
        assert trainings.begun.wait(10)
        other = pool.submit(later, 3)
        wait_for("the other", lane, 1)
        trainings.go.set()

        assert first.result(10) == 16
        other.result(10)
    assert order == ["first asks for its answer", "the other is trained"]


def test_one_that_gives_up_goes_at_once_and_is_told_its_share_then_and_the_rest_at_the_end() -> None:
    lane, squares, told = Lane(), Held(), list[float]()
    unwanted = threading.Event()

    def check() -> None:
        if unwanted.is_set():
            raise Cancelled

    with ThreadPoolExecutor(2) as pool:
        with lane.seat(check, told.append) as seat:
            gone = pool.submit(seat.ask, squares, 1)
            assert squares.begun.wait(10)
            time.sleep(0.05)
            unwanted.set()
            with pytest.raises(Cancelled):
                gone.result(10)  # it does not wait for the serving to end
            by_then = seat.seconds
            time.sleep(0.1)
        squares.go.set()

        assert asked(lane, squares, 3) == 9
    assert 0 < told[0] == seat.seconds == by_then
    assert len(told) == 2
    assert told[1] >= 0.1  # the rest, which no solve counts any more


@pytest.mark.alone
def test_what_is_served_after_one_has_given_up_is_borne_by_the_others_alone() -> None:
    lane, first, squares = Lane(), Held("first"), Held()
    gone_s, stays_s = list[float](), list[float]()
    unwanted = threading.Event()

    def check() -> None:
        if unwanted.is_set():
            raise Cancelled

    with (
        ThreadPoolExecutor(3) as pool,
        lane.seat(check, gone_s.append) as gone,
        lane.seat(spent=stays_s.append) as stays,
    ):
        before = pool.submit(asked, lane, first, 1)
        assert first.begun.wait(10)
        both = [pool.submit(seat.ask, squares, 2) for seat in (gone, stays)]
        wait_for("both", lane, 2)
        first.go.set()
        assert squares.begun.wait(10)
        began = time.perf_counter()
        time.sleep(0.15)
        unwanted.set()
        with pytest.raises(Cancelled):
            both[0].result(10)
        time.sleep(0.3)
        squares.go.set()
        assert both[1].result(10) == 4
        took_s = time.perf_counter() - began
        before.result(10)

    assert squares.served == [[2, 2]]
    assert sum(gone_s) < sum(stays_s) - 0.29
    assert sum(gone_s) + sum(stays_s) == pytest.approx(took_s, abs=0.15)


def test_one_that_gives_up_in_the_queue_is_never_served() -> None:
    lane, squares, unwanted = Lane(), Held(), threading.Event()

    def check() -> None:
        if unwanted.is_set():
            raise Cancelled

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asked, lane, squares, 1)
        assert squares.begun.wait(10)
        waiting = pool.submit(lane.seat(check).ask, squares, 2)
        wait_for("the second", lane, 1)
        unwanted.set()
        with pytest.raises(Cancelled):
            waiting.result(10)
        squares.go.set()
        first.result(10)

    assert squares.served == [[1]]


@pytest.mark.alone
def test_of_several_who_are_served_together_one_that_gives_up_takes_its_share_of_the_time_so_far() -> None:
    lane, first, squares, unwanted = Lane(), Held(), Held(), threading.Event()

    def check() -> None:
        if unwanted.is_set():
            raise Cancelled

    with ThreadPoolExecutor(3) as pool:
        leading = pool.submit(asked, lane, first, 1)
        assert first.begun.wait(10)
        leaving = lane.seat(check)
        gone, other = pool.submit(leaving.ask, squares, 2), pool.submit(asked, lane, squares, 3)
        wait_for("the two", lane, 2)
        began = time.perf_counter()
        first.go.set()
        assert squares.begun.wait(10)
        time.sleep(0.2)
        unwanted.set()
        with pytest.raises(Cancelled):
            gone.result(10)
        took_s = time.perf_counter() - began
        squares.go.set()
        assert (leading.result(10), other.result(10)) == (1, 9)

    assert 0.1 <= leaving.seconds <= took_s / 2
    assert leaving.shared


def test_an_error_goes_to_the_one_it_is_about_and_a_broken_server_to_all() -> None:
    lane, squares = Lane(), Held()
    squares.go.set()

    def broken(numbers: Sequence[int]) -> list[int | Exception]:
        raise RuntimeError("broken")

    with pytest.raises(ValueError, match="-1 is below zero"):
        asked(lane, squares, -1)
    with lane.seat() as seat, pytest.raises(RuntimeError, match="broken"):
        seat.ask(broken, 1)
    assert asked(lane, squares, 2) == 4


def test_a_seat_knows_its_time_and_whether_it_was_shared() -> None:
    lane, squares = Lane(), Held()
    squares.go.set()
    with lane.seat() as seat:
        seat.ask(squares, 1)

        assert seat.seconds > 0
        assert not seat.shared
