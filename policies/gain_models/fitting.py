"""Fitting gain models to outcomes: heads, calibration on what is held out, and the mix of two ways to a gain.

Held out are families, where the outcomes were collected to tell of any task; or runs of rows, where they are the log of
a router (`fit_to_log`). Deterministic: the same rows, weights and seed give the same model. Trees and isotonic curves
load scikit-learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import RecordRefused
from policies.gain_model import PRIOR
from policies.gain_models.calibration import Calibration, fit_calibration, fit_sigmoid
from policies.gain_models.folds import family_folds, run_folds
from policies.gain_models.forest import ForestScores, Nodes
from policies.gain_models.heads import FLOOR, Head, HeadKind, heads_of, mixtures_of, targets_of
from policies.gain_models.linear_heads import FOLDS_FROM, fit_linear_heads
from policies.gain_models.linear_scores import LinearScores
from policies.gain_models.model import LearnedGainModel, Provenance
from policies.gain_models.past_tasks import PastTasks
from policies.gain_models.prior import PSEUDO_TASKS, Prior, shipped_prior
from policies.gain_models.scaling import Scaler

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]
    Folds = npt.NDArray[np.int64]

KINDS = (PRIOR, "logistic", "trees")
FEW_ROWS = 300  # below it only the features that the prior knows are used
N_FOLDS, N_TREE_FOLDS = 5, 4
TREES_FROM = 200  # rows
_SURE = 1e-6  # no chance is taken to be nearer to 0 or 1
RISES_WITH = "loo_exact_share"  # the better it is, the likelier every arm is right, and the less an arm alone is


def fit_gain_model(
    kind: str,
    matrix: OutcomeMatrix,
    *,
    prior: Prior | None = None,
    seed: int = 0,
    parent: str | None = None,
    feature_schema: str = "",
    settings: Mapping[str, float] = MappingProxyType({}),
) -> LearnedGainModel:
    """Fit a model of one kind over the arms and features of `matrix`.

    Args:
        kind: `prior` takes the prior as it is; `logistic` moves from it as outcomes come in; `trees` (boosted) start
            anew.
        prior: None: the one that is shipped.
        seed: for the sample of past tasks that is kept.
        parent: version id of the policy it is to replace.
        feature_schema: what the features mean, such as `policies.SCHEMA_HASH`.
        settings: numbers that a policy keeps with its model.

    Raises:
        RecordRefused: the matrix cannot be fitted to, or there is no such kind.
    """
    prior = shipped_prior() if prior is None else prior
    _check(kind, matrix)
    made_from = _provenance(matrix, parent, feature_schema, settings)
    return _fitted(kind, matrix, prior, made_from, family_folds, seed).model


def fit_to_log(
    matrix: OutcomeMatrix, *, feature_schema: str = "", settings: Mapping[str, float] = MappingProxyType({})
) -> LearnedGainModel:
    """Fit to what a router was told of its tasks, rows in the order of time: `logistic` or `trees`, whichever predicts
    runs of rows that are held out better.

    All rows count alike, whatever the chance with which an arm was drawn: it hangs on the features, which the model
    knows as well, and to weigh by its inverse would leave a fraction of the rows.

    Raises:
        RecordRefused: the matrix cannot be fitted to.
    """
    _check("logistic", matrix)
    made_from = _provenance(matrix, None, feature_schema, settings)
    kinds = ("logistic", "trees") if len(matrix) >= TREES_FROM else ("logistic",)
    fits = [_fitted(kind, matrix, shipped_prior(), made_from, _runs, 0) for kind in kinds]
    judged = np.all([~np.isnan(fit.unseen) for fit in fits], axis=0) & ~np.isnan(matrix.quality)
    return min(fits, key=lambda fit: _loss(fit.unseen[judged], matrix.quality[judged])).model  # of equal ones the first


@dataclass(frozen=True, slots=True)
class _Fit:
    model: LearnedGainModel
    unseen: Floats  # (n_rows, n_arms), the chance that an arm is right, said of rows that were held out; else NaN


def _runs(matrix: OutcomeMatrix, n_folds: int) -> Folds:
    return run_folds(len(matrix), n_folds)


def _fitted(
    kind: str,
    matrix: OutcomeMatrix,
    prior: Prior,
    made_from: Provenance,
    folds_of: Callable[[OutcomeMatrix, int], Folds],
    seed: int,
) -> _Fit:
    # a feature that no row knows is not read: a policy would ask for it where none of its rows had it
    prior = prior.of_features(_known_features(matrix))
    if kind == PRIOR:
        return _Fit(replace(prior.model(matrix.arms), provenance=made_from), np.full_like(matrix.quality, np.nan))
    scores: LinearScores | ForestScores
    if kind == "logistic":
        matrix = _with_features_of(prior, matrix)
        scaler, scores, unseen = _linear_scores(matrix, prior, folds_of(matrix, N_FOLDS))
    else:
        scaler, scores, unseen = _forest_scores(matrix, folds_of(matrix, N_TREE_FOLDS))
    targets = targets_of(matrix)
    calibrations = tuple(_calibrated(unseen[:, i], targets[:, i], fit_calibration) for i in range(len(targets.T)))
    chances = np.column_stack([curve.chance(unseen[:, i]) for i, curve in enumerate(calibrations)])
    model = LearnedGainModel(
        name=kind,
        feature_names=matrix.feature_names,
        arms=matrix.arms,
        scaler=scaler,
        scores=scores,
        calibrations=calibrations,
        direct_weight=_direct_weight(matrix, chances),
        past=PastTasks.sampled(matrix, np.random.default_rng(seed)),
        provenance=made_from,
    )
    return _Fit(model, chances[:, : len(matrix.arms)])


def _loss(chances: Floats, quality: Floats) -> float:
    """Return the cross-entropy of what was held out, in nats, of outcomes (n,) and the chances said of them."""
    p = np.clip(chances, _SURE, 1.0 - _SURE)
    return float(-np.sum(quality * np.log(p) + (1.0 - quality) * np.log1p(-p)))


def _provenance(
    matrix: OutcomeMatrix, parent: str | None, feature_schema: str, settings: Mapping[str, float]
) -> Provenance:
    return Provenance(
        n_rows=len(matrix),
        training_digest=training_digest(matrix),
        feature_schema=feature_schema,
        parent=parent,
        made_with=tuple((name, version(name)) for name in ("numpy", "scikit-learn")),
        settings=tuple(sorted((name, float(value)) for name, value in settings.items())),
    )


def make_prior(matrix: OutcomeMatrix, feature_names: Sequence[str], *, source: str) -> Prior:
    """Return the prior that public outcomes speak for: a logistic model of a few features, its calibration worked in.

    Args:
        feature_names: a dozen that mean the same everywhere.
        source: what the matrix is, for people.

    Raises:
        RecordRefused: as for `fit_gain_model`.
    """
    _check("logistic", matrix)
    matrix = _with_columns(matrix, tuple(feature_names))
    d = 1 + 2 * len(feature_names)
    nothing = Prior((), matrix.arms, Scaler.neutral(0), np.zeros((len(heads_of(matrix.arms)), 1)), "nothing")
    scaler, scores, unseen = _linear_scores(matrix, nothing, family_folds(matrix, N_FOLDS))
    targets = targets_of(matrix)
    coef = np.zeros((len(targets.T), d))
    for i in range(len(coef)):
        sigmoid = _calibrated(unseen[:, i], targets[:, i], fit_sigmoid)
        coef[i] = sigmoid.slope * scores.coef[i]
        coef[i, 0] += sigmoid.offset
    return Prior(matrix.feature_names, matrix.arms, scaler, coef, source)


def training_digest(matrix: OutcomeMatrix) -> str:
    """Return the SHA-256 of the rows that a model is fitted to."""
    digest = hashlib.sha256()
    for names in (matrix.tasks, matrix.families, matrix.arms, matrix.feature_names, map(str, matrix.seeds)):
        digest.update("\0".join(names).encode() + b"\1")
    for numbers in (matrix.quality, matrix.features):
        digest.update(np.where(np.isnan(numbers), np.nan, numbers).astype("<f8").tobytes())
    return digest.hexdigest()


def _check(kind: str, matrix: OutcomeMatrix) -> None:
    if kind not in KINDS:
        raise RecordRefused("kind", f"got {kind!r}", remedy=f"Give one of {', '.join(KINDS)}.")
    if FLOOR not in matrix.arms:
        raise RecordRefused("matrix.arms", f"no {FLOOR!r}", remedy="Gains are counted from it: measure it as well.")
    if kind == "trees" and len(matrix) < TREES_FROM:
        raise RecordRefused("matrix", f"{len(matrix)} rows", remedy=f"Trees need {TREES_FROM}: fit `logistic`.")
    measured = matrix.quality[~np.isnan(matrix.quality)]
    if np.any((measured < 0.0) | (measured > 1.0)):
        raise RecordRefused("matrix.quality", "a value outside [0, 1]", remedy="Scale qualities to 0..1.")
    if np.any(np.isinf(matrix.features)):
        raise RecordRefused("matrix.features", "an infinite value", remedy="Clip it, or give NaN for not known.")


def _known_features(matrix: OutcomeMatrix) -> tuple[str, ...]:
    known = ~np.isnan(matrix.features).all(axis=0) if len(matrix) else np.ones(len(matrix.feature_names), dtype=bool)
    return tuple(matrix.feature_names[i] for i in np.flatnonzero(known))


def _with_features_of(prior: Prior, matrix: OutcomeMatrix) -> OutcomeMatrix:
    """Return the matrix with the columns that the prior knows alone, or all if there is enough to learn them from."""
    return matrix if len(matrix) >= FEW_ROWS else _with_columns(matrix, prior.feature_names)


def _with_columns(matrix: OutcomeMatrix, names: tuple[str, ...]) -> OutcomeMatrix:
    unknown = np.full(len(matrix), np.nan)
    columns = [
        matrix.features[:, matrix.feature_names.index(name)] if name in matrix.feature_names else unknown
        for name in names
    ]
    features = np.column_stack(columns) if columns else np.zeros((len(matrix), 0))
    return replace(matrix, feature_names=names, features=features)


def _linear_scores(matrix: OutcomeMatrix, prior: Prior, folds: Folds) -> tuple[Scaler, LinearScores, Floats]:
    """Return the scaler, the heads, and their scores of folds they had not seen, (n_rows, n_heads), else NaN."""
    before, worth = prior.scaler_for(matrix.feature_names)
    scaler = Scaler.of(matrix.features, np.ones(len(matrix)), before=before, worth=worth)
    believed, targets = prior.coef_for(matrix.feature_names, matrix.arms, scaler), targets_of(matrix)
    fit = fit_linear_heads(
        scaler.design(matrix.features),
        targets,
        (~np.isnan(targets)).astype(np.float64),
        folds,
        kinds=[head.kind for head in heads_of(matrix.arms)],
        believed=believed,
        l2=PSEUDO_TASKS / 4.0,
    )
    return scaler, LinearScores(scaler, fit.coef, fit.covariance), fit.unseen


def _forest_scores(matrix: OutcomeMatrix, folds: Folds) -> tuple[Scaler, ForestScores, Floats]:
    """Return the scaler, the heads, and their scores of folds they had not seen, (n_rows, n_heads)."""
    from threadpoolctl import threadpool_limits

    from policies.gain_models.estimators import BoostedTreesRegressor

    heads, targets = heads_of(matrix.arms), targets_of(matrix)
    unseen = np.full_like(targets, np.nan)
    nodes, ensemble, intercept = [], [], np.zeros((len(heads), N_TREE_FOLDS))
    least_error = np.zeros(len(heads))
    for i, head in enumerate(heads):
        known = ~np.isnan(targets[:, i])
        least_error[i] = _error_of_mean(targets[known, i])
        trees = BoostedTreesRegressor(bounds=(0.0, 1.0), monotonic=_monotonic(head, matrix.feature_names))
        for fold in range(N_TREE_FOLDS):
            fitted, held_out = known & (folds != fold), known & (folds == fold)
            if fitted.any():
                with threadpool_limits(1, user_api="openmp"):  # no slower, and no core is kept from whoever answers
                    trees.fit(matrix.features[fitted], targets[fitted, i])
                nodes.append(trees.nodes_)
                ensemble.append(np.full(len(trees.nodes_.roots), i * N_TREE_FOLDS + fold))
                intercept[i, fold] = trees.intercept_
                unseen[held_out, i] = trees.log_odds(matrix.features[held_out])
    joined = Nodes.joined(nodes)
    scaler = Scaler.of(matrix.features, np.ones(len(matrix)))
    forest = ForestScores(
        nodes=joined,
        ensemble=np.concatenate([np.zeros(0), *ensemble]).astype(np.int32),
        intercept=intercept,
        least_error=least_error,
        n_features=len(matrix.feature_names),
        depth=joined.depth(),
    )
    return scaler, forest, unseen


def _error_of_mean(targets: Floats) -> float:
    """Return the standard error of the log-odds of the mean, with half a success and half a failure on top."""
    mass, right = len(targets) + 1.0, targets.sum() + 0.5
    return float(np.sqrt(mass / (right * (mass - right))))


def _monotonic(head: Head, feature_names: Sequence[str]) -> list[int]:
    """Return the direction of each feature: as `icl` does better on the demonstrations, `only` may not rise, and all
    other heads may not fall.
    """
    return [(-1 if head.kind is HeadKind.ONLY else 1) if name == RISES_WITH else 0 for name in feature_names]


def _calibrated(log_odds: Floats, targets: Floats, fit: Callable[[Floats, Floats, Floats], Calibration]) -> Calibration:
    """Return the calibration of one head; the scores as they are where too few were held out."""
    known = ~np.isnan(log_odds) & ~np.isnan(targets)
    if known.sum() < FOLDS_FROM:
        return Calibration()
    return fit(log_odds[known], targets[known], np.ones(known.sum()))


def _direct_weight(matrix: OutcomeMatrix, chances: Floats) -> Floats:
    """Return how much of each arm's gain is taken from its own heads, (n_arms,): what predicts gains that are held out
    best, by least squares held towards 0 as by PSEUDO_TASKS tasks.

    Towards 0, since few tasks say little of heads that neither rise nor fall with what the model finds hard: where
    `icl` is sure it needs no training, and where nothing helps it is least sure. The difference of two falling curves
    is such a hump, and one linear head is not. With many tasks the heads of their own may win.
    """
    floor = matrix.column(FLOOR)
    found = np.zeros(len(matrix.arms))
    for j, (direct, indirect) in enumerate(zip(*(mixture.T for mixture in mixtures_of(matrix.arms)), strict=True)):
        gain = matrix.quality[:, j] - matrix.quality[:, floor]
        used = (direct != 0.0) | (indirect != 0.0)
        known = ~np.isnan(gain) & ~np.isnan(chances[:, used]).any(axis=1)
        if j == floor or not known.any():
            continue
        by_difference = chances[np.ix_(known, used)] @ indirect[used]
        apart = chances[np.ix_(known, used)] @ direct[used] - by_difference
        squares = np.sum(apart**2) * (1.0 + PSEUDO_TASKS / known.sum())
        if squares > 0.0:
            found[j] = np.clip(np.sum(apart * (gain[known] - by_difference)) / squares, 0.0, 1.0)
    return found
