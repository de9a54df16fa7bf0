"""Forks: a stored solve gone another way. Another policy decides from the stored features, and nothing is written; or
another arm answers the stored task, which costs what the arm costs and is recorded as a solve of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import Policy
from router.traces.policies_by_name import PolicyLoader, policy_named
from router.traces.replay import Replay, replay_with
from router.traces.stored import StoredTrace
from router.traces.why import predicted_seconds

if TYPE_CHECKING:
    from router.router import Router
    from router.solution import Solution
    from router.solve_state import Progress


@dataclass(frozen=True, slots=True)
class ArmFork:
    """What came of answering a stored task with another arm."""

    trace_id: str  # of the solve that was forked
    arm: str
    solution: Solution
    same_answers: bool  # as those that were given
    expected_s: float | None


def told(found: Replay, stored: StoredTrace) -> str:
    """Say in a sentence what another policy would have decided, or why it cannot be said."""
    decided, before = found.decision, stored.trace.decision.arm
    if decided is None:
        return found.problem or ""
    same = "as it was" if decided.arm == before else f"instead of {before}"
    odds = ", ".join(f"{arm} {p:.3f}" for arm, p in decided.propensities)
    return f"{decided.policy} would have answered with {decided.arm}, {same} (of {odds}): {decided.reason}."


def expected_seconds(stored: StoredTrace, arm: str) -> float | None:
    """Return what the arm would take, as predicted when the task was decided on; None where nothing was."""
    return predicted_seconds(stored.trace.decision).get(arm)


def fork_arm(router: Router, stored: StoredTrace, arm: str, *, progress: Progress | None = None) -> ArmFork:
    """Answer the stored task with another arm, under the same seed. Recorded as forced, so that nothing learns from it
    as if a policy had chosen it.

    Raises:
        ArmUnavailable: the task cannot be answered with `arm`.
        TaskRefused, ModelUnavailable: as for `Router.solve`.
    """
    trace = stored.trace
    solution = router.solve(trace.task, arm=arm, seed=trace.seed, progress=progress)
    given = [answer.candidates[0].value if answer.candidates else None for answer in trace.answers]
    same = given == [answer.value for answer in solution.answers]
    return ArmFork(trace.trace_id, arm, solution, same, expected_seconds(stored, arm))


def fork_policy(
    stored: StoredTrace, policy: str, *, given: Sequence[Policy] = (), loaders: Sequence[PolicyLoader] = ()
) -> Replay:
    """Let another policy, by its `name@version`, decide from the stored state.

    Raises:
        UnknownPolicy: no policy of this name can be made here.
    """
    return replay_with(policy_named(policy, given=given, loaders=loaders), stored.decision)
