"""What an executor's workers are here: a router each, on settings that are the same everywhere.

The whole solve runs on the worker, probe and decision included, so that who hands out tasks needs no model. Workers
share ledger and store of adapters as several servers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icl_engine.task import Task
from policies.decision import Decision, Policy
from router.settings import Settings, SettingsError
from router.solution import Solution

if TYPE_CHECKING:
    from router.router import Router
    from router.steps import Progress
    from ttt_engine.executors import Executor


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of each task of a batch."""

    arm: str | None = None
    seed: int | None = None
    decide_only: bool = False
    progress: Progress | None = field(default=None, compare=False)  # in this process alone


class RouterWorker:
    """A worker with a router of its own; the model is loaded when it is made.

    Args:
        settings: of the router that hands out the tasks.
        policy: that decides instead of what the settings say.
        name: the worker's, under which it holds leases.

    Raises:
        FewShotError: model, ledger or store are not to be had.
    """

    def __init__(self, settings: Settings, policy: Policy | None, name: str) -> None:
        from router.router import Router

        self._router = Router(settings.model_copy(update={"executor": "in-process"}), policy=policy)
        ttt = self._router.steps.ttt
        self._store = None if ttt is None else ttt.store
        if self._store is not None:
            self._store.hold_as(name)

    def run(self, tasks: Sequence[Task], asked: Asked, deadline_s: float | None) -> Sequence[Solution | Decision]:
        """Solve tasks together, or decide for each; their traces are in the ledger when it returns."""
        try:
            return self._router.solved_here(tasks, asked, deadline_s)
        finally:
            self._router.flush()

    def bury(self, worker: str) -> None:
        """Take note that another worker is dead; see `Worker`."""
        if self._store is not None:
            self._store.bury(worker)

    def close(self) -> None:
        """Close the router."""
        self._router.close()


class Here:
    """The router itself as the one worker of an executor in its own process."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def run(self, tasks: Sequence[Task], asked: Asked, deadline_s: float | None) -> Sequence[Solution | Decision]:
        """Solve tasks together, or decide for each."""
        return self._router.solved_here(tasks, asked, deadline_s)

    def bury(self, worker: str) -> None:
        """There is no other."""

    def close(self) -> None:
        """The router closes itself."""


def check_reach(settings: Settings, executor: Executor[Asked, Solution | Decision]) -> None:
    """See that workers elsewhere can share what they have to share.

    Raises:
        SettingsError: ledger or adapters are in files of this machine, or adapters signed with one.
    """
    if executor.reach != "cluster":
        return
    if settings.policy_folder is None:  # a SQLite file
        remedy = "Set it to a PostgreSQL URL, which the machines of the cluster can reach."
        raise SettingsError("the ledger is a file of this machine", variable="TTT_ROUTER_LEDGER_URL", remedy=remedy)
    if settings.store_url.partition(":")[0] in ("local", "memory"):
        remedy = "Set it to a Redis URL, which the machines of the cluster can reach."
        raise SettingsError("adapters are kept on this machine", variable="TTT_ROUTER_STORE_URL", remedy=remedy)
    if settings.store_secrets is None:
        remedy = "Set it to one secret for all machines."
        raise SettingsError(
            "adapters are signed with a file of this machine", variable="TTT_ROUTER_STORE_SECRETS", remedy=remedy
        )
