"""What an adapter store promises: at any time it may have lost an adapter, never does it hand out a wrong one."""

from __future__ import annotations

from typing import Protocol

from ttt_engine.adapter import Adapter


class AdapterStore(Protocol):
    """Keeps adapters by key."""

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None where there is none.

        Raises:
            AdapterRefused: there is one, but it is damaged; it has been removed.
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
