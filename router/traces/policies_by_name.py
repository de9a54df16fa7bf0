"""Policies made again from the `name@version` that a decision carries, so that it can be decided once more.

The name of a policy that goes by others holds theirs: it is taken apart, and each part is made again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

from policies.decision import Policy, policy_id
from policies.errors import PolicySettingRefused
from policies.fixed import AlwaysArm
from policies.loo_threshold import LooThreshold
from router.trace_errors import UnknownPolicy

PolicyLoader = Callable[[str], Policy | None]  # from name@version; None: not one of mine
Find = Callable[[str], Policy]

_PACED = re.compile(
    r"(?P<name>.+?)_paced@(?P<version>.+),budget=\((?P<budget>[^()]*)\),at=(?P<price>[^,]+)(,only=(?P<only>.+))?"
)
_CANARY = re.compile(r"(?P<champion>.+?)\+canary:(?P<share>[^:]+):(?P<canary>.+)")
_BOUNDED = re.compile(r"bounded_regret@2:scores=\((?P<scorer>.+)\),bound=(?P<bound>[^,]+),explore=(?P<explore>[^,]+)")
_LOO_THRESHOLD = re.compile(r"loo_threshold@1:threshold=([^,]+),sure_at=([^,]+),epsilon=([^,]+)")
_ALWAYS = re.compile(r"always_(\w+)@1")


def policy_named(named: str, *, given: Sequence[Policy] = (), loaders: Sequence[PolicyLoader] = ()) -> Policy:
    """Return the policy that is called `named`.

    Args:
        given: policies at hand, such as the router's own.
        loaders: asked in turn for those that are neither given nor built in, such as versions in the ledger.

    Raises:
        UnknownPolicy: nobody knows it, or one that it goes by.
    """

    def find(part: str) -> Policy:
        return policy_named(part, given=given, loaders=loaders)

    for policy in given:
        if policy_id(policy) == named:
            return policy
    builders = (_paced, _with_canary, _bounded, _cold_start, _loo_threshold, _always)
    makers: list[PolicyLoader] = [*loaders, *(partial(build, find=find) for build in builders)]
    for make in makers:
        with suppress(ValueError, PolicySettingRefused):  # numbers that are none, or that no policy takes
            if _is_named(found := make(named), named):
                return cast("Policy", found)
    raise UnknownPolicy(named)


def _is_named(policy: Policy | None, named: str) -> bool:
    return policy is not None and policy_id(policy) == named


def _paced(named: str, find: Find) -> Policy | None:
    from policies.pacing import WithinBudget
    from policies.wishes import SecondsBudget, ShareBudget, read_wish

    if (found := _PACED.fullmatch(named)) is None:
        return None
    budget = read_wish(found["budget"])
    if not isinstance(budget, ShareBudget | SecondsBudget):
        return None
    policy, only = find(f"{found['name']}@{found['version']}"), found["only"]
    made = WithinBudget(policy, float(found["price"]), budget)
    return made if only is None else WithinBudget(policy, made.price, budget, True, tuple(only.split("+")))


def _with_canary(named: str, find: Find) -> Policy | None:
    from router.acting_policy import InCharge

    if (found := _CANARY.fullmatch(named)) is None:
        return None
    return InCharge(find(found["champion"]), find(found["canary"]), float(found["share"]))


def _bounded(named: str, find: Find) -> Policy | None:
    from policies.regret_bound import BoundedRegret, bound_from
    from policies.replay import Scorer

    if (found := _BOUNDED.fullmatch(named)) is None:
        return None
    scorer: object = find(found["scorer"])
    return (
        BoundedRegret(scorer, bound_from(found["bound"]), float(found["explore"]))
        if isinstance(scorer, Scorer)
        else None
    )


def _cold_start(named: str, find: Find) -> Policy | None:
    from policies.cold_start import cold_start_named

    return cold_start_named(named)


def _loo_threshold(named: str, find: Find) -> Policy | None:
    if (found := _LOO_THRESHOLD.fullmatch(named)) is None:
        return None
    threshold, sure_at, epsilon = map(float, found.groups())
    return LooThreshold(threshold, sure_at, epsilon)


def _always(named: str, find: Find) -> Policy | None:
    return None if (found := _ALWAYS.fullmatch(named)) is None else AlwaysArm(found[1])
