"""What a policy may be able to do beyond deciding: ask for stages, escalate, have training watched, count spending.

Each ability is a protocol of one member, and a function that asks any policy for it. One that goes by others
(`GoesByOthers`) has what they have, unless it has the ability itself: so it hides none. A policy without an ability
asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from policies.decision import goes_by, is_changing
from policies.stages import Stage

if TYPE_CHECKING:
    from policies.feature_values import FeatureValues


@runtime_checkable
class AsksForStages(Protocol):
    """A policy that says what it wants to know before it decides; it gets no more than that."""

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        """Return the stage to run next, or None to decide now.

        Asked again after each stage; one that has run, or that cannot be run for this task, is not run again.
        """
        ...


@runtime_checkable
class Escalates(Protocol):
    """A policy that may want training after all, once it sees how sure an untrained arm's answers are."""

    def escalates(self, features: FeatureValues, arm: str, confidence: float) -> bool:
        """Say whether `ttt` shall answer instead.

        Args:
            arm: that has answered.
            confidence: the least of its answers' confidences; of a vote the share of views that agree.
        """
        ...


@runtime_checkable
class WatchesTraining(Protocol):
    """A policy under which training is looked after, and given up where its held-out curve says it will not help."""

    @property
    def check_every(self) -> int | None:
        """Steps between looks at a held-out demonstration; None: as the training settings say."""
        ...


@runtime_checkable
class CountsSpending(Protocol):
    """A policy that has to know what each task took."""

    def spent(self, arm: str, seconds: float) -> None:
        """Count one task: the arm that answered, and all the seconds it took."""
        ...


@runtime_checkable
class Wishing(Protocol):
    """A policy that keeps to what the user asks for."""

    @property
    def wish(self) -> str:
        """What is asked for, as the user writes it."""
        ...


def knows_stages(policy: object) -> bool:
    """Say whether a policy asks for what it wants to know or, where it goes by others, each of these does.

    One that does not is given the scores of held-out demonstrations with the probe.
    """
    behind = _behind(policy)
    return _asks_for_stages(policy) or (bool(behind) and all(map(knows_stages, behind)))


def stage_of(policy: object, features: FeatureValues) -> Stage | None:
    """Return the stage that a policy asks for; of those that several ask for, the cheapest."""
    if _asks_for_stages(policy):
        return policy.stages_wanted(features)
    wanted = (stage_of(each, features) for each in _behind(policy))
    return min((stage for stage in wanted if stage is not None), default=None)


def escalates(policy: object, features: FeatureValues, arm: str, confidence: float) -> bool:
    """Say whether a policy wants `ttt` to answer instead of `arm`; where it goes by several, the first of them has the
    say.
    """
    asked = next((each for each in _leading(policy) if _may_escalate(each)), None)
    return asked is not None and asked.escalates(features, arm, confidence)


def check_every(policy: object) -> int | None:
    """Return how often a policy has training looked at, in steps; where it goes by several, the first of them has the
    say. None: as the training settings say.
    """
    watching = next((each for each in _leading(policy) if _watches_training(each)), None)
    return None if watching is None else watching.check_every


def tell_spent(policy: object, arm: str, seconds: float) -> None:
    """Have every policy that counts, this one and those that it goes by, count one task."""
    for counting in {id(each): each for each in _all_of(policy) if _counts_spending(each)}.values():
        counting.spent(arm, seconds)


def wish_of(policy: object) -> str | None:
    """Return what a policy keeps to; None: nothing is asked of it."""
    return next((each.wish for each in _leading(policy) if isinstance(each, Wishing)), None)


# each for `isinstance` of the protocol, which on Python 3.11 looks for the members of the protocol anew every time


def _asks_for_stages(policy: object) -> TypeGuard[AsksForStages]:
    return getattr(policy, "stages_wanted", None) is not None


def _may_escalate(policy: object) -> TypeGuard[Escalates]:
    return getattr(policy, "escalates", None) is not None


def _watches_training(policy: object) -> TypeGuard[WatchesTraining]:
    return hasattr(policy, "check_every")


def _counts_spending(policy: object) -> TypeGuard[CountsSpending]:
    return getattr(policy, "spent", None) is not None


def _leading(policy: object) -> Iterator[object]:
    """Yield the policy, then the first of those that it goes by, and so on to the one that goes by no other."""
    yield policy
    for each in _behind(policy)[:1]:
        yield from _leading(each)


def _all_of(policy: object) -> Iterator[object]:
    """Yield the policy and all that it goes by, whatever these go by included."""
    yield policy
    for each in _behind(policy):
        yield from _all_of(each)


def _behind(policy: object) -> tuple[object, ...]:
    """Return what a policy goes by: one that changes, by what it is now."""
    now = policy.now() if is_changing(policy) else policy
    return goes_by(policy) if now is policy else (now,)
