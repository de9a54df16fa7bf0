"""Several stores, the quickest first: found in one, an adapter is put into those before it; kept, it goes into all.

A tier that fails is gone round and told of; what is found is never worse for it. The first tier usually is memory, with
adapters checked already, then disk, then Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ttt_engine.adapter import Adapter
from ttt_engine.errors import AdapterRefused, StoreUnavailable
from ttt_engine.stores.store import AdapterStore, Leases, NamedLeases, SketchedStore


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was found, and what went wrong on the way."""

    adapter: Adapter | None
    degraded: tuple[str, ...]


class TieredAdapterStore:
    """An `AdapterStore` of several.

    Args:
        tiers: the quickest first.
        leases: of whom to ask before training what is not found, the nearest first.
    """

    def __init__(self, tiers: Sequence[AdapterStore], leases: Sequence[Leases] = ()) -> None:
        self.tiers = tuple(tiers)
        self.leases = tuple(leases)

    def fetch(self, key: str) -> Fetched:
        """Return the adapter under `key` from the first tier that has it; faults are told of and never raised."""
        degraded: list[str] = []
        for i, tier in enumerate(self.tiers):
            try:
                adapter = tier.get(key)
            except Exception as error:  # a store may be anybody's code, too
                degraded.append(_told(error))
                continue
            if adapter is not None:
                degraded += _put(adapter, self.tiers[:i])
                return Fetched(adapter, tuple(degraded))
        return Fetched(None, tuple(degraded))

    def keep(self, adapter: Adapter) -> tuple[str, ...]:
        """Put the adapter into every tier; return what went wrong."""
        return _put(adapter, self.tiers)

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None; see `AdapterStore`. A fault is raised where nothing was found."""
        fault: Exception | None = None
        for i, tier in enumerate(self.tiers):
            try:
                adapter = tier.get(key)
            except (AdapterRefused, StoreUnavailable) as error:
                fault = error
                continue
            if adapter is not None:
                _put(adapter, self.tiers[:i])
                return adapter
        if fault is not None:
            raise fault
        return None

    def put(self, adapter: Adapter) -> None:
        """Keep an adapter in every tier that takes it; see `AdapterStore`.

        Raises:
            StoreUnavailable: none did.
        """
        degraded = self.keep(adapter)
        if len(degraded) == len(self.tiers):
            raise StoreUnavailable("; ".join(degraded))

    def __contains__(self, key: str) -> bool:
        """Say whether any tier has it.

        Raises:
            StoreUnavailable: none that could be asked has it, and one could not be asked.
        """
        fault: StoreUnavailable | None = None
        for tier in self.tiers:
            try:
                if key in tier:
                    return True
            except StoreUnavailable as error:
                fault = error
        if fault is not None:
            raise fault
        return False

    def sketches(self, kin: str) -> dict[str, tuple[int, ...]]:
        """Return the sketches of all tiers that have some and can be read; see `SketchedStore`."""
        found: dict[str, tuple[int, ...]] = {}
        for tier in self.tiers:
            if isinstance(tier, SketchedStore):
                try:
                    found.update(tier.sketches(kin))
                except Exception:  # see `fetch`; fewer relatives, which nobody was promised
                    continue
        return found

    def hold_as(self, holder: str) -> None:
        """Take leases under a name from now on, by which others may bury this holder."""
        for leases in self.leases:
            if isinstance(leases, NamedLeases):
                leases.holder = holder

    def bury(self, holder: str) -> None:
        """Take note that a holder of leases is dead; see `NamedLeases`."""
        for leases in self.leases:
            if isinstance(leases, NamedLeases):
                leases.bury(holder)

    def ping(self) -> None:
        """See whether every tier that is on a server answers now, at little cost.

        Raises:
            StoreMisconfigured, StoreUnavailable: one does not.
        """
        for tier in self.tiers:
            if hasattr(tier, "ping"):
                tier.ping()

    def check(self) -> tuple[str, ...]:
        """Ask every tier that can be asked how it is, with all that it does; return what each says.

        Raises:
            StoreMisconfigured: one will never work as it is set up.
            StoreUnavailable: one does not answer now.
        """
        checks: list[Callable[[], str]] = [tier.check for tier in self.tiers if hasattr(tier, "check")]
        return tuple(check() for check in checks)

    def close(self) -> None:
        """Close the connections of every tier that has some."""
        for tier in self.tiers:
            if hasattr(tier, "close"):
                tier.close()


def _put(adapter: Adapter, tiers: Sequence[AdapterStore]) -> tuple[str, ...]:
    degraded = []
    for tier in tiers:
        try:
            tier.put(adapter)
        except Exception as error:  # see `fetch`
            degraded.append(_told(error))
    return tuple(degraded)


def _told(error: Exception) -> str:
    known = isinstance(error, AdapterRefused | StoreUnavailable)
    return str(error) if known else f"the store of adapters failed ({type(error).__name__}: {error})"
