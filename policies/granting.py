"""From what a user asks for to the policy that does it, on tasks that all arms have answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.budget import meet_budget
from policies.decision import Policy
from policies.learned import LearnedPolicy
from policies.regret_bound import BoundedRegret, bound_on
from policies.wishes import Price, RegretLimit, Wish

if TYPE_CHECKING:
    from policies.outcome_matrix import OutcomeMatrix


def granted(wish: Wish, policy: LearnedPolicy, matrix: OutcomeMatrix) -> Policy:
    """Return `policy` at the price, within the budget or under the bound that is wished for.

    Args:
        matrix: tasks like those to come, which the policy's model was not fitted on.

    Raises:
        BudgetUnreachable: the policy spends more than the budget at any price.
    """
    if isinstance(wish, Price):
        return policy.at_price(wish.price)
    if isinstance(wish, RegretLimit):
        bound = bound_on(policy, matrix, max_rate=wish.max_rate)
        return BoundedRegret(policy, bound, explore=policy.explore)
    return meet_budget(policy.at_price, matrix, wish)
