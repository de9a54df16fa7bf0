"""Where adapters are kept. Importing this loads neither torch nor a client library."""

from ttt_engine.stores.local import LocalAdapterStore
from ttt_engine.stores.memory import MemoryAdapterStore
from ttt_engine.stores.opening import SCHEMES, StoreSettings, open_store
from ttt_engine.stores.signing import Signer, load_secrets
from ttt_engine.stores.single_flight import SingleFlight
from ttt_engine.stores.store import AdapterStore
from ttt_engine.stores.tiered import TieredAdapterStore

__all__ = [
    "SCHEMES",
    "AdapterStore",
    "LocalAdapterStore",
    "MemoryAdapterStore",
    "Signer",
    "SingleFlight",
    "StoreSettings",
    "TieredAdapterStore",
    "load_secrets",
    "open_store",
]
