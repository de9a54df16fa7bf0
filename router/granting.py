"""What the user asks for, granted where a task is decided on: a price, a budget over the tasks that come, or a bound on
what is missed. How far it is kept is read off the ledger, so that it outlives the process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.decision import Arm, Policy, as_it_is, at_price
from policies.features import SCHEMA_HASH
from policies.pacing import BudgetPacer, PacedPolicy, arm_charged
from policies.regret_bound import MIN_CALIBRATION, BoundedRegret, bound_from, bound_on, nothing_shown
from policies.replay import Scorer
from policies.wishes import Budget, Price, RegretLimit, ShareBudget
from router.hindsight import knowing_enough
from router.learning_rows import Experience, ExperienceReader, RowRules, counted_since

if TYPE_CHECKING:
    from policies.ledger import Ledger
    from policies.outcome_matrix import OutcomeMatrix
    from policies.regret_bound import RegretBound
    from policies.trace_log import TraceSummary
    from router.learning import ActAs, Known
    from router.settings import Settings

_DELTA = 0.05  # probability of promising too much for one scorer, over all looks at the evidence
_LOOKED_AT = 2000  # latest traces, for what has been spent
_LOOKED_THROUGH = 100  # latest decisions, for one under the bound that is asked for


@dataclass(frozen=True, slots=True)
class Kept:
    """How far a wish is kept."""

    wish: str
    said: str


def granting(settings: Settings) -> ActAs:
    """Return what makes a policy keep to a price or a bound that the settings ask for; a budget is over all tasks,
    whoever decides (`paced`).
    """
    wish = settings.wish

    def act_as(policy: Policy, trained_to_seq: int, known: Known | None) -> Policy:
        if isinstance(wish, Price):
            return at_price(policy, wish.price)
        if isinstance(wish, RegretLimit) and isinstance(policy, Scorer):
            rows = None if known is None else _unpicked(knowing_enough(known(), policy), after_seq=trained_to_seq)
            bound = nothing_shown(wish.max_rate) if rows is None else bound_shown(policy, rows, wish.max_rate)
            return BoundedRegret(policy, bound, explore=settings.explored_share)
        return policy

    return act_as


def without_learner(
    policy: Policy, settings: Settings, ledger: Ledger | None, *, model_fingerprint: str | None
) -> Policy:
    """Return a policy that was fitted on nothing in the ledger, made to keep to a price or a bound that the settings
    ask for.
    """
    known = None if ledger is None else known_to(ledger, settings, model_fingerprint=model_fingerprint)
    return granting(settings)(policy, 0, known)


def known_to(ledger: Ledger, settings: Settings, *, model_fingerprint: str | None) -> Known:
    """Return what reads what a ledger knows by now, of decisions made for the model and features in use."""
    rules = RowRules(arms=settings.learned_arms)
    reader = ExperienceReader(ledger, rules, model_fingerprint=model_fingerprint, schema=SCHEMA_HASH)
    return lambda: reader.read(since=counted_since(ledger))


def paced(policy: Policy, settings: Settings, ledger: Ledger | None) -> Policy:
    """Return the policy at whatever price keeps the budget that is asked for; as it is where none is."""
    wish = settings.wish
    if wish is None or isinstance(wish, Price | RegretLimit):
        return policy
    pacer = pacer_of(wish, () if ledger is None else _under(wish, ledger), price=settings.price)
    return PacedPolicy(lambda price: at_price(as_it_is(policy), price), pacer)


def pacer_of(budget: Budget, spent: tuple[TraceSummary, ...], *, price: float) -> BudgetPacer:
    """Return the pacer of a budget after these tasks.

    Args:
        spent: under this budget, oldest first.
        price: to begin with.
    """
    pacer = BudgetPacer(budget, price=price)
    for each in spent:
        pacer.spent(arm_charged(each.arm, each.answered_by), each.seconds)
    return pacer


def bound_shown(scorer: Scorer, known: OutcomeMatrix, max_rate: float) -> RegretBound:
    """Choose the bound on the first 500 tasks, or 1,000, 2,000 and so on, as many as there are.

    The rows have to be in the order in which they became known, so that what comes late never changes the first ones.
    Whoever looks after every task finds a threshold by chance sooner or later. So each of these looks has half of the
    probability of a mistake that those before it have left.
    """
    tasks = list(dict.fromkeys(known.tasks))
    n_looks = max(1, (len(tasks) // MIN_CALIBRATION).bit_length())
    first = set(tasks[: MIN_CALIBRATION << (n_looks - 1)])
    rows = known.take([i for i, task in enumerate(known.tasks) if task in first])
    return bound_on(scorer, rows, max_rate=max_rate, delta=_DELTA / 2.0**n_looks)


def _unpicked(known: Experience, *, after_seq: int) -> OutcomeMatrix:
    """Return the tasks that both arms have answered and that no threshold has picked, those from the time when
    everything was trained on, in the order in which that became known.

    Args:
        after_seq: number of the last decision that the scorer was fitted on; what came before is no evidence.
    """
    columns = [known.rows.arms.index(arm) for arm in (Arm.ICL, Arm.TTT)]
    both = (known.rows.known_p[:, columns] >= 1.0).all(axis=1) & ~np.isnan(known.rows.quality[:, columns]).any(axis=1)
    unpicked = np.array([picks_nothing(policy) for policy in known.decided_by], dtype=bool)
    found = known.take(both & unpicked & (known.seqs > after_seq))
    return found.matrix().take(np.argsort(found.known_at, kind="stable").tolist())


def picks_nothing(policy: str) -> bool:
    """Tell of a policy, by its name, whether it trains on everything until a bound can be shown, a canary's too."""
    bounds = _bounds_in(policy)
    return bool(bounds) and not any(bound.holds for bound in bounds)


def so_far(settings: Settings, ledger: Ledger) -> Kept:
    """Say what is asked for, and how far it is kept."""
    wish = settings.wish
    if wish is None:
        return Kept("nothing", f"a price of {settings.price:g}, or the one that the policy was trained for")
    if isinstance(wish, Price):
        return Kept(str(wish), "time is weighed at it")
    if isinstance(wish, RegretLimit):
        newest = (bound for row in ledger.latest(_LOOKED_THROUGH) for bound in _bounds_in(row.policy)[:1])
        bound = next((bound for bound in newest if bound.max_rate == wish.max_rate), None)
        return Kept(str(wish), "no task has been decided under it yet" if bound is None else bound.reason)
    spent = _under(wish, ledger)
    if not spent:
        return Kept(str(wish), "no task has been decided under it yet")
    pacer = pacer_of(wish, spent, price=settings.price)
    used_up = "; used up for now" if pacer.exhausted else ""
    return Kept(
        str(wish), f"{_spent(wish, spent)} over {len(spent)} tasks, at a price of {pacer.price:.3g} now{used_up}"
    )


def _spent(budget: Budget, spent: tuple[TraceSummary, ...]) -> str:
    if isinstance(budget, ShareBudget):
        share = np.mean([arm_charged(each.arm, each.answered_by) in budget.arms for each in spent])
        return f"{share:.1%}"
    return f"{np.mean([each.seconds for each in spent]):.3g} s a task"


def _under(budget: Budget, ledger: Ledger) -> tuple[TraceSummary, ...]:
    """Return the latest tasks that were decided under a budget, oldest first."""
    latest = ledger.traces.summaries(n=_LOOKED_AT)
    return tuple(each for each in reversed(latest) if f",budget=({budget})," in each.policy)


def _bounds_in(policy: str) -> list[RegretBound]:
    """Return the bounds that a policy's name holds: the champion's, then a canary's."""
    if not policy.startswith("bounded_regret@2:"):
        return []
    return [bound_from(numbers) for numbers in re.findall(r"\bbound=([^,]+)", policy)]
