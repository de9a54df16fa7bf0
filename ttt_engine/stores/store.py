"""What an adapter store promises: at any time it may have lost an adapter, never does it hand out a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ttt_engine.adapter import Adapter


class AdapterStore(Protocol):
    """Keeps adapters by key."""

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None where there is none.

        Raises:
            AdapterRefused: there is one, but it is damaged or forged; it has been put away.
            StoreUnavailable: the store cannot be read.
        """
        ...

    def put(self, adapter: Adapter) -> None:
        """Keep an adapter under its key.

        Raises:
            StoreUnavailable: it cannot be written; nothing half-written is ever found.
        """
        ...

    def __contains__(self, key: str) -> bool: ...


@runtime_checkable
class SketchedStore(Protocol):
    """A store that also knows the tasks of its adapters by their sketches."""

    def sketches(self, kin: str) -> Mapping[str, tuple[int, ...]]:
        """Return the sketches, by key, of adapters of one kin (`AdapterSpec.kin`): hints, to be confirmed by `get`.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        ...


@runtime_checkable
class Leases(Protocol):
    """Hands out short leases by key, so that of several that would train one adapter one does and the others wait.

    A lease runs out by itself, so a holder that dies or sleeps is waited for no longer than that. It saves work and
    guards nothing: adapters are named by what they are made of, and a holder that wakes up late writes the same one.
    """

    def take(self, key: str, lease_s: float) -> str | None:
        """Take the lease for `lease_s`; return the token that it is renewed and released with, None if it is taken.

        Raises:
            StoreUnavailable: nobody can say.
        """
        ...

    def renew(self, key: str, token: str, lease_s: float) -> bool:
        """Hold the lease for `lease_s` more; say whether it was still ours.

        Raises:
            StoreUnavailable: nobody can say.
        """
        ...

    def release(self, key: str, token: str) -> None:
        """Give the lease back, if it is still ours."""
        ...


@runtime_checkable
class NamedLeases(Protocol):
    """`Leases` that outlive the process that took them, and say who that was."""

    holder: str

    def bury(self, holder: str) -> None:
        """Take note that a holder is dead: its leases may be taken before they run out."""
        ...
