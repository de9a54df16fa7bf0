"""What an arm costs where quality is weighed against it: seconds in units of what `ttt` takes on average.

`icl` has run before any decision, so it costs nothing more. Predicted seconds count where there are any, the arm's mean
where there are none; an arm of which nothing is known is taken to be as dear as `ttt`. Where nothing has been measured
yet, costs are by the work alone, in trainings on a prompt of typical length: no decision hangs on a clock then.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from policies.decision import Arm
from policies.errors import PolicySettingRefused
from policies.replay import predicted_costs

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]

_UNKNOWN = 1.0  # cost of an arm of which nothing is known
_WORK = ("prompt_tokens", "adapter_cached")  # features by which the work of an arm is told


@dataclass(frozen=True, slots=True)
class Pricing:
    """The price of time, and what each arm takes where nothing better is known.

    Example:
        >>> Pricing(price=0.1, mean_cost_s=(("ttt", 8.0), ("ttt_short", 2.0))).described()
        'price=0.1,costs=e24b76d6'
    """

    price: float  # quality given up for the mean cost of `ttt`; 0: time costs nothing
    mean_cost_s: tuple[tuple[str, float], ...]  # (arm, seconds beyond the answer of `icl`); that of `ttt` is the unit
    typical_tokens: float | None = None  # of the prompt that means are for: by work, not by seconds; None: by seconds

    def __post_init__(self) -> None:
        if not (math.isfinite(self.price) and self.price >= 0.0):
            raise PolicySettingRefused("price", f"got {self.price}", remedy="Give a number from 0, such as 0.1.")
        if not dict(self.mean_cost_s).get(Arm.TTT, 0.0) > 0.0:
            remedy = "Give its mean seconds, above zero: it is the unit of all costs."
            raise PolicySettingRefused("mean_cost_s", "`ttt` is missing or not above zero", remedy=remedy)
        if self.typical_tokens is not None and not 0.0 < self.typical_tokens < math.inf:
            remedy = "Give the tokens of a prompt, above zero."
            raise PolicySettingRefused("typical_tokens", f"got {self.typical_tokens}", remedy=remedy)

    @classmethod
    def of(cls, matrix: OutcomeMatrix, price: float) -> Self:
        """Take the mean cost of each arm from what was measured.

        Raises:
            PolicySettingRefused: `ttt` was not measured.
        """
        measured = [(arm, cost[~np.isnan(cost)]) for arm, cost in zip(matrix.arms, matrix.cost_s.T, strict=True)]
        means = ((str(arm), float(cost.mean())) for arm, cost in measured if len(cost))
        return cls(price, tuple(sorted(means)))

    def at(self, price: float) -> Self:
        """Return the same with another price."""
        return replace(self, price=price)

    def costs(self, features: FeatureValues, arms: Sequence[str]) -> Floats:
        """Return what each of `arms` costs for one task, shape (n_arms,)."""
        if self.typical_tokens is not None:
            tokens, cached = (features.value(name) for name in _WORK)
            costs: Floats = self._by_work(_array(tokens), _array(cached), arms, self.typical_tokens)[0]
            return costs
        predicted = dict(features.predicted_cost_s)
        costs = self._costs(np.array([[predicted.get(arm, np.nan) for arm in arms]]), arms)[0]
        return costs

    def matrix_costs(self, matrix: OutcomeMatrix) -> Floats:
        """Return what was predicted, not what was measured, for each row and arm: (n_rows, n_arms)."""
        if self.typical_tokens is not None:
            tokens, cached = (matrix.feature(name) for name in _WORK)
            return self._by_work(tokens, cached, matrix.arms, self.typical_tokens)
        return self._costs(predicted_costs(matrix), matrix.arms)

    def described(self) -> str:
        """Return what a version must name."""
        means = json.dumps(sorted(self.mean_cost_s)).encode()
        tokens = "" if self.typical_tokens is None else f",tokens={self.typical_tokens}"
        return f"price={self.price},costs={hashlib.sha256(means).hexdigest()[:8]}{tokens}"

    def _by_work(self, tokens: Floats, cached: Floats, arms: Sequence[str], typical_tokens: float) -> Floats:
        """Return what arms cost where nothing has been measured, (n_rows, n_arms): twice the prompt is twice the work.

        Args:
            tokens: of the prompt, (n_rows,); NaN: of typical length.
            cached: 1 where `ttt` has nothing to train and is no more than a vote, (n_rows,).
        """
        *costs, as_vote = self._costs(np.full((1, len(arms) + 1), np.nan), [*arms, Arm.ICL_VOTE])[0]
        is_free = (cached == 1.0)[:, None] & np.array([arm == Arm.TTT for arm in arms])
        longer = np.where(tokens > 0.0, tokens, typical_tokens) / typical_tokens
        result: Floats = np.where(is_free, as_vote, np.array(costs)) * longer[:, None]
        return result

    def _costs(self, predicted_s: Floats, arms: Sequence[str]) -> Floats:
        means = dict(self.mean_cost_s)
        unit = means[Arm.TTT]
        typical_s = np.array([means.get(arm, _UNKNOWN * unit) for arm in arms])
        usable = np.isfinite(predicted_s) & (predicted_s >= 0.0)
        costs: Floats = np.where(usable, predicted_s, typical_s) / unit
        costs[:, [arm == Arm.ICL for arm in arms]] = 0.0
        return costs


def _array(value: float | None) -> Floats:
    return np.array([np.nan if value is None else value])
