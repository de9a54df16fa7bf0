"""Features as a policy reads them: numbers by name, whether they come from a live task or from a row of old logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class FeatureValues(Protocol):
    """What a policy may know of one task."""

    @property
    def predicted_cost_s(self) -> tuple[tuple[str, float], ...]:
        """Return (arm, seconds) for every arm a prediction was made for, sorted by arm."""
        ...

    def value(self, name: str) -> float | None:
        """Return one feature as a number; None where it is not known for this task, or no such feature is recorded."""
        ...


@dataclass(frozen=True, slots=True)
class NamedFeatures:
    """Features of one row of an outcome matrix or of anybody's logs.

    Example:
        >>> NamedFeatures(("loo_exact_share",), (0.5,)).value("loo_exact_share")
        0.5
    """

    names: tuple[str, ...]
    values: tuple[float | None, ...]
    predicted_cost_s: tuple[tuple[str, float], ...] = ()

    def value(self, name: str) -> float | None:
        return self.values[self.names.index(name)] if name in self.names else None


def feature_row(features: FeatureValues, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the named features as one row, shape (n_names,); NaN where a value is not known."""
    import numpy as np

    values = (features.value(name) for name in names)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
