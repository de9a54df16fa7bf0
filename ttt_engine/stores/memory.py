"""Adapters in this process's memory, checked and ready: the first tier, and a store for tests and examples."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ttt_engine.adapter import Adapter, kin_of


class MemoryAdapterStore:
    """An `AdapterStore` that lives as long as the process; of too many bytes, what was used longest ago goes first."""

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()  # the one used last is last
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None."""
        with self._lock:
            adapter = self._adapters.get(key)
            if adapter is not None:
                self._adapters.move_to_end(key)
            return adapter

    def put(self, adapter: Adapter) -> None:
        """Keep an adapter; one that is larger than all the room is not kept."""
        with self._lock:
            self._remove(adapter.key)
            if self.max_bytes is not None and len(adapter.weights) > self.max_bytes:
                return
            self._adapters[adapter.key] = adapter
            self._n_bytes += len(adapter.weights)
            while self.max_bytes is not None and self._n_bytes > self.max_bytes:
                self._remove(next(iter(self._adapters)))

    def remove(self, key: str) -> None:
        """Forget the adapter under `key`, if there is one."""
        with self._lock:
            self._remove(key)

    def __contains__(self, key: str) -> bool:
        return key in self._adapters

    def sketches(self, kin: str) -> dict[str, tuple[int, ...]]:
        """Return the sketches of adapters of one kin; see `SketchedStore`."""
        with self._lock:
            adapters = [adapter for adapter in self._adapters.values() if adapter.sketch and adapter.spec]
        return {adapter.key: adapter.sketch for adapter in adapters if kin_of(adapter.spec) == kin}

    def _remove(self, key: str) -> None:
        adapter = self._adapters.pop(key, None)
        self._n_bytes -= 0 if adapter is None else len(adapter.weights)
