"""Adapters in this process's memory: for tests, examples and a single run."""

from __future__ import annotations

from ttt_engine.adapter import Adapter


class MemoryAdapterStore:
    """An `AdapterStore` that lives as long as the process."""

    def __init__(self) -> None:
        self._adapters: dict[str, Adapter] = {}

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None."""
        return self._adapters.get(key)

    def put(self, adapter: Adapter) -> None:
        """Keep an adapter."""
        self._adapters[adapter.key] = adapter

    def __contains__(self, key: str) -> bool:
        return key in self._adapters
