"""Training at test time: a LoRA adapter trained on a task's own demonstrations, kept, and answered with.

Importing this loads no torch; `TttEngine` comes from `ttt_engine.engine`, which does.
"""

from ttt_engine.adapter import Adapter, AdapterSpec, adapter_key
from ttt_engine.config import AugmentationForm, DataForm, LoraSettings, LossOn, Method, TrainingSettings
from ttt_engine.errors import AdapterRefused, AdapterRejected, StoreMisconfigured, StoreUnavailable, TrainingFailed
from ttt_engine.export import export_adapter
from ttt_engine.stores import AdapterStore, LocalAdapterStore, MemoryAdapterStore, open_store

__all__ = [
    "Adapter",
    "AdapterRefused",
    "AdapterRejected",
    "AdapterSpec",
    "AdapterStore",
    "AugmentationForm",
    "DataForm",
    "LocalAdapterStore",
    "LoraSettings",
    "LossOn",
    "MemoryAdapterStore",
    "Method",
    "StoreMisconfigured",
    "StoreUnavailable",
    "TrainingFailed",
    "TrainingSettings",
    "adapter_key",
    "export_adapter",
    "open_store",
]
