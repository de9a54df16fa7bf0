"""What an executor's workers are here: a router for each tenant, on one model, from settings that are the same for all.

The whole solve runs on the worker, probe and decision included, so that who hands out tasks needs no model. Workers
share ledger and store of adapters as several servers do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icl_engine.task import Task
from policies.decision import Decision, Policy
from router.settings import Settings, SettingsError
from router.solution import Solution

if TYPE_CHECKING:
    from router.router import Router
    from router.solve_state import Progress
    from ttt_engine.executors import Executor


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of each task of a batch."""

    arm: str | None = None
    seed: int | None = None
    decide_only: bool = False
    family: tuple[Task, ...] = ()  # of tasks that are to have one adapter; see `Router.solve_many`
    tenant: str | None = None  # None: that of the settings
    among: bool = False  # of one task: it is solved among others that the worker has; see `Router.solve_among`
    progress: Progress | None = field(default=None, compare=False)  # in this process alone


class RouterWorker:
    """A worker with routers of its own; the model is loaded when it is made.

    Args:
        settings: of the router that hands out the tasks.
        policy: that decides instead of what the settings say.
        name: the worker's, under which it holds leases.

    Attributes:
        base: the router of the settings' own tenant, whose model all have.

    Raises:
        FewShotError: model, ledger or store are not to be had.
    """

    def __init__(self, settings: Settings, policy: Policy | None, name: str) -> None:
        from router.lanes import Lanes
        from router.router import Router

        self._name = name
        self._lanes = Lanes()
        self._dead: set[str] = set()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}  # of tenants that have asked
        self.base = Router(settings.model_copy(update={"executor": "in-process"}), policy=policy)
        self._routers = {settings.tenant: self.base}
        _hold(self.base, name)

    def run(
        self,
        tasks: Sequence[Task],
        asked: Asked,
        deadline_s: float | None,
        cancelled: Callable[[], bool],
        spent: Callable[[float], None],
    ) -> Sequence[Solution | Decision]:
        """Solve tasks together, or decide for each; their traces are in the ledger when it returns."""
        router = self._router(asked.tenant)
        try:
            if not asked.among:
                return router.solved_here(tasks, asked, deadline_s, cancelled)
            deadline = None if deadline_s is None else time.monotonic() + deadline_s
            (task,) = tasks
            return [
                router.solve_among(
                    task,
                    self._lanes,
                    arm=asked.arm,
                    seed=asked.seed,
                    deadline=deadline,
                    cancelled=cancelled,
                    spent=spent,
                )
            ]
        finally:
            router.flush()

    def bury(self, worker: str) -> None:
        """Take note that another worker is dead; see `Worker`."""
        with self._lock:
            if worker in self._dead:
                return
            self._dead.add(worker)
            for router in self._routers.values():
                _bury(router, worker)

    def close(self) -> None:
        """Close the routers."""
        for router in (*self._routers.values(),)[::-1]:
            router.close()

    def _router(self, tenant: str | None) -> Router:
        if tenant is None:
            return self.base
        with self._lock:
            opening = self._opening.setdefault(tenant, threading.Lock())
        with opening:  # others wait no longer than it takes to look: a store that is away takes its time to open
            if tenant not in self._routers:
                made = self.base.for_tenant(tenant)
                _hold(made, self._name)
                with self._lock:
                    self._routers[tenant] = made
                    for worker in self._dead:
                        _bury(made, worker)
            return self._routers[tenant]


def _hold(router: Router, worker: str) -> None:
    """Have a router, opened here at the latest, hold its leases under the worker's name."""
    ttt = router.steps.ttt
    if ttt is not None and ttt.store is not None:
        ttt.store.hold_as(worker)


def _bury(router: Router, worker: str) -> None:
    ttt = router.steps.ttt
    if ttt is not None and ttt.store is not None:
        ttt.store.bury(worker)


class Here:
    """The router itself as the one worker of an executor in its own process."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def run(
        self,
        tasks: Sequence[Task],
        asked: Asked,
        deadline_s: float | None,
        cancelled: Callable[[], bool],
        spent: Callable[[float], None],
    ) -> Sequence[Solution | Decision]:
        """Solve tasks together, or decide for each."""
        return self._router.solved_here(tasks, asked, deadline_s, cancelled)

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
