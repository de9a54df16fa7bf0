"""What policies would have done with what is known, in the form that the gate judges and the loop watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.abilities import stage_of
from policies.decision import Policy
from policies.feature_values import feature_row
from policies.gate import Sides
from router.learning_rows import AUDITED, Experience

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.gain_model import GainModel

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy as it is used, and the model behind it where there is one."""

    policy: Policy
    model: GainModel | None = None


def sides_of(known: Experience, candidate: Loaded, incumbent: Loaded) -> Sides:
    """Return what candidate and incumbent would have done, as the gate takes it, where both know what they ask for."""
    known = knowing_enough(known, candidate.policy, incumbent.policy)
    return Sides(
        known.rows,
        propensities_of(candidate.policy, known),
        propensities_of(incumbent.policy, known),
        helps(candidate.model, known),
        helps(incumbent.model, known),
    )


def knowing_enough(known: Experience, *policies: object) -> Experience:
    """Return what was decided on all that the policies ask for: of the rest nobody knows what they would have done."""
    enough = [all(stage_of(each, features) is None for each in policies) for features in known.features]
    return known.take(np.array(enough, dtype=bool))


def no_sides(known: Experience) -> Sides:
    """Return the same of no rows at all."""
    none = known.take(np.zeros(len(known), dtype=bool))
    return Sides(none.rows, none.rows.known_p, none.rows.known_p)


def propensities_of(policy: Policy, known: Experience) -> Floats:
    """Return what a policy would have drawn each arm with, (n, n_arms); 0 for an arm that was not offered."""
    found = np.zeros(known.offered.shape)
    for i, features in enumerate(known.features):
        offered = np.flatnonzero(known.offered[i])
        found[i, offered] = policy.propensities(features, [known.rows.arms[j] for j in offered])
    return found


def helps(model: GainModel | None, known: Experience) -> Floats | None:
    """Return the chance that `ttt` is right and `icl` is not, (n,), as a model sees it; None where it says nothing."""
    if model is None or "ttt" not in model.arms or not len(known):
        return None
    only: Floats = model.estimate(rows_for(model, known)).p_only[:, model.arms.index("ttt")]
    return only


def knows_training(known: Experience) -> bool:
    """Tell whether anything is known of an answer after training."""
    return bool(np.isfinite(known.rows.quality[:, known.rows.arms.index(AUDITED)]).any())


def rows_for(model: GainModel, known: Experience) -> Floats:
    """Return the features as a model reads them, (n, n_features)."""
    return np.stack([feature_row(features, model.feature_names) for features in known.features])
