"""Learned policies as the learning loop keeps them: how a candidate is fitted, what its file holds, how it is loaded.

The file is that of its gain model; price, exploration and mean costs stand in it as the model's settings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Policy, at_price, policy_id
from policies.errors import PolicyFileDamaged, UnknownTrace
from policies.features import ASKED_FOR, SCHEMA_HASH
from policies.gain_models import as_bytes, model_of
from policies.gate import GateRules
from policies.learned import LearnedPolicy
from policies.loo_threshold import LooThreshold
from policies.outcome_splits import family_folds
from policies.pricing import Pricing
from policies.stages import Stage
from router.granting import granting
from router.hindsight import Loaded
from router.learning import Fit, Learner, LearningSettings
from router.learning_rows import RowRules
from router.policy_seal import content_of
from router.trace import Trace

if TYPE_CHECKING:
    from policies.gain_model import GainModel
    from policies.ledger import Ledger
    from policies.outcome_matrix import OutcomeMatrix
    from router.settings import Settings
    from router.tuning import Setting

TREES_FROM = 3000  # outcomes of any task; below, logistic regression tells more of families it has not seen
N_FOLDS = 5
_NEARLY_ALL = 0.9  # of the outcomes
_COST = "mean_cost_s."
_LEARNED = re.compile(r"learned@1:model=[^,]+,price=([^,]+),")
_LOOKED_THROUGH = 100  # decisions, for one whose trace is kept


def learner_of(
    settings: Settings, ledger: Ledger, *, model_fingerprint: str | None = None, first: Policy | None = None
) -> Learner:
    """Return the learning loop with this project's gain models.

    Args:
        first: decides until there is a champion; default: the settings' first policy.
    """
    first = first or settings.first_policy
    return Learner(
        ledger,
        fit=fit_with(price=settings.price, explore=settings.explored_share, temperature=settings.temperature),
        load=load,
        prior=Loaded(first, first.model if isinstance(first, LearnedPolicy) else None),
        model_fingerprint=model_fingerprint,
        settings=LearningSettings(gate=GateRules(price=settings.price), rows=RowRules(arms=settings.learned_arms)),
        fallback=LooThreshold(threshold=settings.loo_threshold, epsilon=min(1.0, 0.2 * len(settings.arms))),
        act_as=granting(settings),
    )


def model_in(ledger: Ledger) -> str | None:
    """Return the fingerprint of the base model of the newest decision whose trace is kept; None: there is none."""
    for row in ledger.latest(_LOOKED_THROUGH):
        try:
            return Trace.read(ledger.trace(row.decision_id).document).model_fingerprint
        except UnknownTrace:
            continue
    return None


def fit_with(*, price: float, explore: float, temperature: float) -> Fit:
    """Return what makes a policy's content from outcomes in the order of time."""

    def fit(matrix: OutcomeMatrix) -> bytes:
        from policies.gain_models.fitting import fit_to_log  # loads scikit-learn

        matrix = matrix.of_features(_told(matrix))
        means = {_COST + arm: seconds for arm, seconds in Pricing.of(matrix, price).mean_cost_s}
        kept = {"price": price, "explore": explore, "temperature": temperature, "n_outcomes": len(matrix), **means}
        return as_bytes(fit_to_log(matrix, feature_schema=SCHEMA_HASH, settings=kept))

    return fit


def _told(matrix: OutcomeMatrix) -> list[str]:
    """Return the features that there is something to learn from: of a stage that has to be asked for, what nearly all
    outcomes know. Whoever reads a feature asks for it, and then decides on other grounds than outcomes without it show.
    """
    known = (~np.isnan(matrix.features)).sum(axis=0)
    least = {name: _NEARLY_ALL * len(matrix) if name in ASKED_FOR else 1 for name in matrix.feature_names}
    return [name for name, n in zip(matrix.feature_names, known, strict=True) if n and n >= least[name]]


def load(content: bytes) -> Loaded:
    """Return the policy that `fit_with` made.

    Raises:
        PolicyFileDamaged: the content is damaged, was made for other features, or lacks a setting.
    """
    model = model_of(content, feature_schema=SCHEMA_HASH)
    kept = dict(model.provenance.settings)
    digest = hashlib.sha256(content).hexdigest()
    try:
        policy = LearnedPolicy(
            model,
            digest[:12],
            Pricing(kept["price"], _mean_costs(kept)),
            explore=kept["explore"],
            temperature=kept["temperature"],
            n_outcomes=int(kept["n_outcomes"]),
        )
    except KeyError as error:
        raise PolicyFileDamaged(digest, "gain model", f"it keeps no setting {error}") from error
    return Loaded(policy, model)


def policy_of(ledger: Ledger, version_id: str) -> Policy:
    """Return the policy that a version of the ledger is.

    Raises:
        UnknownVersion: there is no such version.
        PolicyFileDamaged: its file is damaged, or holds no policy of ours.
    """
    return load(content_of(ledger.policy_versions.load(version_id))[1]).policy


def version_named(named: str, ledger: Ledger) -> Policy | None:
    """Return the policy of the ledger that is called `name@version`, at the price that this names, to decide once more
    with; None: there is none.
    """
    if (found := _LEARNED.match(named)) is None:
        return None
    for version in ledger.policy_versions.all():
        try:
            policy = policy_of(ledger, version.version_id)
        except PolicyFileDamaged:
            continue
        policy = at_price(policy, float(found[1]))
        if policy_id(policy) == named:
            return policy
    return None


def replay_on(matrix: OutcomeMatrix, *, seed: int = 0) -> Callable[[Setting], tuple[float, float]]:
    """Return what a setting comes to on families that its model was not fitted on: accuracy, and cost in mean costs of
    `ttt`. The models are fitted once, however many settings are tried, on the features of the probe and, where votes
    were measured, on theirs, which are then charged to every task.

    Raises:
        OutcomesRefused: there is only one family.
    """
    from router.bench.matrix import STAGE_COST
    from router.bench.shipped_contenders import features_up_to, with_stages

    stage = Stage.VOTES if f"{STAGE_COST}votes" in matrix.feature_names else Stage.HELD_OUT
    read = matrix.of_features(_told(matrix.of_features(features_up_to(matrix, stage))))
    cost_s = np.nan_to_num(with_stages(matrix, stage))
    splits = family_folds(matrix, N_FOLDS, np.random.default_rng(seed))
    fitted: list[GainModel] = []
    unit = dict(Pricing.of(matrix, 0.0).mean_cost_s)["ttt"]

    def replay(setting: Setting) -> tuple[float, float]:
        from policies.gain_models.fitting import fit_gain_model

        if not fitted:
            fitted.extend(fit_gain_model(_kind_for(len(split.fit)), read.take(split.fit)) for split in splits)
        right = spent = 0.0
        for split, model in zip(splits, fitted, strict=True):
            judged = read.take(split.judge)  # the prior knows votes: it must not see those that are not charged
            policy = LearnedPolicy(
                model,
                "tuned",
                Pricing.of(matrix.take(split.fit), setting.price),
                explore=setting.explore,
                temperature=setting.temperature,
                n_outcomes=len(split.fit),
            )
            chosen = policy.choose(judged)
            right += float(np.sum(chosen * np.nan_to_num(judged.quality)))
            spent += float(np.sum(chosen * cost_s[list(split.judge)]))
        return right / len(matrix), spent / len(matrix) / unit

    return replay


def read_matrix(path: Path) -> OutcomeMatrix:
    """Read outcomes from a CSV or parquet file.

    Raises:
        OutcomesRefused: a column or a number is missing or cannot be.
    """
    from policies.outcome_files import read_outcomes

    return read_outcomes(path)


def _kind_for(n_outcomes: int) -> str:
    return "trees" if n_outcomes >= TREES_FROM else "logistic"


def _mean_costs(kept: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(
        sorted((name.removeprefix(_COST), seconds) for name, seconds in kept.items() if name.startswith(_COST))
    )
