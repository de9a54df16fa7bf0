"""The outcome matrix: every task of a set answered by every arm, with what each answer was worth and cost.

Every policy can be replayed on it, paired: what it would have chosen has been measured already. Files of it are read
and written in outcome_files.py, and split in outcome_splits.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np

from policies.errors import OutcomesRefused
from policies.feature_values import NamedFeatures

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """n rows, a row for each task and seed.

    `cost_s` is what an arm costs by itself, without the features: what one pays who always takes it. What a routed task
    costs, features included, is `routed_cost_s`.

    Raises:
        OutcomesRefused: shapes that do not fit, a quality outside [0, 1], a cost below zero.
    """

    tasks: tuple[str, ...]  # of each row; rows of one task differ in their seed
    families: tuple[str, ...]  # kind of task: what splits hold out whole
    sets: tuple[str, ...]  # the benchmark a task belongs to
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    quality: Floats  # (n_rows, n_arms), in [0, 1]; NaN: not measured
    cost_s: Floats  # (n_rows, n_arms), seconds; NaN: not measured
    feature_names: tuple[str, ...]
    features: Floats  # (n_rows, n_features); NaN: not known
    feature_cost_s: Floats  # (n_rows,), seconds spent on the features before the decision, the answer of `icl` included
    train_s: Floats | None = None  # (n_rows, n_arms), the part of `cost_s` that an adapter at hand saves
    tokens: Floats | None = None  # (n_rows, n_arms), read, written and trained on
    groups: tuple[str, ...] = ()  # what tasks share that stand or fall together, as the queries of one file do their
    # demonstrations and so their adapter; default: each task is a group of its own

    def __post_init__(self) -> None:
        n, n_arms = len(self.tasks), len(self.arms)
        if not self.groups:
            object.__setattr__(self, "groups", self.tasks)
        for name in ("families", "sets", "seeds", "groups"):
            if len(getattr(self, name)) != n:
                _refuse(name, f"{len(getattr(self, name))} of them for {n} rows", "Give one for each row.")
        for name in ("arms", "feature_names"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                _refuse(name, "a name comes twice", "Give each a name of its own.")
        shapes = {"quality": (n, n_arms), "cost_s": (n, n_arms), "features": (n, len(self.feature_names)),
                  "feature_cost_s": (n,), "train_s": (n, n_arms), "tokens": (n, n_arms)}  # fmt: skip
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None:
                _check(name, values, shape)

    def __len__(self) -> int:
        return len(self.tasks)

    def column(self, arm: str) -> int:
        """Return the column of `arm`; ValueError where it is not in the matrix."""
        return self.arms.index(arm)

    def feature(self, name: str) -> Floats:
        """Return one feature of every row, (n_rows,); NaN throughout where it is not in the matrix."""
        if name not in self.feature_names:
            return np.full(len(self), np.nan)
        values: Floats = self.features[:, self.feature_names.index(name)]
        return values

    def features_at(self, row: int, predicted_cost_s: tuple[tuple[str, float], ...] = ()) -> NamedFeatures:
        """Return the features of one row as a policy reads them, with costs that were predicted elsewhere: those that
        were measured are known only afterwards.
        """
        values = tuple(None if np.isnan(value) else float(value) for value in self.features[row])
        return NamedFeatures(self.feature_names, values, predicted_cost_s)

    @property
    def routed_cost_s(self) -> Floats:
        """Seconds of each row where a policy has looked at its features and chosen the arm, (n_rows, n_arms).

        The answer of `icl` is among the features' cost, if that is given: it is not paid for twice.
        """
        costs: Floats = self.feature_cost_s[:, None] + self.cost_s
        if "icl" in self.arms:
            i = self.column("icl")
            costs[:, i] = np.fmax(self.feature_cost_s, self.cost_s[:, i])
        return costs

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Self:
        """Return the matrix of these rows alone (indices or a mask)."""
        picked = np.arange(len(self))[np.asarray(rows) if len(rows) else slice(0)]
        return replace(
            self,
            tasks=tuple(self.tasks[i] for i in picked),
            families=tuple(self.families[i] for i in picked),
            sets=tuple(self.sets[i] for i in picked),
            seeds=tuple(self.seeds[i] for i in picked),
            groups=tuple(self.groups[i] for i in picked),
            quality=self.quality[picked],
            cost_s=self.cost_s[picked],
            features=self.features[picked],
            feature_cost_s=self.feature_cost_s[picked],
            train_s=None if self.train_s is None else self.train_s[picked],
            tokens=None if self.tokens is None else self.tokens[picked],
        )

    def of_arms(self, arms: Sequence[str]) -> Self:
        """Return the matrix of these arms alone, in this order; ValueError where one is not in it."""
        columns = [self.column(arm) for arm in arms]
        return replace(
            self,
            arms=tuple(arms),
            quality=self.quality[:, columns],
            cost_s=self.cost_s[:, columns],
            train_s=None if self.train_s is None else self.train_s[:, columns],
            tokens=None if self.tokens is None else self.tokens[:, columns],
        )

    def of_features(self, names: Sequence[str]) -> Self:
        """Return the matrix with these features alone, in this order; one that is not in it is not known anywhere."""
        return replace(self, feature_names=tuple(names), features=_with_columns(self, names))

    def measured(self) -> Self:
        """Return the rows in which every arm was measured: those that any policy can be replayed on."""
        return self.take(np.flatnonzero(~np.isnan(self.quality + self.cost_s).any(axis=1)))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the content: the same for the same outcomes in any order of rows, arms and features."""
        arms, names = np.argsort(self.arms, kind="stable"), np.argsort(self.feature_names, kind="stable")
        keys = [
            [*key, *([group] if group != key[2] else [])]
            for *key, group in zip(self.sets, self.families, self.tasks, self.seeds, self.groups, strict=True)
        ]
        rows = sorted(range(len(self)), key=lambda i: keys[i])
        head = [[keys[i] for i in rows], [self.arms[i] for i in arms], [self.feature_names[i] for i in names]]
        digest = hashlib.sha256(json.dumps(head, separators=(",", ":")).encode())
        unknown = np.full(self.quality.shape, np.nan)
        for values in (self.quality, self.cost_s, self.train_s, self.tokens):
            digest.update(_bytes((unknown if values is None else values)[rows][:, arms]))
        digest.update(_bytes(self.features[rows][:, names]) + _bytes(self.feature_cost_s[rows]))
        return digest.hexdigest()


def joined(matrices: Sequence[OutcomeMatrix]) -> OutcomeMatrix:
    """Return the rows of all; the arms are those that all have, and a feature that one lacks is not known there.

    Raises:
        OutcomesRefused: there is none, or no arm that all of them have.
    """
    if not matrices:
        _refuse("matrices", "none", "Give at least one.")
    arms = tuple(arm for arm in matrices[0].arms if all(arm in other.arms for other in matrices))
    if not arms:
        _refuse("arms", "no arm is in every matrix", "Give matrices that share their arms.")
    names = tuple(dict.fromkeys(name for each in matrices for name in each.feature_names))
    of_arms = [each.of_arms(arms) for each in matrices]
    unknown = [np.full(each.quality.shape, np.nan) for each in of_arms]
    return OutcomeMatrix(
        tasks=tuple(task for each in matrices for task in each.tasks),
        families=tuple(family for each in matrices for family in each.families),
        sets=tuple(name for each in matrices for name in each.sets),
        seeds=tuple(seed for each in matrices for seed in each.seeds),
        arms=arms,
        quality=np.concatenate([each.quality for each in of_arms]),
        cost_s=np.concatenate([each.cost_s for each in of_arms]),
        feature_names=names,
        features=np.concatenate([_with_columns(each, names) for each in matrices]),
        feature_cost_s=np.concatenate([each.feature_cost_s for each in matrices]),
        train_s=np.concatenate([u if m.train_s is None else m.train_s for m, u in zip(of_arms, unknown, strict=True)]),
        tokens=np.concatenate([u if m.tokens is None else m.tokens for m, u in zip(of_arms, unknown, strict=True)]),
        groups=tuple(group for each in matrices for group in each.groups),
    )


def _with_columns(matrix: OutcomeMatrix, names: Sequence[str]) -> Floats:
    return np.array([matrix.feature(name) for name in names], dtype=np.float64).reshape(len(names), len(matrix)).T


def _check(name: str, values: Floats, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        _refuse(name, f"shape {values.shape}", f"Give {shape}.")
    if np.isinf(values).any():
        _refuse(name, "an infinite value", "Give finite numbers, NaN where one is not known.")
    if name != "features" and (values < 0).any():
        _refuse(name, f"got {np.nanmin(values):g}", "Give numbers from 0 on.")
    if name == "quality" and (values > 1).any():
        _refuse(name, f"got {np.nanmax(values):g}", "Give numbers from 0 to 1.")


def _bytes(values: Floats) -> bytes:
    content = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, and no minus zero
    return content.astype("<f8").tobytes()


def _refuse(field: str, got: str, remedy: str) -> NoReturn:
    raise OutcomesRefused(field, got, remedy=remedy)
