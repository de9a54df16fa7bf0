"""What a gain model says of tasks: how likely each arm is right, and how much better than `icl` it would be.

The protocol and its records; each model has a module of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from policies.gain_models.past_tasks import PastTask

    Floats = npt.NDArray[np.float64]


PRIOR = "prior"  # name of the model that has seen no outcome of this installation


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of n tasks; the columns are the model's arms, `icl` among them."""

    arms: tuple[str, ...]
    p_correct: Floats  # (n_tasks, n_arms), calibrated expected quality in [0, 1]
    gain: Floats  # (n_tasks, n_arms), expected quality minus that of `icl`, in [-1, 1]; 0 in the column of `icl`
    gain_std: Floats  # (n_tasks, n_arms), standard error of the gain: how little the model has seen like this
    p_only: Floats  # (n_tasks, n_arms), chance that the arm is right and `icl` is not; 0 in the column of `icl`


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to the gain of an arm, against the average task the model was fitted on."""

    feature: str
    value: float | None  # of this task
    typical: float  # of the tasks the model was fitted on (their mean)
    gain: float  # added to the expected gain, in quality


class GainModel(Protocol):
    """Maps features to estimates, one row a task."""

    @property
    def name(self) -> str:
        """`prior`, `logistic` or `trees`."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns it reads, in order."""
        ...

    @property
    def arms(self) -> tuple[str, ...]: ...

    def estimate(self, rows: Floats) -> Estimates:
        """Estimate from rows of shape (n_tasks, n_features); NaN where a feature is not known."""
        ...

    def explain(self, row: Floats, arm: str) -> tuple[Contribution, ...]:
        """Return what each feature adds to the gain of `arm` for one row (n_features,), the largest first.

        The contributions and the average gain add up to the gain that `estimate` gives.
        """
        ...

    def nearest(self, row: Floats, k: int = 5) -> tuple[PastTask, ...]:
        """Return the training tasks most like one row (n_features,), the nearest first; () where none are kept."""
        ...

    def percentiles(self, row: Floats) -> dict[str, float]:
        """Return the share of training tasks below one row (n_features,), by feature; nothing where none are kept."""
        ...
