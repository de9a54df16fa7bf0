"""Boosted trees as flat arrays: scores, standard errors and contributions by NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int32]
    Flags = npt.NDArray[np.bool_]

MAX_DEPTH = 64
ROWS_AT_A_TIME = 256  # keeps the work arrays of a thousand trees within a few megabytes


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of any number of trees; children come after their parents, and a leaf is its own child."""

    feature: Ints  # (n_nodes,), column that is compared
    threshold: Floats  # (n_nodes,), to the left up to and including it
    missing_left: Flags  # (n_nodes,), where a value goes that is not known
    left: Ints
    right: Ints
    value: Floats  # (n_nodes,), log-odds: of a leaf what it adds, else the mean over the rows it was fitted on
    roots: Ints  # (n_trees,)

    @classmethod
    def joined(cls, parts: Sequence[Nodes]) -> Self:
        """Return the trees of all parts, in order."""
        offsets = np.cumsum([0, *(len(part.value) for part in parts)])[:-1]

        def moved(name: str) -> Ints:
            shifted = [getattr(part, name) + offset for part, offset in zip(parts, offsets, strict=True)]
            return np.concatenate([np.zeros(0), *shifted]).astype(np.int32)

        return cls(
            feature=np.concatenate([np.zeros(0, np.int32), *(part.feature for part in parts)]),
            threshold=np.concatenate([np.zeros(0), *(part.threshold for part in parts)]),
            missing_left=np.concatenate([np.zeros(0, np.bool_), *(part.missing_left for part in parts)]),
            left=moved("left"),
            right=moved("right"),
            value=np.concatenate([np.zeros(0), *(part.value for part in parts)]),
            roots=moved("roots"),
        )

    def depth(self) -> int:
        """Return the largest number of comparisons on any path.

        Raises:
            ValueError: a path is longer than MAX_DEPTH.
        """
        reached = self.roots
        for depth in range(MAX_DEPTH + 1):
            reached = reached[self.left[reached] != reached]
            if len(reached) == 0:
                return depth
            reached = np.unique(np.concatenate([self.left[reached], self.right[reached]]))
        raise ValueError(f"a tree is deeper than {MAX_DEPTH}")

    def step(self, nodes: Ints, rows: Floats) -> Ints:
        """Return the next node of each path (n_rows, n_trees); a leaf stays where it is."""
        x = np.take_along_axis(rows, self.feature[nodes], axis=1)
        goes_left = (x <= self.threshold[nodes]) | (np.isnan(x) & self.missing_left[nodes])
        return np.where(goes_left, self.left[nodes], self.right[nodes])

    def leaf_values(self, rows: Floats, depth: int) -> Floats:
        """Return what each tree adds to each row, (n_rows, n_trees)."""
        nodes = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        for _ in range(depth):
            nodes = self.step(nodes, rows)
        return self.value[nodes]


@dataclass(frozen=True, slots=True)
class ForestScores:
    """All heads of a model. Each has one ensemble for each fold of families, fitted without that fold; a head's score
    is their mean, and how far they are apart says how much hangs on which families were seen.
    """

    nodes: Nodes
    ensemble: Ints  # (n_trees,), head * n_folds + fold that a tree belongs to
    intercept: Floats  # (n_heads, n_folds), log-odds
    least_error: Floats  # (n_heads,), standard error of the average score: no score is surer than that
    n_features: int
    depth: int

    def log_odds(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the scores of rows (n_tasks, n_features) and their standard errors, (n_tasks, n_heads) each.

        The variance is the delete-a-group jackknife's, (k - 1) / k * sum (score of fold - mean)^2, and that of the
        average score.
        """
        by_fold = self.by_fold(rows)
        n_folds = by_fold.shape[2]
        variance = by_fold.var(axis=2) * (n_folds - 1)
        return by_fold.mean(axis=2), np.sqrt(variance + self.least_error**2)

    def by_fold(self, rows: Floats) -> Floats:
        """Return the score of each ensemble, (n_tasks, n_heads, n_folds)."""
        n_heads, n_folds = self.intercept.shape
        member = np.zeros((len(self.ensemble), n_heads * n_folds))
        member[np.arange(len(self.ensemble)), self.ensemble] = 1.0
        sums = [
            self.nodes.leaf_values(rows[start : start + ROWS_AT_A_TIME], self.depth) @ member
            for start in range(0, len(rows), ROWS_AT_A_TIME)
        ]
        joined = np.concatenate([np.zeros((0, n_heads * n_folds)), *sums])
        return joined.reshape(-1, n_heads, n_folds) + self.intercept

    def base(self) -> Floats:
        """Return the scores averaged over the tasks each tree was fitted on, (n_heads,)."""
        n_heads, n_folds = self.intercept.shape
        sums = np.bincount(self.ensemble, self.nodes.value[self.nodes.roots], minlength=n_heads * n_folds)
        return np.asarray((sums.reshape(n_heads, n_folds) + self.intercept).mean(axis=1), dtype=np.float64)

    def parts(self, row: Floats) -> Floats:
        """Return what each feature of one row adds to the base, (n_heads, n_features).

        Along each path, a comparison earns its feature the change of the mean from the node to the child taken.

        Source: Saabas 2014 (contributions along decision paths).
        """
        n_heads, n_folds = self.intercept.shape
        parts = np.zeros((n_heads, self.n_features))
        nodes = self.nodes.roots[None]
        for _ in range(self.depth):
            child = self.nodes.step(nodes, row[None])
            change = self.nodes.value[child] - self.nodes.value[nodes]
            np.add.at(parts, (self.ensemble // n_folds, self.nodes.feature[nodes[0]]), change[0] / n_folds)
            nodes = child
        return parts
