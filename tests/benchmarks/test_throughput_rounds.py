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
    bootstrap_interval,
    cpu_seconds,
    interleaved,
    quiet_rounds,
    ratio_said,
)

CPU = torch.device("cpu")
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
    assert ratio_said({0: 2.0, 1: 20.0, 2: 7.0}, {0: 1.0, 1: 10.0}) == "2.00 (2.00-2.00)"
    assert ratio_said({0: 2.0}, {1: 1.0}) == ""


def test_every_round_calls_all_and_begins_with_the_next() -> None:
    calls = {name: (lambda name=name: name) for name in "abc"}

    order = [each.given for each in interleaved(calls, rounds=4, device=CPU, allow_noise=True)]

    assert "".join(order) == "abcbcacababc"


def test_a_round_counts_only_if_nothing_disturbed_it() -> None:
    noises = {0: [QUIET, QUIET], 1: [QUIET, LOUD], 2: [QUIET]}

    assert quiet_rounds(noises) == [0, 2]
    assert quiet_rounds(noises, allow_noise=True) == [0, 1, 2]


def test_rounds_go_on_until_enough_were_quiet_or_twice_as_many_went_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds_of(noise: Noise) -> int:
        monkeypatch.setattr("benchmarks.throughput.rounds.timed", lambda call, device: (1.0, noise, call()))
        return len(list(interleaved({"a": lambda: None}, rounds=3, device=CPU)))

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
