"""The parts of a router: model, ledger, store of adapters, policy, learning and traces, each opened at its first use.

What cannot be opened and costs no answer is done without, and `faults` says so.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from policies.decision import REMOTE, Policy
from policies.errors import LedgerUnavailable, PolicyFileDamaged
from router.added_arms import AddedArm, CheckedArm, close_arms, handed_in, make_arms
from router.redaction import Redactor
from router.settings import Settings, SettingsError
from ttt_engine.errors import StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    from icl_engine.language_model import LanguageModel
    from policies.ledger import Ledger
    from router.feedback import Audits
    from router.learning_loop import LearningLoop
    from router.steps import Steps
    from router.traces.writer import TraceWriter
    from ttt_engine.stores import AdapterStore, TieredAdapterStore


class Parts:
    """What a router is put together from. Threads may share it.

    Args:
        settings: that name all parts.
        redact: what is written of a task.
        model: instead of the one the settings name.
        policy: instead of the ledger's champion and the shipped prior.
        ledger: instead of the one the settings name.
        store: of adapters, instead of the one the settings name.
        arms: that are there already, by name; beside those the settings name.
    """

    def __init__(
        self,
        settings: Settings,
        redact: Redactor,
        *,
        model: LanguageModel | None,
        policy: Policy | None,
        ledger: Ledger | None,
        store: AdapterStore | None,
        arms: Mapping[str, AddedArm | CheckedArm] | None,
    ) -> None:
        self.settings = settings
        self._handed_in = handed_in(arms or {})
        self._made: dict[str, CheckedArm] | None = None  # added arms that are closed here
        self.audits: Audits | None = None  # a share of the solves in context that is also trained on; None: none
        self._redact = redact
        self._model = model
        self._policy = policy
        self._ledger = ledger
        self._owns_ledger = ledger is None
        self._store = store
        self._opened: TieredAdapterStore | None = None
        self._ledger_fault: str | None = None
        self._store_fault: str | None = None
        self._policy_fault: str | None = None
        self._learning_loop: LearningLoop | None = None
        self._steps: Steps | None = None
        self._traces: TraceWriter | None = None
        self._lock = threading.RLock()

    @property
    def model(self) -> LanguageModel:
        """The language model, loaded if it was not yet.

        Raises:
            ModelUnavailable: it cannot be loaded.
        """
        with self._lock:
            if self._model is None:
                from icl_engine.language_model import load_model

                settings = self.settings
                self._model = load_model(
                    settings.model, device=settings.device, dtype=settings.dtype, grid_form=settings.grid_form
                )
            return self._model

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened if it was not yet.

        Raises:
            LedgerUnavailable: it cannot be.
        """
        with self._lock:
            if self._ledger is None:
                from policies.ledger import Ledger  # SQLAlchemy is a good part of a second's import

                self._ledger = Ledger.open(self.settings.ledger_location, files=self.settings.policy_folder)
            return self._ledger

    @property
    def steps(self) -> Steps:
        """The steps of a solve, on these parts.

        Raises:
            ModelUnavailable: the model cannot be loaded.
            StoreMisconfigured: password, rights or secret of the store are wrong.
            SettingsError: an added arm that is named cannot be made.
        """
        with self._lock:
            if self._steps is None:
                self._steps = self._bind()
            return self._steps

    @property
    def faults(self) -> tuple[str, ...]:
        """What does not go as it should whatever is solved, as far as it is known by now."""
        learning = self._policy_fault if self._learning_loop is None else self._learning_loop.fault
        found = (
            ("not recorded", self._ledger_fault),
            ("learning", learning),
            ("adapters are kept in memory only", self._store_fault),
        )
        return tuple(f"{what}: {fault}" for what, fault in found if fault is not None)

    def flush(self) -> None:
        """Wait until the traces of what has been solved are in the ledger, where they follow their decisions."""
        if self._traces is not None:
            self._traces.flush()

    def close(self) -> None:
        """End learning, write the traces that wait, and close ledger and store, unless they were handed in."""
        if self._learning_loop is not None:
            self._learning_loop.stop()
        if self._traces is not None:
            self._traces.close()
        with self._lock:
            made, self._made = self._made, {}
        close_arms((made or {}).values())
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            if self._ledger is not None and self._owns_ledger:
                self._ledger.close()
                self._ledger = None

    def _open_store(self) -> AdapterStore:
        """Open the store that the settings name. One that is away now may come back; one that is set up wrong will not.

        Raises:
            StoreMisconfigured: password, rights or secret are wrong.
        """
        with self._lock:
            if self._opened is None:
                from ttt_engine.stores import MemoryAdapterStore, TieredAdapterStore

                try:
                    opened = store_of(self.settings)
                except StoreMisconfigured:
                    raise
                except StoreUnavailable as error:  # without a folder for the secret nothing is kept beyond memory
                    self._store_fault = str(error)
                    memory = MemoryAdapterStore(max_bytes=self.settings.store_memory_bytes)
                    opened = TieredAdapterStore([memory])
                try:
                    opened.check()
                except StoreMisconfigured:
                    opened.close()
                    raise
                except StoreUnavailable:  # every solve that misses it says so
                    pass
                self._opened = opened
            return self._opened

    def _bind(self) -> Steps:
        from icl_engine.language_model import as_transformers
        from icl_engine.probe import Prober
        from policies.costs import CostModel
        from router.steps import Steps

        settings, model, added = self.settings, self.model, self._added()
        trained = as_transformers(model)
        reading = model if trained is None else trained.twin()  # what is asked in context waits for no training
        try:
            ledger: Ledger | None = self.ledger
        except LedgerUnavailable as error:  # no record is no reason for no answer; every solution says so
            ledger, self._ledger_fault = None, str(error)
        ttt, chosen = None, settings.ttt(0)
        if trained is not None:
            from ttt_engine.engine import TttEngine

            chosen = settings.ttt(trained.n_parameters, bfloat16=trained.prefers_bfloat16)
            store = self._store if self._store is not None else self._open_store()
            ttt = TttEngine(trained, store, chosen.lora, tenant=settings.tenant, warm_start=settings.warm_start)
        training = chosen.training
        return Steps(
            model=reading,
            prober=Prober(reading, n_views=settings.probe_views),
            policy=self._own_policy() or self._keeping(ledger, model.fingerprint),
            ledger=ledger,
            ttt=ttt,
            costs=CostModel(
                n_views=settings.n_views,
                training_sequences=training.steps * training.batch_size,
                text_sequences=None if chosen.text is None else chosen.text.steps * chosen.text.batch_size,
                added_s={name: arm.expected_s for name, arm in added.items()},
            ),
            added=added,
            arms=settings.arms,
            training=training,
            text_training=chosen.text,
            inference=settings.inference,
            limits=settings.limits,
            gpu=trained is not None and trained.device.type == "cuda",
            tenant=settings.tenant,
            traces=self._writer(ledger),
            redact=self._redact,
        )

    def _added(self) -> dict[str, CheckedArm]:
        if self._made is None:
            names = [name for name in self.settings.arms if name not in (*self._handed_in, REMOTE)]
            self._made = make_arms([*names, REMOTE], self.settings, self._redact)
        return {**self._handed_in, **self._made}

    def _own_policy(self) -> Policy | None:
        settings = self.settings
        if self._policy is not None and (settings.budget is not None or settings.max_regret_rate is not None):
            variable = "budget" if settings.budget is not None else "max_regret_rate"
            remedy = "Leave one of them out: only the router's own policies keep to a wish."
            raise SettingsError("set beside a policy of your own", variable=f"{variable} and policy", remedy=remedy)
        return self._policy

    def _keeping(self, ledger: Ledger | None, model_fingerprint: str) -> Policy:
        """Return the policy that decides, made to keep to what the settings ask for."""
        from router.granting import paced

        try:
            return paced(self._deciding(ledger, model_fingerprint), self.settings, ledger)
        except (LedgerUnavailable, PolicyFileDamaged) as error:  # spending, champion or prior: no answer hangs on it
            self._policy_fault = str(error)
            return paced(self._first(None, model_fingerprint), self.settings, None)

    def _deciding(self, ledger: Ledger | None, model_fingerprint: str) -> Policy:
        """Return the policy that decides: the ledger's champion or, where there is none, the first policy."""
        settings = self.settings
        if ledger is None or settings.learning == "off" or not settings.learns:
            return self._first(ledger, model_fingerprint)
        ledger.policy_versions.alias("champion")  # whether it can be read at all
        return self._learning(ledger, model_fingerprint)

    def _first(self, ledger: Ledger | None, model_fingerprint: str) -> Policy:
        from router.granting import without_learner

        settings = self.settings
        try:
            first = settings.first_policy
        except PolicyFileDamaged as error:  # no policy is no reason for no answer; every solution says so
            first, self._policy_fault = settings.stated_rule, str(error)
        return without_learner(first, settings, ledger, model_fingerprint=model_fingerprint)

    def _learning(self, ledger: Ledger, model_fingerprint: str) -> Policy:
        from router.feedback import Audits
        from router.learned_policies import learner_of
        from router.learning_loop import LearningLoop

        self._learning_loop = LearningLoop(learner_of(self.settings, ledger, model_fingerprint=model_fingerprint))
        if self.settings.learning == "on":
            if self.audits is None:
                self.audits = Audits(self.settings.audit_rate, self._learning_loop.later)
            self._learning_loop.start()
        self._learning_loop.follow()
        return self._learning_loop.policy

    def _writer(self, ledger: Ledger | None) -> TraceWriter | None:
        from router.traces.writer import Retention, TraceWriter

        if ledger is None:
            return None
        settings = self.settings
        self._traces = TraceWriter(
            ledger.traces,
            retention=Retention(settings.trace_days * 24 * 3600, settings.trace_bytes),
            max_waiting=settings.trace_queue,
            redact=self._redact,
        )
        return self._traces


def store_of(settings: Settings) -> TieredAdapterStore:
    """Return the store of adapters that the settings name; connects to nothing.

    Raises:
        SettingsError: there is no such store.
        StoreMisconfigured: its secret will not do, or its library is missing.
        StoreUnavailable: its secret cannot be made or read.
    """
    from ttt_engine.stores import SCHEMES, StoreSettings, open_store

    scheme = settings.store_url.partition(":")[0]
    if scheme not in SCHEMES:
        remedy = f"Give one of {', '.join(f'{known}:' for known in SCHEMES)}."
        raise SettingsError(f"no store {scheme!r}", variable="TTT_ROUTER_STORE_URL", remedy=remedy)
    kept = StoreSettings(
        memory_bytes=settings.store_memory_bytes,
        local_bytes=settings.store_local_bytes,
        max_adapter_bytes=settings.store_adapter_bytes,
        ttl_s=settings.store_ttl_s,
    )
    if scheme == "local":
        with contextlib.suppress(OSError):  # which the store says better
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds people's tasks
    return open_store(
        settings.store_url, settings.home, tenant=settings.tenant, secrets=settings.store_secrets, settings=kept
    )
