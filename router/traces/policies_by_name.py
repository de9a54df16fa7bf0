"""Policies made again from the `name@version` that a decision carries, so that it can be decided once more."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from policies.decision import Policy, policy_id
from policies.fixed import AlwaysArm
from policies.loo_threshold import LooThreshold
from router.trace_errors import UnknownPolicy

PolicyLoader = Callable[[str], Policy | None]  # from name@version; None: not one of mine


def policy_named(named: str, *, given: Sequence[Policy] = (), loaders: Sequence[PolicyLoader] = ()) -> Policy:
    """Return the policy that is called `named`.

    Args:
        given: policies at hand, such as the router's own.
        loaders: asked in turn for those that are neither given nor built in, such as versions in the ledger.

    Raises:
        UnknownPolicy: nobody knows it.
    """
    for policy in given:
        if policy_id(policy) == named:
            return policy
    for load in (*loaders, _loo_threshold, _always):
        found = load(named)
        if found is not None and policy_id(found) == named:
            return found
    raise UnknownPolicy(named)


def _loo_threshold(named: str) -> Policy | None:
    found = re.fullmatch(r"loo_threshold@1:threshold=([^,]+),sure_at=([^,]+),epsilon=([^,]+)", named)
    if found is None:
        return None
    try:
        threshold, sure_at, epsilon = map(float, found.groups())
        return LooThreshold(threshold, sure_at, epsilon)
    except ValueError:
        return None


def _always(named: str) -> Policy | None:
    found = re.fullmatch(r"always_(\w+)@1", named)
    return None if found is None else AlwaysArm(found[1])
