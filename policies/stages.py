"""Stages: what may be found out of a task before it is decided on, the cheapest first, and what a policy may ask for.

A policy that knows nothing of stages decides on what the probe says. The others have one or more of the members below,
which the router looks for; what is done at their request is charged to the solve.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from policies.decision import Policy, StandIn, as_it_is

if TYPE_CHECKING:
    from policies.feature_values import FeatureValues


class Stage(IntEnum):
    """Where a feature comes from; the later, the dearer."""

    STRUCTURE = 0  # the task as it stands, and the store of adapters
    PROBE = 1  # the answer in context and the scores held out; always run before a decision, its answer is the floor
    VOTES = 2  # further views of the queries: do they agree?
    TRIAL = 3  # a training step or two, scored on a held-out demonstration


@runtime_checkable
class AsksForStages(Protocol):
    """A policy that may want to know more before it decides."""

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


def stage_of(policy: object, features: FeatureValues) -> Stage | None:
    """Return the stage that a policy asks for; None also where it knows nothing of stages."""
    return policy.stages_wanted(features) if isinstance(policy, AsksForStages) else None


def may_ask(policy: Policy) -> bool:
    """Say whether a policy may ask for a stage; one that stands for another, whether that one may."""
    asks: object = as_it_is(policy)
    while isinstance(asks, StandIn) and (behind := asks.stands_for) is not None:
        asks = behind
    return isinstance(asks, AsksForStages)


@runtime_checkable
class CountsSpending(Protocol):
    """A policy that has to know what each task took."""

    def spent(self, arm: str, seconds: float) -> None:
        """Count one task: the arm that answered, and all the seconds it took."""
        ...
