"""An adapter as a plain PEFT folder, for whatever else reads those. Unsigned: our stores do not read it back."""

from __future__ import annotations

from pathlib import Path

from ttt_engine.adapter import Adapter


def export_adapter(adapter: Adapter, folder: Path) -> Path:
    """Write `adapter_model.safetensors` and `adapter_config.json` into a folder, made if it is missing; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(adapter.weights)
    (folder / "adapter_config.json").write_text(adapter.peft_config, encoding="utf-8")
    return folder
