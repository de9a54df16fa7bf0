"""The policies of this project and the learners they are compared with, as contenders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from policies.baselines import BetaThompson, LinUcb, NearestNeighbours, Standardising, Uniform
from policies.cold_start import cold_start, cold_start_model
from policies.features import FEATURES
from policies.gain_models.fitting import TREES_FROM, fit_gain_model, fit_to_log
from policies.gain_models.heads import Head, HeadKind, heads_of
from policies.gain_models.prior import shipped_prior
from policies.learned import LearnedPolicy
from policies.outcome_matrix import OutcomeMatrix
from policies.pricing import Pricing
from policies.regret_bound import choose_threshold
from policies.replay import choices_of, feature_columns
from policies.stages import Stage
from router.bench.contenders import STRONG, Contender, Fitted, unlooked
from router.bench.matrix import STAGE_COST
from router.learning import LearningSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.gain_models import LearnedGainModel

    Floats = npt.NDArray[np.float64]


EXPLORE = 0.05  # as the settings have it
_PAID_STAGES = (("votes", Stage.VOTES), ("trial", Stage.TRIAL))
_SAID = {Stage.PROBE: "", Stage.HELD_OUT: ", held out", Stage.VOTES: ", with votes", Stage.TRIAL: ", with a trial"}


def features_up_to(matrix: OutcomeMatrix, stage: Stage) -> tuple[str, ...]:
    """Return the matrix's features of the stages up to one; of other people's logs, which know no stages, all."""
    stages = {"is_text": Stage.STRUCTURE, **{feature.name: feature.stage for feature in FEATURES}}
    known = [name for name in matrix.feature_names if name in stages]
    if not known:
        return tuple(name for name in matrix.feature_names if "_cost_s." not in name)
    return tuple(name for name in known if stages[name] <= stage)


def learned(name: str, kind: str, stage: Stage = Stage.PROBE) -> Contender:
    """Return the learned policy on a gain model of this kind; it pays for every stage whose features it reads."""

    def fit(seen: OutcomeMatrix) -> Fitted:
        names = features_up_to(seen, stage)
        usable = "logistic" if kind == "trees" and len(seen) < TREES_FROM else kind  # as the gate would choose
        model = fit_gain_model(usable, seen.of_features(names))

        def policy(price: float) -> LearnedPolicy:
            return LearnedPolicy(model, usable, Pricing.of(seen, price), explore=0.0, temperature=0.0)

        return _as_fitted(policy, model, stage)

    return Contender(name, fit)


def learner(explore: float = EXPLORE) -> Contender:
    """Return what the learning loop fits, without the gate that it has to pass: to the newest rows of a log, as they
    are known, at the stage of the probe.
    """

    def fit(seen: OutcomeMatrix) -> Fitted:
        newest = seen.take(np.arange(len(seen))[-LearningSettings().window :])
        model = fit_to_log(newest.of_features(features_up_to(newest, Stage.PROBE)))

        def policy(price: float) -> LearnedPolicy:
            return LearnedPolicy(model, model.name, Pricing.of(newest, price), explore=explore, temperature=0.0)

        return _as_fitted(policy, model, Stage.PROBE)

    return Contender("the learner", fit)


def shipped(stage: Stage = Stage.PROBE) -> Contender:
    """Return the policy that decides on a fresh installation, as it is, exploring, and fitted to nothing."""
    votes = stage >= Stage.VOTES

    def policy(price: float) -> LearnedPolicy:
        return cold_start(price=price, explore=EXPLORE, votes=votes)

    return Contender(
        f"shipped prior{_SAID[stage]}", lambda _: _as_fitted(policy, cold_start_model(votes), stage), learns=False
    )


def _as_fitted(policy: Callable[[float], LearnedPolicy], model: LearnedGainModel, stage: Stage) -> Fitted:
    return Fitted(
        lambda matrix, price: policy(price).choose(matrix),
        policy(0.0).scores,
        lambda matrix: _chance_of_only(model, matrix),
        lambda matrix: model.estimate(feature_columns(matrix, model.feature_names)).p_correct,
        lambda matrix: with_stages(matrix, stage),
    )


def linucb() -> Contender:
    """Return LinUCB that has been told of every outcome it is fitted on."""

    def fit(seen: OutcomeMatrix) -> Fitted:
        def policy(price: float) -> LinUcb:
            names = features_up_to(seen, Stage.HELD_OUT)  # as one that cannot ask is given
            made = LinUcb(Standardising.of(seen, names), Pricing.of(seen, price), alpha=0.0)
            _tell(made, seen)
            return made

        return Fitted(lambda matrix, price: choices_of(policy(price), matrix), policy(0.0).scores)

    return Contender("LinUCB", fit)


def beta_thompson() -> Contender:
    """Return Thompson sampling that has been told of every outcome it is fitted on, and looks at no task."""

    def fit(seen: OutcomeMatrix) -> Fitted:
        def policy(price: float) -> BetaThompson:
            made = BetaThompson(Pricing.of(seen, price))
            _tell(made, seen)
            return made

        return Fitted(lambda matrix, price: choices_of(policy(price), matrix), cost_s=unlooked)

    return Contender("Beta-Thompson", fit)


def uniform() -> Contender:
    """Return the policy that takes every arm alike, and so need not pay for features."""
    return Contender(
        "uniform",
        lambda _: Fitted(lambda matrix, _: choices_of(Uniform(), matrix), cost_s=unlooked),
    )


def nearest_neighbours() -> Contender:
    """Return the nearest neighbours among what it is fitted on."""

    def fit(seen: OutcomeMatrix) -> Fitted:
        def policy(price: float) -> NearestNeighbours:
            return NearestNeighbours.of(seen, features_up_to(seen, Stage.HELD_OUT), Pricing.of(seen, price))

        return Fitted(lambda matrix, price: choices_of(policy(price), matrix), policy(0.0).scores)

    return Contender("nearest neighbours", fit)


def shipped_contenders(matrix: OutcomeMatrix) -> tuple[Contender, ...]:
    """Return what decides by default first, then what is learned, and the learners to compare them with.

    The shipped prior knows this project's features and arms; on other people's logs there is none.
    """
    prior = shipped_prior()
    ours = set(prior.feature_names) <= set(matrix.feature_names) and set(prior.arms) == set(matrix.arms)
    asked = [stage for name, stage in _PAID_STAGES if f"{STAGE_COST}{name}" in matrix.feature_names]
    stages = [Stage.PROBE, *([Stage.HELD_OUT] if "loo_nll_mean" in matrix.feature_names else []), *asked]
    found = [shipped(stage) for stage in (Stage.PROBE, Stage.VOTES) if stage in stages] if ours else []
    found += [learned(f"learned, logistic{_SAID[stage]}", "logistic", stage) for stage in stages]
    found += [learned(f"learned, trees{_SAID[stage]}", "trees", stage) for stage in stages if stage != Stage.TRIAL]
    return (*found, linucb(), nearest_neighbours(), beta_thompson(), uniform())


def threshold_of_bound(rate: float, scores: Floats, regretted: npt.NDArray[np.bool_]) -> float:
    """Return the threshold that keeps the regret rate of as many further tasks."""
    return choose_threshold(scores, regretted, max_rate=rate, n_future=len(scores)).threshold


def _chance_of_only(model: LearnedGainModel, matrix: OutcomeMatrix) -> Floats:
    place = heads_of(model.arms).index(Head(HeadKind.ONLY, STRONG))
    log_odds = model.scores.log_odds(feature_columns(matrix, model.feature_names))[0]
    chance: Floats = model.chances(log_odds)[:, place]
    return chance


def with_stages(matrix: OutcomeMatrix, stage: Stage) -> Floats:
    """Return the seconds of each arm, (n_rows, n_arms), with what the stages up to one took.

    A matrix knows the probe's seconds with all demonstrations held out, so whoever holds none out pays for it, too.
    """
    costs = matrix.routed_cost_s
    for name, its in _PAID_STAGES:
        if its <= stage:
            costs += np.nan_to_num(matrix.feature(f"{STAGE_COST}{name}"))[:, None]
    return costs


def _tell(policy: LinUcb | BetaThompson, seen: OutcomeMatrix) -> None:
    for row in range(len(seen)):
        features = seen.features_at(row)
        for arm, quality in zip(seen.arms, seen.quality[row].tolist(), strict=True):
            if quality == quality:  # measured
                policy.update(features, arm, quality)
