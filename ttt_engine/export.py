"""An adapter as a plain folder, for whatever else reads those. Unsigned: our stores do not read it back."""

from __future__ import annotations

import json
from pathlib import Path

from ttt_engine.adapter import TASK_TOKEN, Adapter
from ttt_engine.errors import AdapterRefused
from ttt_engine.stores.layout import tensor_layout


def export_adapter(adapter: Adapter, folder: Path) -> Path:
    """Write an adapter into a folder, made if it is missing; return it.

    A LoRA becomes a PEFT folder: `adapter_model.safetensors` and `adapter_config.json`. A model that was trained whole
    is no PEFT adapter and becomes one that transformers loads: `model.safetensors` and `config.json`; beside a
    tokenizer, where the base has one.

    Raises:
        AdapterRefused: it has a task token, which neither would know of and both would leave out.
    """
    if any(tensor.name == TASK_TOKEN for tensor in tensor_layout(adapter.weights)):
        raise AdapterRefused("an adapter with a task token answers in this engine only. Train one without task_token.")
    names = ("adapter_model.safetensors", "adapter_config.json")
    if "peft_type" not in json.loads(adapter.peft_config):
        names = ("model.safetensors", "config.json")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(names, (adapter.weights, adapter.peft_config.encode()), strict=True):
        (folder / name).write_bytes(content)
    return folder
