"""A change is noticed soon, and where nothing changes nothing is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from policies.drift import AdaptiveWindow, shifted_features, stability_index


def test_a_stream_that_stays_the_same_is_not_cut_in_a_hundred_lives() -> None:
    rng = np.random.default_rng(0)
    cuts = sum(any(map(AdaptiveWindow(delta=0.01).add, rng.random(1000) < 0.3)) for _ in range(100))

    assert cuts <= 4  # three standard errors above delta


@pytest.mark.parametrize(("before", "after", "within"), [(0.2, 0.5, 300), (0.5, 0.2, 300), (0.3, 0.9, 100)])
def test_a_shift_is_noticed_within_some_hundred_values(before: float, after: float, within: int) -> None:
    rng, window = np.random.default_rng(1), AdaptiveWindow()
    early = [window.add(float(value)) for value in rng.random(1000) < before]
    late = [window.add(float(value)) for value in rng.random(within) < after]

    assert (any(early), any(late)) == (False, True)


def test_after_a_cut_the_mean_is_that_of_the_present() -> None:
    rng, window = np.random.default_rng(2), AdaptiveWindow()
    for p in (0.1, 0.8):
        for value in rng.random(2000) < p:
            window.add(float(value))

    assert window.mean == pytest.approx(0.8, abs=0.05)
    assert len(window) < 2300


def test_memory_grows_with_the_logarithm_of_the_window() -> None:
    window = AdaptiveWindow()
    for i in range(20_000):
        window.add(float(i % 2))

    assert len(window) == 20_000
    assert len(window._buckets) < 80


def test_the_same_tasks_have_the_same_index_and_others_another() -> None:
    rng = np.random.default_rng(3)
    before = rng.normal(size=1000)

    assert stability_index(before, before) == 0.0
    assert stability_index(before, rng.normal(size=1000)) < 0.1
    assert stability_index(before, rng.normal(1.0, size=1000)) > 0.25


def test_a_feature_that_is_no_longer_known_has_shifted() -> None:
    known = np.random.default_rng(4).normal(size=(500, 2))
    missing = known.copy()
    missing[:, 1] = np.nan

    assert list(shifted_features(("loo_nll_mean", "answer_nll"), known, missing)) == ["answer_nll"]
