"""The search finds the frontier of accuracy and cost, and chooses on it by the price."""

from __future__ import annotations

import sys

import pytest

from router.settings import SettingsError
from router.tuning import Scored, Setting, frontier_of, tune

SETTING = Setting(1.0, 0.05, 0.05)


def replay(setting: Setting) -> tuple[float, float]:
    """The higher the price it decides at, the cheaper, at less and less gain; exploration costs a little."""
    cost = 1 / (1 + 10 * setting.price)
    return 0.6 + 0.3 * cost**0.5 - setting.explore, cost + setting.explore


def test_nothing_on_the_frontier_is_beaten() -> None:
    tried = [Scored(SETTING, accuracy, cost) for accuracy, cost in ((0.5, 0.1), (0.7, 0.5), (0.6, 0.5), (0.65, 0.9))]

    assert [(each.accuracy, each.cost) for each in frontier_of(tried)] == [(0.5, 0.1), (0.7, 0.5)]


def test_what_is_chosen_depends_on_the_price_and_lies_on_the_frontier() -> None:
    pytest.importorskip("optuna")
    cheap, dear = tune(replay, price=0.01, n_trials=15), tune(replay, price=1.0, n_trials=15)

    assert cheap.chosen in cheap.frontier
    assert dear.chosen in dear.frontier
    assert cheap.chosen.cost > dear.chosen.cost
    assert cheap.frontier == dear.frontier  # the same seed tries the same settings


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(SettingsError, match=r"ttt-router\[tune\]"):
        tune(replay, price=0.1)
