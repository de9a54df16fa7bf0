"""Where adapters are kept. Importing this loads neither torch nor a client library."""

from ttt_engine.stores.local import LocalAdapterStore
from ttt_engine.stores.memory import MemoryAdapterStore
from ttt_engine.stores.store import AdapterStore

__all__ = ["AdapterStore", "LocalAdapterStore", "MemoryAdapterStore"]
