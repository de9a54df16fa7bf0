"""A router for each tenant, all on one model, one ledger and one policy; adapters and traces are each tenant's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from policies.errors import UnknownTrace
from router.router import Router
from ttt_engine.executors import IN_PROCESS, open_executor

if TYPE_CHECKING:
    from icl_engine.language_model import LanguageModel
    from policies.decision import Policy
    from policies.ledger import Ledger
    from router.settings import Settings


class Tenants:
    """The routers. Safe between threads.

    What looks at a task without answering it, and at what was answered, happens in this process; where an executor is
    named, its workers answer, for all tenants.

    Args:
        model: instead of the one the settings name.

    Attributes:
        elsewhere: the router whose `solve_elsewhere` answers for all; None: this process does.
        has_workers: whoever answers can be asked: `open`, or `open_elsewhere`, has come to its end.

    Raises:
        SettingsError: the executor's workers cannot share what the settings name.
        ExecutorUnavailable: there is no such executor.
    """

    def __init__(self, settings: Settings, ledger: Ledger, model: LanguageModel | None = None) -> None:
        self._ledger = ledger
        here = settings.model_copy(update={"executor": IN_PROCESS})
        self._base = Router(here, model=model, ledger=ledger)  # learns for all, where learning is on
        self._routers = {settings.tenant: self._base}
        self._executor = open_executor(settings.executor)
        self.elsewhere: Router | None = None
        self.has_workers = False
        if settings.executor != IN_PROCESS:
            learning = "off" if settings.learning == "off" else "follow"  # this process learns, for all
            self.elsewhere = Router(settings.model_copy(update={"learning": learning}), executor=self._executor)

    def open(self, known: Sequence[str] = ()) -> None:
        """Load the model and whatever else the first task would wait for; see `open_here`, `open_elsewhere`."""
        self.open_here(known)
        self.open_elsewhere()

    def open_here(self, known: Sequence[str] = ()) -> None:
        """Load the model and what else this process needs.

        Args:
            known: tenants that will ask; with the model at work, the first task of another may wait for it.

        Raises:
            ModelUnavailable: it cannot be loaded.
            StoreMisconfigured: the store of adapters never will work as it is set up.
        """
        for router in (self._base, *map(self.router, known)):
            router.graph  # noqa: B018  binds the engines

    def open_elsewhere(self) -> None:
        """Connect to the workers, which may take a minute.

        Raises:
            ExecutorUnavailable: the cluster cannot be reached.
        """
        self._executor.check()
        self.has_workers = True

    def router(self, tenant: str) -> Router:
        """Return the tenant's router."""
        found = self._routers.get(tenant)
        if found is None:
            found = self._base.for_tenant(tenant)
            found.audits = self._base.audits
            found = self._routers.setdefault(tenant, found)
        return found

    def ping_store(self) -> None:
        """See whether the store of adapters answers, where it is on a server; `open` has tried all that it does.

        Raises:
            StoreUnavailable: it does not.
        """
        engine = self._base.steps.ttt
        if engine is not None:
            engine.store.ping()

    def check_own(self, tenant: str, trace_id: str) -> None:
        """Make sure that a trace is this tenant's.

        Raises:
            UnknownTrace: it is nobody's, or another's.
        """
        if self._ledger.decision(trace_id).tenant != tenant:
            raise UnknownTrace(trace_id, self._ledger.location)

    @property
    def policy(self) -> Policy:
        """What decides for all."""
        return self._base.steps.policy

    @property
    def model_name(self) -> str:
        """The beginning of the model's fingerprint."""
        return self._base.steps.model.fingerprint[:12]

    @property
    def faults(self) -> tuple[str, ...]:
        """What does not go as it should, as far as it is known; see `Router.faults`."""
        found = [fault for router in list(self._routers.values()) for fault in router.faults]
        if self._executor.fault is not None:
            found.append(f"no workers can be asked: {self._executor.fault}")
        return tuple(dict.fromkeys(found))

    def close(self) -> None:
        """Write the traces that wait, and close the stores."""
        self._executor.close()
        for router in (*self._routers.values(), *((self.elsewhere,) if self.elsewhere else ())):
            router.close()
