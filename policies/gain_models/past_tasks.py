"""Past tasks: a bounded sample of those a model was fitted on, to show which are like a new one, and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from policies.gain_models.scaling import Scaler

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]

MAX_PAST_TASKS = 256


@dataclass(frozen=True, slots=True)
class PastTask:
    """A task the model was fitted on."""

    task: str
    distance: float  # root mean square over features, in standard deviations
    quality: tuple[tuple[str, float | None], ...]  # of each arm; None: not measured


@dataclass(frozen=True, slots=True)
class PastTasks:
    """m rows of the training data."""

    tasks: tuple[str, ...]
    rows: Floats  # (m, n_features), as they were; NaN: not known
    quality: Floats  # (m, n_arms); NaN: not measured

    @classmethod
    def sampled(cls, matrix: OutcomeMatrix, rng: np.random.Generator) -> Self:
        """Keep at most MAX_PAST_TASKS rows, drawn evenly."""
        kept = np.sort(rng.permutation(len(matrix))[:MAX_PAST_TASKS])
        sample = matrix.take(kept)
        return cls(sample.tasks, sample.features, sample.quality)

    def nearest(self, row: Floats, scaler: Scaler, arms: Sequence[str], k: int) -> tuple[PastTask, ...]:
        """Return the k rows most like `row` (n_features,), the nearest first."""
        order, distances = nearest(row, self.rows, k, scaler)
        return tuple(
            PastTask(
                self.tasks[i],
                float(distance),
                tuple((arm, None if np.isnan(q) else float(q)) for arm, q in zip(arms, self.quality[i], strict=True)),
            )
            for i, distance in zip(order, distances, strict=True)
        )

    def below(self, row: Floats) -> Floats:
        """Return for each feature the share of the rows it is known of that lie below `row`; NaN: not known."""
        known = ~np.isnan(self.rows)
        n = known.sum(axis=0)
        share = np.where(known & (self.rows < row), 1.0, 0.0).sum(axis=0) / np.maximum(n, 1)
        return np.where((n > 0) & ~np.isnan(row), share, np.nan)


def nearest(row: Floats, rows: Floats, k: int, scaler: Scaler) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the indices of the k of `rows` (m, n_features) nearest to `row`, and their distances, the nearest first.

    Features are standardised; one that is known on one side alone puts the two a standard deviation apart.
    """
    apart = scaler.standardised(rows) - scaler.standardised(row[None])
    apart = np.where(np.isnan(rows) == np.isnan(row), apart, 1.0)
    distances = np.sqrt(np.mean(apart**2, axis=1)) if rows.shape[1] else np.zeros(len(rows))
    order = np.argsort(distances, kind="stable")[:k]
    return order, distances[order]
