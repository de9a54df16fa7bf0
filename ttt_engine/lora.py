"""One LoRA on a base model: put on once, then reset, trained, read out, filled and switched on and off per task.

The base weights are never written: merging swaps in a sum and swaps the very same tensors back.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings
from ttt_engine.errors import AdapterRefused

_PEFT_PREFIX = "base_model.model."  # under which PEFT files its tensors


def lora_slot(model: TransformersModel, settings: LoraSettings) -> LoraSlot:
    """Return the model's slot for these settings, put on with the first call."""
    with model.lock:
        slot = model.put_on.get(settings)
        if not isinstance(slot, LoraSlot):
            slot = model.put_on[settings] = LoraSlot(model, settings)
        return slot


class LoraSlot:
    """The trainable matrices of one LoRA on `model`; off until `active` or `training` switches it on.

    There is one slot per model and settings, from `lora_slot`: hold `model.lock` from `reset` or `fill` to the last
    pass with it.
    """

    def __init__(self, model: TransformersModel, settings: LoraSettings) -> None:
        self.model = model
        self.settings = settings
        self._name = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]  # other settings, another adapter to PEFT
        targets = settings.target_modules
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft divides it; any number does
            target_modules=targets if isinstance(targets, str) else list(targets),
            lora_dropout=0.0,
            bias="none",
        )
        self.peft_config = config
        # PEFT draws the matrices from the global generator, which is not ours to move on; `reset` draws them anew
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # several slots on one model are meant
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            inject_adapter_in_model(config, model.module, adapter_name=self._name)
        self._layers: dict[str, Any] = {
            name: module
            for name, module in model.module.named_modules()
            if isinstance(module, LoraLayer) and self._name in module.lora_A
        }
        for parameter in self.parameters():
            parameter.data = parameter.data.float()  # small, and trained: full precision whatever the base has
        self._switch(False)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the trainable matrices: A and B of every layer, in the model's order."""
        return [
            matrix
            for layer in self._layers.values()
            for matrix in (layer.lora_A[self._name].weight, layer.lora_B[self._name].weight)
        ]

    def reset(self, seed: int) -> None:
        """Start anew: A drawn as LoRA does, B zero, so that the model answers as the base until trained."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self._layers.values():
            a, b = layer.lora_A[self._name].weight, layer.lora_B[self._name].weight
            bound = math.sqrt(1.0 / a.shape[1])  # kaiming_uniform_ with a = sqrt(5)
            a.data = ((torch.rand(a.shape, generator=generator) * 2 - 1) * bound).to(a.device)
            b.data.zero_()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return copies of the matrices under PEFT's names."""
        return {
            f"{_PEFT_PREFIX}{name}.{which}.weight": getattr(layer, which)[self._name]
            .weight.detach()
            .cpu()
            .clone()
            .contiguous()
            for name, layer in self._layers.items()
            for which in ("lora_A", "lora_B")
        }

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the matrices of a trained adapter.

        Raises:
            AdapterRefused: names, shapes or types are not exactly this slot's, or a value is not finite. PEFT itself
            would
                load half an adapter without complaint.
        """
        own = {
            f"{_PEFT_PREFIX}{name}.{which}.weight": getattr(layer, which)[self._name].weight
            for name, layer in self._layers.items()
            for which in ("lora_A", "lora_B")
        }
        if own.keys() != tensors.keys():
            odd = sorted(own.keys() ^ tensors.keys())[0]
            raise AdapterRefused(f"tensor names differ from this model's, first at {odd!r}. Train the adapter anew.")
        for name, parameter in own.items():
            given = tensors[name]
            if (
                given.shape != parameter.shape
                or given.dtype != parameter.dtype
                or not bool(torch.isfinite(given).all())
            ):
                raise AdapterRefused(
                    f"{name}: got {tuple(given.shape)} {given.dtype}, finite: {bool(torch.isfinite(given).all())}; "
                    f"wanted {tuple(parameter.shape)} {parameter.dtype}. Train the adapter anew."
                )
        for name, parameter in own.items():
            parameter.data = tensors[name].to(parameter.device).clone()

    @contextlib.contextmanager
    def training(self) -> Iterator[list[torch.nn.Parameter]]:
        """Switch the adapter on, unmerged and trainable, for the time of a with block; yield its parameters."""
        self._switch(True)
        try:
            yield self.parameters()
        finally:
            self._switch(False)

    @contextlib.contextmanager
    def active(self, *, merged: bool = True) -> Iterator[None]:
        """Let the model answer with the adapter for the time of a with block.

        Args:
            merged: add the update to the weights, which makes decoding as fast as the base's, or keep it beside them.
        """
        if not merged:
            with self.training(), torch.no_grad():
                yield
            return
        originals = {name: layer.get_base_layer().weight.data for name, layer in self._layers.items()}
        try:
            for name, layer in self._layers.items():
                original = originals[name]
                delta = layer.get_delta_weight(self._name).detach()
                layer.get_base_layer().weight.data = (original.float() + delta.float()).to(original.dtype)
            yield
        finally:
            for name, layer in self._layers.items():
                layer.get_base_layer().weight.data = originals[name]

    def _switch(self, on: bool) -> None:
        for layer in self._layers.values():
            layer.set_adapter([self._name])
            layer.enable_adapters(on)
        for parameter in self.parameters():
            parameter.requires_grad_(on)
