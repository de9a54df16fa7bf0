"""A router for each tenant, all on one model, one ledger and one policy; adapters and traces are each tenant's own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from policies.errors import UnknownTrace
from router.router import Router

if TYPE_CHECKING:
    from icl_engine.language_model import LanguageModel
    from policies.decision import Policy
    from policies.ledger import Ledger
    from router.settings import Settings


class Tenants:
    """The routers. Safe between threads.

    What looks at a task without answering it, and at what was answered, happens in this process; where an executor is
    named, its workers answer, for each tenant its own.

    Args:
        model: instead of the one the settings name.
    """

    def __init__(self, settings: Settings, ledger: Ledger, model: LanguageModel | None = None) -> None:
        self._settings, self._ledger = settings, ledger
        self._here = settings.model_copy(update={"executor": "in-process"})
        self._base = Router(self._here, model=model, ledger=ledger)  # learns for all, where learning is on
        self._routers = {settings.tenant: self._base}
        self._elsewhere: dict[str, Router] = {}
        self._lock = threading.Lock()

    def open(self, known: Sequence[str] = ()) -> None:
        """Load the model and whatever else the first task would wait for.

        Args:
            known: tenants that will ask; with the model at work, the first task of another may wait for it.

        Raises:
            ModelUnavailable: it cannot be loaded.
            StoreMisconfigured: the store of adapters never will work as it is set up.
            SettingsError: the executor's workers cannot share what the settings name.
            ExecutorUnavailable: it cannot be reached.
        """
        for router in (self._base, *map(self.router, known)):
            router.graph  # noqa: B018  binds the engines
        self.elsewhere(self._settings.tenant)

    def router(self, tenant: str) -> Router:
        """Return the tenant's router."""
        found = self._routers.get(tenant)
        if found is None:
            own: dict[str, object] = {"tenant": tenant, "learning": "off"}
            own |= {"budget": None, "max_regret_rate": None}  # the policy of all keeps to them already
            settings = self._here.model_copy(update=own)
            found = Router(settings, model=self._base.model, policy=self.policy, ledger=self._ledger)
            found.audits = self._base.audits
            found = self._routers.setdefault(tenant, found)
        return found

    def elsewhere(self, tenant: str) -> Router | None:
        """Return the router whose workers answer for the tenant; None: this process does."""
        if self._settings.executor == self._here.executor:
            return None
        with self._lock:
            if tenant not in self._elsewhere:
                learning = "off" if self._settings.learning == "off" else "follow"  # this process learns, for all
                own = {"tenant": tenant, "learning": learning}
                self._elsewhere[tenant] = Router(self._settings.model_copy(update=own))
            return self._elsewhere[tenant]

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
        return tuple(dict.fromkeys(fault for router in list(self._routers.values()) for fault in router.faults))

    def close(self) -> None:
        """Write the traces that wait, and close the stores."""
        for router in (*self._elsewhere.values(), *self._routers.values()):
            router.close()
