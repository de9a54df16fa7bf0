from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmarks.throughput.rounds import (
    Noise,
    Schedule,
    bootstrap_interval,
    cpu_seconds,
    interleaved,
    quiet_rounds,
    ratio_said,
)

CPU = torch.device("cpu")
PLACE = ("compare", "m", "")
QUIET, LOUD = Noise(0.1, 0.0, 1.0), Noise(0.4, 0.0, 1.0)
BUSY = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def test_an_interval_holds_the_median_and_is_the_same_each_time() -> None:
    values = [1.0, 1.2, 1.1, 3.0, 1.3]

    low, high = bootstrap_interval(values)

    assert min(values) <= low <= statistics.median(values) <= high <= max(values)
    assert bootstrap_interval(values) == (low, high)


def test_an_interval_of_equal_values_is_a_point() -> None:
    assert bootstrap_interval([2.0] * 5) == (2.0, 2.0)


def test_an_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    """Of 200 samples of 25 at least 175 do: a percentile interval of so few values falls a little short of 95 %."""
    rng = np.random.default_rng(0)
    found = [bootstrap_interval(rng.normal(5.0, 1.0, 25).tolist(), seed=i, resamples=500) for i in range(200)]

    assert sum(low <= 5.0 <= high for low, high in found) >= 175


def test_a_ratio_is_of_one_round_and_only_of_rounds_both_have() -> None:
    assert ratio_said({0: 2.0, 1: 20.0, 2: 7.0}, {0: 1.0, 1: 10.0}) == "2.00 (2.00 to 2.00 of 2 rounds)"
    assert ratio_said({0: 2.0}, {1: 1.0}) == ""


def test_few_rounds_have_no_interval_but_a_lowest_and_a_highest() -> None:
    def said(n: int) -> str:
        return ratio_said({i: 2.0 + i for i in range(n)}, dict.fromkeys(range(n), 1.0))

    assert said(1) == "2.00"
    assert said(5) == "4.00 (2.00 to 6.00 of 5 rounds)"
    assert said(6).startswith("4.50 (")
    assert "rounds" not in said(6)


def test_every_round_calls_all_and_begins_with_the_next() -> None:
    calls = {name: (lambda name=name: name) for name in "abc"}

    order = [each.given for each in interleaved(calls, Schedule(4, allow_noise=True), PLACE, device=CPU)]

    assert "".join(order) == "abcbcacababc"


def test_rounds_that_are_there_are_not_called_again_and_one_that_was_broken_off_is() -> None:
    calls = {name: (lambda name=name: name) for name in "abc"}
    whole, broken_off = dict.fromkeys("abc", QUIET), dict.fromkeys("bc", QUIET)
    schedule = Schedule(3, done={PLACE: {0: whole, 1: broken_off}, ("compare", "m", "elsewhere"): {2: whole}})

    order = [(each.round, each.given) for each in interleaved(calls, schedule, PLACE, device=CPU)]

    assert order[:3] == [(1, "b"), (1, "c"), (1, "a")]
    assert {i for i, _ in order} == {1, 2} or len(order) > 6  # more where this machine was disturbed


def test_rounds_that_were_disturbed_before_still_want_others_in_their_place() -> None:
    done = {PLACE: {0: {"a": LOUD}, 1: {"a": QUIET}}}

    assert Schedule(2, done=done).finished(PLACE, "a") == [False, True]
    assert Schedule(2, done=done).is_left(PLACE, "a")
    assert not Schedule(1, done=done).is_left(PLACE, "a")
    assert not Schedule(2, allow_noise=True, done=done).is_left(PLACE, "a")


def test_no_round_begins_after_the_time_given() -> None:
    late = Schedule(3, until=time.monotonic() - 1.0)

    assert list(interleaved({"a": lambda: None}, late, PLACE, device=CPU)) == []


def test_a_round_counts_only_if_nothing_disturbed_it() -> None:
    noises = {0: [QUIET, QUIET], 1: [QUIET, LOUD], 2: [QUIET]}

    assert quiet_rounds(noises) == [0, 2]
    assert quiet_rounds(noises, allow_noise=True) == [0, 1, 2]


def test_rounds_go_on_until_enough_were_quiet_or_twice_as_many_went_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds_of(noise: Noise) -> int:
        monkeypatch.setattr("benchmarks.throughput.rounds.timed", lambda call, device: (1.0, noise, call()))
        return len(list(interleaved({"a": lambda: None}, Schedule(3), PLACE, device=CPU)))

    assert rounds_of(QUIET) == 3
    assert rounds_of(LOUD) == 6


def test_what_this_process_and_its_children_use_is_not_noise() -> None:
    before = cpu_seconds()
    child = subprocess.Popen([sys.executable, "-c", BUSY.format(30)])
    time.sleep(0.2)
    seen = cpu_seconds()
    child.kill()
    child.wait()

    assert before
    assert child.pid not in seen
