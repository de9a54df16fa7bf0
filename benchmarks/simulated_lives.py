"""Live many simulated lives of a learning router, and count the promotions that the truth says were harmful.

Each life draws a stream of tasks from an outcome matrix, lets its champion decide with exploration, fits a candidate on
what was logged, and polls the gate after every block; the truth of every promotion is in the matrix. Lives differ in
their kind: `stale` begins with a poor champion, so that there is much to gain; `settled` with a good one, so that most
candidates are worth about the same; in `sabotage` outcomes are dealt out to other tasks before a candidate is fitted;
in `poisoned` and `poisoned_stale` 30 % of the feedback is flipped, by some sources or, with --diffuse, by every source.

    python benchmarks/simulated_lives.py --lives 200
    python benchmarks/simulated_lives.py --lives 200 --matrix outcomes.parquet
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from policies.feedback_sources import contradicting, within_share
from policies.gate import GateRules, Outcome, Sides, judge
from policies.off_policy import LoggedRows, fitted_on, known_probability
from policies.outcome_matrix import OutcomeMatrix

Floats = npt.NDArray[np.float64]
Act = Callable[[Floats], Floats]  # features (n, n_features) -> probabilities (n, 2) of icl and ttt
Predict = Callable[[Floats], Floats]

ARMS = ("icl", "ttt")
KINDS = ("stale", "settled", "sabotage", "poisoned", "poisoned_stale")
IMPROVABLE = ("stale", "poisoned_stale")
N_SOURCES = 20
CLEAN = 0.03  # utility a task from which on a candidate is an improvement that should be found


@dataclass(frozen=True, slots=True)
class LifeSettings:
    """How a life is lived."""

    n_tasks: int = 6000
    block: int = 200  # tasks between two polls of the gate
    first_fit: int = 400  # tasks before the first candidate
    patience: int = 3500  # tasks after which an undecided candidate is given up
    p_min: float = 0.05  # least probability of an arm, of candidates
    first_p_min: float = 0.1  # of the first champion, which nothing is known of yet
    temperature: float = 0.05  # of the margin, in utility
    audit_rate: float = 0.05
    gold_share: float = 0.8  # of feedback that names the right answer; the rest judges the answer given
    flipped: float = 0.3  # of the feedback, in poisoned lives
    diffuse: bool = False  # flipped by every source, not by a few
    source_share: float = 0.1
    stale_feature: str = "noise"  # that the first champion goes by where it is a bad one
    rules: GateRules = field(default_factory=GateRules)


@dataclass(frozen=True, slots=True)
class Life:
    """What came of one life."""

    kind: str
    attempts: int
    gains: tuple[float, ...]  # true utility gained by each promotion, per task
    missed: float  # true utility of the best candidate that was tried over the first champion; 0: none was better

    @property
    def harmful(self) -> bool:
        return any(gain < 0 for gain in self.gains)

    @property
    def improved(self) -> bool:
        """Whether it ends worth as much more than it began as an improvement that should be found."""
        return sum(self.gains) >= CLEAN


@dataclass(frozen=True, slots=True)
class Played:
    """A policy of the simulation, with what it predicts where it predicts anything."""

    act: Act
    helps: Predict | None = None


def synthetic_matrix(n_tasks: int = 4000, n_families: int = 20, seed: int = 0) -> OutcomeMatrix:
    """Return tasks whose features say something of both: whether `icl` is right, and whether training would help."""
    rng = np.random.default_rng(seed)
    family = rng.integers(n_families, size=n_tasks)
    ease = rng.normal(size=n_families)[family] * 0.7 + rng.normal(size=n_tasks)
    learnable = rng.normal(size=n_families)[family] * 0.7 + rng.normal(size=n_tasks)
    p_icl = 1 / (1 + np.exp(-1.8 * ease))
    p_gain = 1 / (1 + np.exp(0.7 - 1.8 * learnable))
    icl = rng.random(n_tasks) < p_icl
    ttt = np.where(icl, rng.random(n_tasks) < 0.95, rng.random(n_tasks) < p_gain)
    held_out = rng.binomial(3, p_icl) / 3
    nll = 0.5 * np.exp(-0.6 * ease + 0.5 * rng.normal(size=n_tasks))
    slope = learnable + 0.7 * rng.normal(size=n_tasks)
    cost = np.exp(0.2 * rng.normal(size=n_tasks))
    nothing = np.zeros(n_tasks)
    return OutcomeMatrix(
        tasks=tuple(f"task_{i}" for i in range(n_tasks)),
        families=tuple(f"family_{f}" for f in family),
        sets=("synthetic",) * n_tasks,
        seeds=(0,) * n_tasks,
        arms=ARMS,
        quality=np.stack([icl, ttt], axis=1).astype(float),
        cost_s=np.stack([0.05 * cost, 1.05 * cost], axis=1),
        feature_names=("loo_exact_share", "loo_nll_mean", "loo_nll_slope", "noise"),
        features=np.stack([held_out, nll, slope, rng.normal(size=n_tasks)], axis=1),
        feature_cost_s=nothing + 0.05,
    )


class World:
    """The matrix as a life sees it, and the truth that it does not see."""

    def __init__(self, matrix: OutcomeMatrix, settings: LifeSettings) -> None:
        columns = [matrix.column(arm) for arm in ARMS]
        kept = matrix.take(np.flatnonzero(~np.isnan(matrix.quality[:, columns]).any(axis=1)))
        self.settings = settings
        self.families = np.array(kept.families)
        self.names = kept.feature_names
        self.features = kept.features
        self.quality = kept.quality[:, columns]
        self.cost = kept.cost_s[:, columns] / np.nanmean(kept.cost_s[:, columns[1]])
        rules = settings.rules
        self.utility = self.quality - rules.price * np.clip(self.cost, 0.0, rules.most_cost)

    def first_champion(self, *, stale: bool) -> Played:
        """Return the rule that trains where a held-out demonstration was missed, with a little exploration.

        Args:
            stale: a rule of another model instead, which goes by something that says little here.
        """
        floor = self.settings.first_p_min
        shown = self.names.index(self.settings.stale_feature if stale else "loo_exact_share")
        above = float(np.nanmedian(self.features[:, shown]))

        def act(features: Floats) -> Floats:
            wanted = features[:, shown] > above if stale else features[:, shown] < 1.0  # unknown: answered in context
            trains = np.where(wanted, 1 - floor, floor)
            return np.stack([1 - trains, trains], axis=1)

        return Played(act)

    def truth(self, candidate: Act, incumbent: Act) -> float:
        """Return what the candidate is worth more, per task."""
        difference = candidate(self.features) - incumbent(self.features)
        return float(np.mean(np.sum(difference * self.utility, axis=1)))


def live(world: World, kind: str, seed: int) -> Life:
    """Live one life."""
    settings, rng = world.settings, np.random.default_rng(seed)
    first = champion = world.first_champion(stale=kind in IMPROVABLE)
    challenger: Played | None = None
    log: _Log = _Log(world, kind, rng)
    attempts, fitted_at, gains, best = 0, 0, [], 0.0
    while len(log) < settings.n_tasks:
        log.extend(champion.act)
        if len(log) < settings.first_fit:
            continue
        if challenger is None:
            attempts, fitted_at = attempts + 1, len(log)
            log.look_at_sources()
            rows = log.trusted()
            challenger = fit(log.rows_before(fitted_at, rows), world, rng if kind == "sabotage" else None)
            best = max(best, world.truth(challenger.act, first.act))
            continue
        rows = log.trusted()
        earlier = _sides(log.rows_before(fitted_at, rows), challenger, champion)
        newest = _sides(log.rows_after(fitted_at, rows), challenger, champion)
        verdict = judge(earlier, newest, attempt=attempts, rules=settings.rules)
        if verdict.outcome is Outcome.PROMOTE:
            gains.append(world.truth(challenger.act, champion.act))
            champion, challenger = challenger, None
        elif verdict.outcome is Outcome.REFUSE or len(log) - fitted_at >= settings.patience:
            challenger = None
    return Life(kind, attempts, tuple(gains), best)


def fit(rows: LoggedRows, world: World, deal: np.random.Generator | None) -> Played:
    """Fit a model of either arm's quality, and a policy that draws by the margin between them.

    Args:
        deal: deals the outcomes out to other rows, so that nothing is learned.
    """
    settings, price = world.settings, world.settings.rules.price
    quality = rows.quality if deal is None else deal.permuted(rows.quality, axis=0)
    model = fitted_on(rows, quality)
    gap = price * float(np.mean(rows.cost[:, 1] - rows.cost[:, 0]))

    def gain(features: Floats) -> Floats:
        qualities = model(features)
        return qualities[:, 1] - qualities[:, 0]

    def act(features: Floats) -> Floats:
        wanted = 1 / (1 + np.exp(-np.clip((gain(features) - gap) / settings.temperature, -50, 50)))
        trains = np.clip(wanted, settings.p_min, 1 - settings.p_min)
        return np.stack([1 - trains, trains], axis=1)

    return Played(act, lambda features: np.clip(gain(features), 0.0, 1.0))


class _Log:
    """What has been decided and reported so far in one life."""

    def __init__(self, world: World, kind: str, rng: np.random.Generator) -> None:
        self._world, self._kind, self._rng = world, kind, rng
        self._refused: tuple[str, ...] = ()
        self._tasks = np.zeros(0, dtype=np.int64)
        self._source = np.zeros(0, dtype=np.int64)
        self._quality = np.zeros((0, 2))
        self._known_p = np.zeros((0, 2))

    def __len__(self) -> int:
        return len(self._tasks)

    def extend(self, act: Act) -> None:
        """Decide the next block of tasks, and hear what came of it."""
        world, settings, rng = self._world, self._world.settings, self._rng
        tasks = rng.integers(len(world.quality), size=settings.block)
        p = act(world.features[tasks])
        trained = rng.random(len(tasks)) < p[:, 1]
        gold = rng.random(len(tasks)) < settings.gold_share
        audited = gold & ~trained & (rng.random(len(tasks)) < settings.audit_rate)
        known_p = known_probability(
            p, sunk=0, sunk_known=gold, audited=1, audit_rate=np.where(gold, settings.audit_rate, 0.0)
        )
        seen = np.stack([gold | ~trained, trained | audited], axis=1)
        source = rng.integers(N_SOURCES, size=len(tasks))
        quality = np.where(self._flips(source)[:, None], 1 - world.quality[tasks], world.quality[tasks])
        self._tasks = np.concatenate([self._tasks, tasks])
        self._source = np.concatenate([self._source, source])
        self._quality = np.concatenate([self._quality, np.where(seen, quality, np.nan)])
        self._known_p = np.concatenate([self._known_p, known_p])

    def look_at_sources(self) -> None:
        """See by what has been reported so far which sources run against the others."""
        features = self._world.features[self._tasks]
        self._refused = contradicting(self._names(), features, self._quality[:, 0])

    def trusted(self) -> npt.NDArray[np.bool_]:
        """Return which rows count, by their sources."""
        names = self._names()
        return within_share(names, self._world.settings.source_share) & ~np.isin(names, self._refused)

    def _names(self) -> list[str]:
        return [f"user_{i}" for i in self._source]

    def rows_before(self, end: int, kept: npt.NDArray[np.bool_]) -> LoggedRows:
        """Return the rows that count among the first `end`."""
        return self._rows(np.flatnonzero(kept & (np.arange(len(self)) < end)))

    def rows_after(self, start: int, kept: npt.NDArray[np.bool_]) -> LoggedRows:
        """Return the rows that count from `start` on."""
        return self._rows(np.flatnonzero(kept & (np.arange(len(self)) >= start)))

    def _rows(self, picked: npt.NDArray[np.int64]) -> LoggedRows:
        world, tasks = self._world, self._tasks[picked]
        return LoggedRows(
            arms=ARMS,
            families=tuple(world.families[tasks]),
            feature_names=world.names,
            features=world.features[tasks],
            quality=self._quality[picked],
            cost=world.cost[tasks],
            known_p=self._known_p[picked],
        )

    def _flips(self, source: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        settings = self._world.settings
        if not self._kind.startswith("poisoned"):
            return np.zeros(len(source), dtype=bool)
        if settings.diffuse:
            return self._rng.random(len(source)) < settings.flipped
        return source < round(settings.flipped * N_SOURCES)


def _sides(rows: LoggedRows, candidate: Played, incumbent: Played) -> Sides:
    return Sides(
        rows,
        candidate.act(rows.features),
        incumbent.act(rows.features),
        None if candidate.helps is None else candidate.helps(rows.features),
        None if incumbent.helps is None else incumbent.helps(rows.features),
    )


def summary(lives: list[Life]) -> str:
    """Say in one line what came of lives of one kind."""
    could = [life for life in lives if life.missed >= CLEAN]
    harmful = sum(life.harmful for life in lives)
    found = sum(life.improved for life in could)
    gains = [gain for life in lives for gain in life.gains]
    return (
        f"{lives[0].kind}: harmful promotion in {harmful} of {len(lives)} lives ({harmful / len(lives):.1%}); "
        f"{CLEAN:g} or more gained in {found} of {len(could)} lives that had a candidate worth as much; "
        f"{len(gains)} promotions of {sum(life.attempts for life in lives)} candidates, worth "
        f"{np.mean(gains) if gains else 0.0:+.4f} a task"
    )


def main() -> None:
    """Live the lives and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--price", type=float, default=0.1)
    parser.add_argument("--matrix", type=Path, help="CSV or parquet of outcomes; default: a synthetic one")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--diffuse", action="store_true", help="every source flips, not a few")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    settings = LifeSettings(n_tasks=given.tasks, diffuse=given.diffuse, rules=GateRules(price=given.price))
    if given.matrix is None:
        matrix = synthetic_matrix()
    else:
        from policies.outcome_files import read_outcomes

        matrix = read_outcomes(given.matrix)
    world = World(matrix, settings)
    for kind in given.kind or KINDS:
        began = time.perf_counter()
        lives = [live(world, kind, given.seed + i) for i in range(given.lives)]
        print(f"{summary(lives)} ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
