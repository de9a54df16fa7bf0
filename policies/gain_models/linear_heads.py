"""Fits the linear heads of a gain model: all heads of a kind move away from the prior together, then each by itself.

What makes a task easy for one arm makes it easy for the others. Heads that are fitted apart differ by chance where
outcomes are few, and a policy that takes the best of several arms takes what chance favours. So a head is held towards
what all heads of its kind say together, as strongly as predicts best what is held out. Together they go by tasks that
all of them were tried on: else what `icl` fails at would speak against arms that nobody has tried there.

Source: Evgeniou, Pontil 2004 (regularized multi-task learning: w_t = w_0 + v_t), in two steps, each by Newton's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.gain_models.newton import TOLERANCE, cross_entropy, fit_logistic

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Folds = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

FOLDS_FROM = 30  # outcomes of a head; fewer choose no penalty
ROUGHLY = 1e-3  # nats; enough to compare penalties and to calibrate
APART = (
    16.0,
    4.0,
    1.0,
    0.25,
    0.06,
    0.015,
)  # penalties of a head's own part, in `l2`, the strongest first: taken without outcomes,
COMMON = 1.0 / (1.0 - 1.0 / APART[0])  # and with this of the common part, both together are worth `l2`


@dataclass(frozen=True, slots=True)
class LinearFit:
    """Coefficients (n_heads, d), their covariances (n_heads, d, d), and the scores (n_rows, n_heads) that each row gets
    from heads that have not seen its fold; NaN where a head says nothing of a row, or has too few rows.
    """

    coef: Floats
    covariance: Floats
    unseen: Floats


def fit_linear_heads(
    design: Floats,
    targets: Floats,
    weights: Floats,
    folds: Folds,
    *,
    kinds: Sequence[object],
    believed: Floats,
    l2: float,
) -> LinearFit:
    """Fit all heads.

    Args:
        design: (n_rows, d), its first column ones.
        targets: (n_rows, n_heads), in [0, 1].
        weights: (n_rows, n_heads), >= 0; 0 where a row says nothing of a head.
        folds: (n_rows,), of rows that are held out together.
        kinds: of each head; those of one kind move together.
        believed: (n_heads, d), where the coefficients stay without outcomes.
        l2: what that belief is worth, for each coefficient.
    """
    used = np.any(design != 0.0, axis=0)  # without a number in it a column leaves its coefficient where it was believed
    used[0] = True
    n_heads, d = believed.shape
    coef, unseen = believed.copy(), np.full(targets.shape, np.nan)
    covariance = np.tile(np.eye(d) / l2, (n_heads, 1, 1))
    for kind in dict.fromkeys(kinds):
        alike = np.flatnonzero([each == kind for each in kinds])
        of_kind = _Together(design[:, used], targets[:, alike], weights[:, alike], believed[np.ix_(alike, used)], l2)
        common, spread = of_kind.fit()
        without = {fold: of_kind.among(folds != fold).fit(common, ROUGHLY)[0] for fold in np.unique(folds)}
        for place, i in enumerate(alike):
            rows = np.flatnonzero(weights[:, i] > 0.0)
            head = _Head(design[np.ix_(rows, used)], targets[rows, i], weights[rows, i], l2)
            strength = APART[0] if of_kind.shared.any() else 1.0
            if len(rows) >= FOLDS_FROM and len(np.unique(folds[rows])) > 1:
                held_out = {fold: each[place] for fold, each in without.items()}
                strength, unseen[rows, i] = head.validated(folds[rows], held_out)
            coef[i, used], hessian = head.fit(common[place], strength)
            believed_spread = spread[place] + np.eye(used.sum()) / (strength * l2)
            covariance[i][np.ix_(used, used)] = np.linalg.inv(hessian + np.linalg.inv(believed_spread))
    return LinearFit(coef, covariance, unseen)


@dataclass(frozen=True, slots=True)
class _Together:
    """Heads of one kind that move by the same slopes, and each by an intercept of its own."""

    design: Floats  # (n_rows, d)
    targets: Floats  # (n_rows, n_heads)
    weights: Floats
    believed: Floats  # (n_heads, d)
    l2: float

    @property
    def shared(self) -> Mask:
        """The rows that say something of every head, (n_rows,)."""
        shared: Mask = np.all(self.weights > 0.0, axis=1)
        return shared

    def among(self, rows: Mask) -> _Together:
        return _Together(self.design[rows], self.targets[rows], self.weights[rows], self.believed, self.l2)

    def fit(self, near: Floats | None = None, tolerance: float = TOLERANCE) -> tuple[Floats, Floats]:
        """Return the coefficients that they have together, (n_heads, d), and their covariances, (n_heads, d, d).

        Args:
            near: coefficients that are not far from these, (n_heads, d).
        """
        n_heads, d = self.believed.shape
        rows = np.flatnonzero(self.shared)
        if not len(rows):
            return self.believed, np.zeros((n_heads, d, d))
        heads, start = np.tile(np.arange(n_heads), len(rows)), None if near is None else near - self.believed
        rows = np.repeat(rows, n_heads)
        moved, hessian = fit_logistic(
            np.hstack([np.eye(n_heads)[heads], self.design[rows, 1:]]),
            self.targets[rows, heads],
            self.weights[rows, heads] / n_heads,  # what is said of one task counts as one outcome
            prior=np.zeros(n_heads + d - 1),
            precision=np.full(n_heads + d - 1, COMMON * self.l2),
            offset=np.einsum("nd,nd->n", self.design[rows], self.believed[heads]),
            start=None if start is None else np.concatenate([start[:, 0], start[0, 1:]]),
            tolerance=tolerance,
        )
        spread = np.linalg.inv(hessian)
        columns = np.array([[head, *range(n_heads, n_heads + d - 1)] for head in range(n_heads)])
        return self.believed + moved[columns], np.stack([spread[np.ix_(each, each)] for each in columns])


@dataclass(frozen=True, slots=True)
class _Head:
    """One head and its rows."""

    design: Floats  # (n_rows, d)
    targets: Floats  # (n_rows,)
    weights: Floats
    l2: float

    def fit(
        self, towards: Floats, strength: float, start: Floats | None = None, tolerance: float = TOLERANCE
    ) -> tuple[Floats, Floats]:
        """Return coefficients and what the rows alone say of how sure they are: the Hessian without the penalty."""
        precision = np.full(self.design.shape[1], strength * self.l2)
        coef, hessian = fit_logistic(
            self.design,
            self.targets,
            self.weights,
            prior=towards,
            precision=precision,
            start=start,
            tolerance=tolerance,
        )
        return coef, hessian - np.diag(precision)

    def validated(self, folds: Folds, towards: dict[int, Floats]) -> tuple[float, Floats]:
        """Return the penalty of the own part that predicts best what is held out, and what each row scores unseen.

        Args:
            towards: what the head is held to where a fold is held out: fitted without that fold.
        """
        scores = np.zeros((len(APART), len(folds)))
        for fold in np.unique(folds):
            there = folds == fold
            others, near = _Head(self.design[~there], self.targets[~there], self.weights[~there], self.l2), None
            for k, strength in enumerate(APART):  # from one solution to the next it is not far
                near, _ = others.fit(towards[fold], strength, near, ROUGHLY)
                scores[k, there] = self.design[there] @ near
        chosen = int(np.argmin(cross_entropy(scores, self.targets) @ self.weights))
        return APART[chosen], scores[chosen]
