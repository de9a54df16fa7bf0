"""Settings of a learned policy, searched by Optuna on a stored outcome matrix: the frontier, and the one to choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.settings import SettingsError


@dataclass(frozen=True, slots=True)
class Setting:
    """What is searched."""

    price: float  # at which the policy decides; TTT_ROUTER_PRICE
    temperature: float  # of the draw, in utility; TTT_ROUTER_TEMPERATURE
    explore: float  # probability kept for the other arms; TTT_ROUTER_EPSILON


@dataclass(frozen=True, slots=True)
class Scored:
    """A setting, and what it came to on tasks it was not fitted on."""

    setting: Setting
    accuracy: float
    cost: float  # in mean costs of `ttt`

    def utility(self, price: float) -> float:
        """Accuracy minus priced cost."""
        return self.accuracy - price * self.cost


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the search found."""

    frontier: tuple[Scored, ...]  # none is beaten in accuracy and in cost; the cheapest first
    chosen: Scored  # the highest utility at the price
    n_trials: int


def tune(replay: Callable[[Setting], tuple[float, float]], *, price: float, n_trials: int = 50, seed: int = 0) -> Tuned:
    """Search for settings of high accuracy and low cost.

    Args:
        replay: fits with a setting and returns accuracy and cost on tasks that were held out.
        price: of one mean cost of `ttt`, in accuracy.

    Raises:
        SettingsError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        remedy = "Install it with: pip install 'ttt-router[tune]'."
        raise SettingsError("Optuna is not installed", variable="tune", remedy=remedy) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried: list[Scored] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        setting = Setting(
            price=trial.suggest_float("price", 0.005, 1.0, log=True),
            temperature=trial.suggest_float("temperature", 0.005, 0.2, log=True),
            explore=trial.suggest_float("explore", 0.01, 0.1, log=True),
        )
        accuracy, cost = replay(setting)
        tried.append(Scored(setting, accuracy, cost))
        return accuracy, cost

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=n_trials)
    chosen = max(tried, key=lambda scored: scored.utility(price))
    return Tuned(frontier_of(tried), chosen, n_trials)


def frontier_of(tried: Sequence[Scored]) -> tuple[Scored, ...]:
    """Return those that no other beats in accuracy at the same cost or less, the cheapest first."""
    kept: list[Scored] = []
    for scored in sorted(tried, key=lambda each: (each.cost, -each.accuracy)):
        if not kept or scored.accuracy > kept[-1].accuracy:
            kept.append(scored)
    return tuple(kept)
