"""Training at test time: a LoRA adapter trained on a task's own demonstrations, kept, and answered with.

Importing this loads no torch; `TttEngine` comes from `ttt_engine.engine`, which does.
"""

from ttt_engine.adapter import Adapter, adapter_key
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.errors import AdapterRefused, StoreUnavailable, TrainingFailed
from ttt_engine.stores import AdapterStore, LocalAdapterStore, MemoryAdapterStore

__all__ = [
    "Adapter",
    "AdapterRefused",
    "AdapterStore",
    "LocalAdapterStore",
    "LoraSettings",
    "MemoryAdapterStore",
    "StoreUnavailable",
    "TrainingFailed",
    "TrainingSettings",
    "adapter_key",
]
