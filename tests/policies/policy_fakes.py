"""What the tests of policies decide on: features by name, a gain model whose formula is plain, and outcome matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.decision import Arm, Decision
from policies.feature_values import FeatureValues, NamedFeatures
from policies.features import Features
from policies.fixed import AlwaysArm
from policies.gain_model import Contribution, Estimates
from policies.gain_models.past_tasks import PastTask
from policies.outcome_matrix import OutcomeMatrix
from policies.pricing import Pricing
from policies.regret_bound import regretted_rows
from policies.replay import measured
from policies.stages import Stage

Floats = npt.NDArray[np.float64]

ARMS = ("icl", "icl_vote", "ttt_short", "ttt")
NAMES = (
    "loo_exact_share",
    "n_held_out",
    "n_held_out_exact",
    "answer_confidence",
    "answer_entropy",
    "vote_agreement",
    "n_demonstrations",
)
PRICING = Pricing(price=0.1, mean_cost_s=(("icl_vote", 0.5), ("ttt", 8.0), ("ttt_short", 2.0)))


def as_values(features: Features) -> NamedFeatures:
    """Give live features the form in which policies read them."""
    fields = {name: getattr(features, name) for name in features.__slots__}
    numbers = {name: value for name, value in fields.items() if value is None or isinstance(value, bool | int | float)}
    values = tuple(None if value is None else float(value) for value in numbers.values())
    return NamedFeatures(tuple(numbers), values, features.predicted_cost_s)


def named(predicted_cost_s: tuple[tuple[str, float], ...] = (), /, **values: float | None) -> NamedFeatures:
    return NamedFeatures(tuple(values), tuple(values.values()), predicted_cost_s)


@dataclass(frozen=True, slots=True)
class FakeGainModel:
    """Training gains `slope` times what leave-one-out misses, less `harm`; half of that for short training."""

    slope: float = 0.6
    harm: float = 0.05
    arms: tuple[str, ...] = ("icl", "icl_vote", "ttt", "ttt_short")

    name = "logistic"
    feature_names = ("loo_exact_share", "answer_confidence")

    def estimate(self, rows: Floats) -> Estimates:
        missed = 1.0 - np.nan_to_num(rows[:, 0], nan=0.5)
        confidence = np.nan_to_num(rows[:, 1], nan=0.5)
        gain = self.slope * missed - self.harm
        of_arm = {"icl": 0.0 * gain, "icl_vote": 0.02 + 0.0 * gain, "ttt": gain, "ttt_short": 0.5 * gain}
        gains = np.stack([of_arm[arm] for arm in self.arms], axis=1)
        p_icl = np.clip(0.2 + 0.6 * (1.0 - missed) + 0.1 * confidence, 0.0, 1.0)
        p_correct, spread = np.clip(p_icl[:, None] + gains, 0.0, 1.0), np.full(gains.shape, 0.04)
        return Estimates(self.arms, p_correct, gains, spread, p_only=np.maximum(gains, 0.0))

    def explain(self, row: Floats, arm: str) -> tuple[Contribution, ...]:
        value = None if np.isnan(row[0]) else float(row[0])
        gain = float(self.estimate(row[None, :]).gain[0, self.arms.index(arm)])
        return (Contribution("loo_exact_share", value, 0.5, gain), Contribution("answer_confidence", None, 0.5, 0.0))

    def nearest(self, row: Floats, k: int = 5) -> tuple[PastTask, ...]:
        return ()

    def percentiles(self, row: Floats) -> dict[str, float]:
        return {}


def outcome_matrix(
    n_tasks: int = 60, *, seed: int = 0, arms: tuple[str, ...] = ARMS, ttt_missing: int = 0, n_families: int = 4
) -> OutcomeMatrix:
    """Make a matrix in which leave-one-out says something of where training helps; one row a task.

    Args:
        ttt_missing: rows, the first ones, in which only `icl` and `icl_vote` were measured.
    """
    rng = np.random.default_rng(seed)
    share = rng.integers(0, 4, n_tasks) / 3.0
    confidence = rng.random(n_tasks)
    p_icl = 0.1 + 0.7 * share
    p = {"icl": p_icl, "icl_vote": p_icl + 0.05, "ttt_short": 0.55 + 0.2 * share, "ttt": 0.7 + 0.1 * share}
    quality = np.stack([(rng.random(n_tasks) < p[arm]).astype(float) for arm in arms], axis=1)
    seconds = {"icl": 0.1, "icl_vote": 0.5, "ttt_short": 2.0, "ttt": 8.0}
    cost = np.stack([seconds[arm] * (0.5 + rng.random(n_tasks)) for arm in arms], axis=1)
    trained = [j for j, arm in enumerate(arms) if arm.startswith("ttt")]
    quality[:ttt_missing, trained] = np.nan
    cost[:ttt_missing, trained] = np.nan
    columns = {
        "loo_exact_share": share,
        "n_held_out": np.full(n_tasks, 3.0),
        "n_held_out_exact": np.round(3.0 * share),
        "answer_confidence": confidence,
        "answer_entropy": 2.0 * (1.0 - share) * rng.random(n_tasks),
        "vote_agreement": np.clip(share + 0.2 * rng.random(n_tasks), 0.0, 1.0),
        "n_demonstrations": np.full(n_tasks, 3.0),
    }
    features = np.stack([columns[name] for name in NAMES], axis=1)
    features[rng.random(features.shape) < 0.1] = np.nan
    return OutcomeMatrix(
        tasks=tuple(f"task-{i}" for i in range(n_tasks)),
        families=tuple(f"family-{i % n_families}" for i in range(n_tasks)),
        sets=("made",) * n_tasks,
        seeds=(0,) * n_tasks,
        arms=arms,
        quality=quality,
        cost_s=cost,
        feature_names=NAMES,
        features=features,
        feature_cost_s=np.full(n_tasks, 0.1),
    )


def realised_regret_rate(choices: Floats, matrix: OutcomeMatrix) -> float:
    """Return the share of the rows answered by `icl` that `ttt` would have answered better; 0 where none is.

    Args:
        choices: (n_rows, n_arms), the probability of each arm, as `choices_of` gives it.
    """
    both = measured(matrix)[:, matrix.column(Arm.TTT)]
    in_context = choices[:, matrix.column(Arm.ICL)] * both
    total = float(in_context.sum())
    return float(in_context @ regretted_rows(matrix)) / total if total else 0.0


class AblePolicy:
    """Answers in context, and can do all that a policy may be able to do beyond that, as it is told to."""

    name, version = "able", "1"

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self.escalate_below = 0.0
        self.check_every: int | None = None
        self.wish = "anything"
        self.asked_of: list[tuple[str, float]] = []
        self.counted: list[tuple[str, float]] = []

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        return self.stage

    def escalates(self, features: FeatureValues, arm: str, confidence: float) -> bool:
        self.asked_of.append((arm, confidence))
        return confidence < self.escalate_below

    def spent(self, arm: str, seconds: float) -> None:
        self.counted.append((arm, seconds))

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        return AlwaysArm("icl").propensities(features, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        return AlwaysArm("icl").decide(features, rng, arms)

    def score(self, features: FeatureValues) -> float:
        return 0.0

    def scores(self, matrix: OutcomeMatrix) -> Floats:
        return np.zeros(len(matrix))
