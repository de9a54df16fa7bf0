"""What members of a cohort ask for is served together, and nobody waits for one who will not come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ttt_engine.cohort import Cohort, Seat


def run(cohort: Cohort, *members: Callable[[Seat], Any]) -> list[Any]:
    """Let every member do its part in a thread of its own; it leaves at the end."""

    def in_seat(member: Callable[[Seat], Any], seat: Seat) -> Any:
        try:
            return member(seat)
        finally:
            seat.leave()

    with ThreadPoolExecutor(len(members)) as pool:
        jobs = [pool.submit(in_seat, member, seat) for member, seat in zip(members, cohort.seats, strict=True)]
        return [job.result(timeout=20) for job in jobs]


class Squares:
    """Serves squares, and notes what was asked for together."""

    def __init__(self) -> None:
        self.served: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.served.append(list(numbers))
        return [number * number if number >= 0 else ValueError(f"{number} is below zero") for number in numbers]


def test_requests_of_all_members_are_served_at_once_in_their_order() -> None:
    squares = Squares()
    for _ in range(20):
        found = run(Cohort(4), *(lambda seat, i=i: seat.ask(squares, i) for i in range(4)))

        assert found == [0, 1, 4, 9]

    assert squares.served == [[0, 1, 2, 3]] * 20


def test_kinds_of_requests_are_served_apart_and_rounds_follow_each_other() -> None:
    squares, others = Squares(), Squares()

    def twice(seat: Seat) -> list[int]:
        return [seat.ask(squares, 2), seat.ask(others, 3)]

    def other(seat: Seat) -> int:
        return seat.ask(others, 5)

    found = run(Cohort(3), twice, other, twice)

    assert found == [[4, 9], 25, [4, 9]]
    assert squares.served == [[2, 2]]
    assert others.served == [[5], [3, 3]]


def test_one_who_leaves_without_asking_holds_nobody_up() -> None:
    squares = Squares()
    found = run(Cohort(3), lambda seat: seat.ask(squares, 7), lambda seat: "done", lambda seat: seat.ask(squares, 8))

    assert found == [49, "done", 64]
    assert squares.served == [[7, 8]]


def test_one_who_stands_back_may_ask_later() -> None:
    squares = Squares()

    def late(seat: Seat) -> int:
        seat.leave()
        return seat.ask(squares, 3)

    found = run(Cohort(2), lambda seat: seat.ask(squares, 2), late)

    assert found == [4, 9]
    assert sorted(number for served in squares.served for number in served) == [2, 3]


def test_a_serving_that_is_interrupted_or_gives_too_little_leaves_nobody_waiting() -> None:
    def interrupted(numbers: Sequence[int]) -> list[int | Exception]:
        raise KeyboardInterrupt

    def short(numbers: Sequence[int]) -> list[int | Exception]:
        return [1]

    def asks(serve: Any) -> Callable[[Seat], str]:
        def member(seat: Seat) -> str:
            try:
                seat.ask(serve, 1)
            except BaseException as error:
                return type(error).__name__
            return "answered"

        return member

    assert sorted(run(Cohort(2), asks(interrupted), asks(interrupted))) == ["KeyboardInterrupt", "RuntimeError"]
    assert run(Cohort(2), asks(short), asks(short)) == ["ValueError", "ValueError"]


@pytest.mark.alone
def test_a_seat_knows_its_share_of_the_time() -> None:
    def slow(numbers: Sequence[int]) -> list[int | Exception]:
        time.sleep(0.5)
        return list(numbers)

    cohort = Cohort(2)
    run(cohort, lambda seat: seat.ask(slow, 1), lambda seat: seat.ask(slow, 2))

    assert all(0.25 <= seat.seconds < 0.5 for seat in cohort.seats)


def test_an_error_reaches_the_one_who_asked_and_a_failed_serving_all() -> None:
    squares = Squares()

    def asks(number: int, serve: Any) -> Callable[[Seat], str]:
        def member(seat: Seat) -> str:
            with pytest.raises((ValueError, ZeroDivisionError)) as raised:
                seat.ask(serve, number)
            return str(raised.value)

        return member

    def broken(numbers: Sequence[int]) -> list[int | Exception]:
        raise ZeroDivisionError("broken")

    assert run(Cohort(2), lambda seat: seat.ask(squares, 3), asks(-1, squares)) == [9, "-1 is below zero"]
    assert run(Cohort(2), asks(1, broken), asks(2, broken)) == ["broken", "broken"]
