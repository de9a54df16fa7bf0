"""The prior: what is believed of the arms before this installation has seen an outcome, and what it counts for.

A linear model like the learned one, over few features, worth PSEUDO_TASKS tasks. It is read from the JSON shipped
beside this module, which `ttt-router bench prior` makes from outcome matrices.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import PolicyFileDamaged
from policies.gain_model import PRIOR
from policies.gain_models.calibration import Calibration
from policies.gain_models.heads import FLOOR, Head, HeadKind, heads_of
from policies.gain_models.json_fields import Fields, Unreadable
from policies.gain_models.linear_scores import LinearScores
from policies.gain_models.model import LearnedGainModel, Provenance
from policies.gain_models.newton import log_odds_of
from policies.gain_models.past_tasks import PastTasks
from policies.gain_models.scaling import Scaler
from policies.policy_files import version_id_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

PSEUDO_TASKS = 50.0
PRIOR_FEATURES = (  # those that mean the same whatever the model and the tasks; what is held out told no more
    "is_text",
    "n_demonstrations",
    "prompt_tokens",
    "same_shape_share",
    "shown_nll_change",
    "answer_confidence",
    "answer_entropy",
    "answer_margin",
    "vote_agreement",
)
SHIPPED = Path(__file__).with_name("prior.json")
SCHEMA = "gain model prior 1"
MOST_FEATURES, MOST_ARMS = 1_000, 64
UNKNOWN_ARM = 0.1  # chance that an arm nothing is known of is alone right, and that `icl` is

_FIELDS = ("schema", "source", "features", "arms", "heads")
_FEATURE_FIELDS = ("name", "center", "scale", "missing_share")
_HEAD_FIELDS = ("intercept", "coef", "missing")


@dataclass(frozen=True, slots=True)
class Prior:
    """Linear heads over standardised features; d = 1 + 2 n_features, the columns of `Scaler.design`."""

    feature_names: tuple[str, ...]
    arms: tuple[str, ...]  # `icl` among them
    scaler: Scaler
    coef: Floats  # (n_heads, d)
    source: str  # what it was made from

    def of_features(self, names: Collection[str]) -> Prior:
        """Return what it believes where only these features are known: all others stay at their mean."""
        kept = [i for i, name in enumerate(self.feature_names) if name in names]
        n, s = len(self.feature_names), self.scaler
        columns = [0, *(1 + i for i in kept), *(1 + n + i for i in kept)]
        return replace(
            self,
            feature_names=tuple(self.feature_names[i] for i in kept),
            scaler=Scaler(s.center[kept], s.scale[kept], s.missing_share[kept]),
            coef=self.coef[:, columns],
        )

    def scaler_for(self, feature_names: Sequence[str]) -> tuple[Scaler, Floats]:
        """Return its scaler in the order of other features, and what it is worth for each, in tasks: 0 if unknown."""
        places = [self.feature_names.index(n) if n in self.feature_names else -1 for n in feature_names]
        known = np.array([place >= 0 for place in places], dtype=np.bool_)
        neutral = Scaler.neutral(len(places))
        columns = [
            np.where(known, ours[places], theirs) if len(ours) else theirs
            for ours, theirs in (
                (self.scaler.center, neutral.center),
                (self.scaler.scale, neutral.scale),
                (self.scaler.missing_share, neutral.missing_share),
            )
        ]
        return Scaler(*columns), np.where(known, PSEUDO_TASKS, 0.0)

    def coef_for(self, feature_names: Sequence[str], arms: Sequence[str], scaler: Scaler) -> Floats:
        """Return the same heads over other features, arms and scales, (n_heads, d); 0 for features it does not know.

        Raises:
            ValueError: a feature of the prior is not among `feature_names`.
        """
        missing = set(self.feature_names) - set(feature_names)
        if missing:
            raise ValueError(f"the prior reads {', '.join(sorted(missing))}, which is not among the features")
        ours, n, m = self._heads_for(arms), len(self.feature_names), len(feature_names)
        to = np.array([list(feature_names).index(name) for name in self.feature_names], dtype=np.intp)
        per_unit = ours[:, 1 : 1 + n] / self.scaler.scale
        moved = per_unit * (scaler.center[to] - self.scaler.center)
        flags = ours[:, 1 + n :] - moved  # a missing value takes the place of another mean now
        coef = np.zeros((len(ours), 1 + 2 * m))
        coef[:, 0] = ours[:, 0] + np.sum(
            ours[:, 1 + n :] * (1.0 - self.scaler.missing_share) - flags * (1.0 - scaler.missing_share[to]), axis=1
        )
        coef[:, 1 + to] = per_unit * scaler.scale[to]
        coef[:, 1 + m + to] = flags
        return coef

    def model(self, arms: Sequence[str] | None = None) -> LearnedGainModel:
        """Return the gain model that believes this and has seen nothing: its errors are those of PSEUDO_TASKS tasks."""
        arms = self.arms if arms is None else tuple(arms)
        coef = self.coef_for(self.feature_names, arms, self.scaler)
        d = coef.shape[1]
        covariance = np.broadcast_to(np.eye(d) * 4.0 / PSEUDO_TASKS, (len(coef), d, d)).copy()
        return LearnedGainModel(
            name=PRIOR,
            feature_names=self.feature_names,
            arms=arms,
            scaler=self.scaler,
            scores=LinearScores(self.scaler, coef, covariance),
            calibrations=(Calibration(),) * len(coef),
            direct_weight=np.zeros(len(arms)),
            past=PastTasks((), np.zeros((0, len(self.feature_names))), np.zeros((0, len(arms)))),
            provenance=Provenance(0, version_id_of(self.as_json().encode()), self.source, None, ()),
        )

    def as_json(self) -> str:
        """Return it as text for people and `prior_of`."""
        n = len(self.feature_names)
        features = zip(
            self.feature_names, self.scaler.center, self.scaler.scale, self.scaler.missing_share, strict=True
        )
        heads = {
            str(head): {"intercept": c[0], "coef": c[1 : 1 + n].tolist(), "missing": c[1 + n :].tolist()}
            for head, c in zip(heads_of(self.arms), self.coef, strict=True)
        }
        made = {
            "schema": SCHEMA,
            "source": self.source,
            "features": [dict(zip(_FEATURE_FIELDS, feature, strict=True)) for feature in features],
            "arms": self.arms,
            "heads": heads,
        }
        return json.dumps(made, indent=1, allow_nan=False) + "\n"

    def _heads_for(self, arms: Sequence[str]) -> Floats:
        known = dict(zip(heads_of(self.arms), self.coef, strict=True))
        no_idea = np.zeros(self.coef.shape[1])
        no_idea[0] = log_odds_of(UNKNOWN_ARM)
        as_icl = known[Head(HeadKind.CORRECT, FLOOR)]
        return np.array([known.get(h, as_icl if h.kind is HeadKind.CORRECT else no_idea) for h in heads_of(arms)])


def shipped_prior(path: Path = SHIPPED) -> Prior:
    """Return the prior that comes with this release.

    Raises:
        PolicyFileDamaged: the file is no prior.
    """
    return prior_of(path.read_text(encoding="utf-8"), str(path))


def prior_of(text: str, path: str) -> Prior:
    """Return the prior that `text` describes.

    Raises:
        PolicyFileDamaged: it describes none.
    """
    try:
        fields = Fields.parsed(text, "prior", _FIELDS)
        if fields.text("schema") != SCHEMA:
            raise Unreadable(f"its schema is {fields.text('schema')!r}, not {SCHEMA!r}")
        features = fields.objects("features", _FEATURE_FIELDS)
        names, arms = tuple(each.text("name") for each in features), fields.unique_texts("arms", MOST_ARMS)
        if FLOOR not in arms or len(set(names)) != len(names) or len(names) > MOST_FEATURES:
            raise Unreadable(f"it must have {FLOOR!r} among its arms, and different features")
        scaler = Scaler(
            np.array([each.number("center") for each in features]),
            np.array([each.number("scale", low=1e-300) for each in features]),
            np.array([each.number("missing_share", low=0.0, high=1.0) for each in features]),
        )
        heads = fields.inner("heads", [str(head) for head in heads_of(arms)])
        coef = [_coef_of(heads.inner(str(head), _HEAD_FIELDS), len(names)) for head in heads_of(arms)]
    except Unreadable as error:
        raise PolicyFileDamaged(version_id_of(text.encode()), path, str(error)) from error
    return Prior(names, arms, scaler, np.array(coef), fields.text("source"))


def _coef_of(head: Fields, n_features: int) -> Floats:
    intercept = np.array([head.number("intercept")])
    return np.concatenate([intercept, head.numbers("coef", n_features), head.numbers("missing", n_features)])
