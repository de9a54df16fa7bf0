"""Whatever a policy can do beyond deciding, every policy that goes by it can do as well, however deep it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass

import pytest

from policies.abilities import check_every, escalates, knows_stages, stage_of, tell_spent, wish_of
from policies.budget import Mixture
from policies.decision import Policy, as_it_is, goes_by
from policies.fixed import AlwaysArm
from policies.pacing import BudgetPacer, PacedPolicy, WithinBudget
from policies.regret_bound import BoundedRegret, RegretBound
from policies.stages import Stage
from policies.wishes import ShareBudget
from router.acting_policy import ActingPolicy, InCharge
from tests.policies.policy_fakes import AblePolicy, named
from tests.policies.test_policy_contract import MAKERS

BUDGET = ShareBudget(("ttt",), 0.5)
BOUND = RegretBound(0.2, 0.05, 0.05, 600, 300, 5)
PLAIN = AlwaysArm("icl")
FEATURES = named(loo_exact_share=0.5)

WRAPPERS: dict[str, Callable[[AblePolicy], Policy]] = {
    "mixture": lambda policy: Mixture(policy, PLAIN, 0.25),
    "mixture, mostly cheap": lambda policy: Mixture(PLAIN, policy, 0.75),
    "bounded regret": lambda policy: BoundedRegret(policy, BOUND),
    "within a budget": lambda policy: WithinBudget(policy, 0.1, BUDGET),
    "paced": lambda policy: PacedPolicy(lambda price: policy, BudgetPacer(BUDGET)),
    "in charge": InCharge,
    "in charge, with a canary": lambda policy: InCharge(policy, PLAIN, 0.1),
    "acting": ActingPolicy,
    "paced, acting, bounded": lambda policy: PacedPolicy(
        lambda price: as_it_is(ActingPolicy(BoundedRegret(policy, BOUND))), BudgetPacer(BUDGET)
    ),
}


@pytest.fixture(params=WRAPPERS)
def wrapped(request: pytest.FixtureRequest) -> tuple[Policy, AblePolicy]:
    policy = AblePolicy()
    return WRAPPERS[request.param](policy), policy


def test_it_asks_for_the_stage_that_the_policy_asks_for(wrapped: tuple[Policy, AblePolicy]) -> None:
    wrapper, policy = wrapped
    policy.stage = Stage.VOTES

    assert stage_of(wrapper, FEATURES) == Stage.VOTES

    policy.stage = None

    assert stage_of(wrapper, FEATURES) is None


def test_it_escalates_where_the_policy_does(wrapped: tuple[Policy, AblePolicy]) -> None:
    wrapper, policy = wrapped
    policy.escalate_below = 0.5

    assert escalates(wrapper, FEATURES, "icl", 0.4)
    assert not escalates(wrapper, FEATURES, "icl", 0.6)
    assert policy.asked_of == [("icl", 0.4), ("icl", 0.6)]


def test_it_has_training_watched_as_the_policy_has(wrapped: tuple[Policy, AblePolicy]) -> None:
    wrapper, policy = wrapped
    policy.check_every = 7

    assert check_every(wrapper) == 7


def test_it_has_the_policy_count_each_task_once(wrapped: tuple[Policy, AblePolicy]) -> None:
    wrapper, policy = wrapped
    tell_spent(wrapper, "ttt", 3.0)

    assert policy.counted == [("ttt", 3.0)]


def test_it_says_what_is_asked_of_it_or_of_the_policy(wrapped: tuple[Policy, AblePolicy]) -> None:
    wrapper, policy = wrapped
    own = [str(BUDGET)] if "paced" in wrapper.name else []
    own += ["max_regret_rate = 0.05"] if "bounded_regret" in wrapper.name else []

    assert wish_of(wrapper) == (own or [policy.wish])[0]


@pytest.mark.parametrize("make", list(WRAPPERS.values()), ids=list(WRAPPERS))
def test_over_a_policy_that_can_only_decide_it_asks_for_nothing(make: Callable[[Policy], Policy]) -> None:
    wrapper = make(PLAIN)
    tell_spent(wrapper, "ttt", 3.0)

    assert stage_of(wrapper, FEATURES) is None
    assert not escalates(wrapper, FEATURES, "icl", 0.0)
    assert check_every(wrapper) is None


def test_it_knows_of_stages_where_all_that_it_goes_by_do(wrapped: tuple[Policy, AblePolicy]) -> None:
    wrapper, policy = wrapped
    over_plain = any(each is PLAIN for each in goes_by(as_it_is(wrapper)))

    assert knows_stages(policy)
    assert knows_stages(wrapper) is not over_plain
    assert not knows_stages(PLAIN)


def test_of_two_the_cheaper_stage_comes_first_and_the_first_has_the_say_over_training() -> None:
    champion, canary = AblePolicy(), AblePolicy()
    champion.stage, canary.stage = Stage.TRIAL, Stage.VOTES
    champion.check_every, canary.check_every = 3, 5
    canary.escalate_below = 1.0
    both = InCharge(champion, canary, 0.1)
    tell_spent(both, "icl", 1.0)

    assert stage_of(both, FEATURES) == Stage.VOTES
    assert check_every(both) == 3
    assert not escalates(both, FEATURES, "icl", 0.5)
    assert champion.counted == canary.counted == [("icl", 1.0)]


def test_a_paced_policy_counts_for_itself_as_well_as_for_the_policy() -> None:
    policy, pacer = AblePolicy(), BudgetPacer(BUDGET)
    tell_spent(PacedPolicy(lambda price: policy, pacer), "ttt", 1.0)

    assert pacer.price > 0.0
    assert policy.counted == [("ttt", 1.0)]


@pytest.mark.parametrize(
    ("budget", "may"), [(ShareBudget(("ttt",), 0.5), False), (ShareBudget(("icl_vote",), 0.5), True)]
)
def test_while_a_budget_is_used_up_nothing_escalates_to_what_it_counts(budget: ShareBudget, may: bool) -> None:
    policy = AblePolicy()
    policy.escalate_below = 1.0

    assert escalates(WithinBudget(policy, 0.1, budget, exhausted=True), FEATURES, "icl", 0.5) is may


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_every_policy_that_holds_others_says_that_it_goes_by_them(make: Callable[[], Policy]) -> None:
    policy = as_it_is(make())

    assert set(map(id, _held(policy))) <= set(map(id, goes_by(policy)))


def _held(policy: object) -> Iterator[object]:
    """Yield the policies among the fields of a policy."""
    for field in fields(policy) if is_dataclass(policy) else ():
        value = getattr(policy, field.name)
        if hasattr(value, "decide") and hasattr(value, "propensities"):
            yield value
