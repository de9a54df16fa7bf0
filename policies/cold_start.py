"""The cold start: the learned policy on the shipped prior, which decides before anything has been learned here.

Its costs are by the work alone, in trainings on a prompt of typical length, whatever these take here. It is named as
every learned policy, with the prior's digest for its model, so that its decisions can be made once more.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from policies.decision import Arm, policy_id
from policies.gain_models.prior import shipped_prior
from policies.learned import LearnedPolicy
from policies.pricing import Pricing

if TYPE_CHECKING:
    from policies.gain_models.model import LearnedGainModel

_VOTES = "vote_agreement"
# mean costs of the tasks that the prior is fitted to, with the embedded model (docs/experiments.md)
_COSTS = ((Arm.ICL_VOTE.value, 0.06), (Arm.TTT.value, 1.0), (Arm.TTT_SHORT.value, 0.31))
_NAMED = re.compile(
    r"learned@1:model=prior-[^,]+,price=([^,]+),costs=[^,]+,tokens=[^,]+,explore=([^,]+),temperature=0.0,"
)


def cold_start(*, price: float, explore: float, votes: bool = False) -> LearnedPolicy:
    """Return the policy that has seen nothing but the outcomes that the prior was made from.

    Args:
        price: quality given up for what `ttt` takes.
        explore: probability that the arms beside the favourite keep together.
        votes: read whether views agree, and ask for views where none were asked.

    Raises:
        PolicyFileDamaged: the prior that comes with this release is damaged.
        PolicySettingRefused: a number that is none of these.
    """
    model = cold_start_model(votes)
    return LearnedPolicy(
        model,
        model.provenance.training_digest[:12],
        Pricing(price, _COSTS, typical_tokens=_mean_tokens(model)),
        explore=explore,
        temperature=0.0,  # it learns nothing from a draw between arms that are alike
    )


def cold_start_named(named: str) -> LearnedPolicy | None:
    """Return the cold start that is called `name@version`; None: it is another policy, or of another release."""
    if (found := _NAMED.match(named)) is None:
        return None
    price, explore = map(float, found.groups())
    either = (cold_start(price=price, explore=explore, votes=votes) for votes in (False, True))
    return next((policy for policy in either if policy_id(policy) == named), None)


@cache
def cold_start_model(votes: bool) -> LearnedGainModel:
    """Return what it believes: the shipped prior, with or without what it reads in votes.

    Raises:
        PolicyFileDamaged: the prior that comes with this release is damaged.
    """
    prior = shipped_prior()
    return (prior if votes else prior.of_features([n for n in prior.feature_names if n != _VOTES])).model()


def _mean_tokens(model: LearnedGainModel) -> float:
    """Return the mean length of the prompts that the prior was made from."""
    return round(float(model.scaler.center[model.feature_names.index("prompt_tokens")]), 1)
