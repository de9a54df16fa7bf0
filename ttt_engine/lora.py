"""LoRAs of several tasks side by side on one base model: drawn, trained, read out, filled, and switched on and off.

The base weights are never written. While a stack is on, hooks add each task's update to the layers it adapts; merging
swaps in a sum for the time of an answer and swaps the very same tensors back.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from peft import LoraConfig

from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings
from ttt_engine.errors import AdapterRefused

_PEFT_PREFIX = "base_model.model."  # under which PEFT files its tensors


@dataclass(frozen=True, slots=True)
class _Layer:
    """One adapted layer and its matrices: views of the stack's buffers, a row of them a slot."""

    name: str
    module: torch.nn.Linear
    a: torch.nn.Parameter  # (slots, rank, inputs)
    b: torch.nn.Parameter  # (slots, outputs, rank)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which slots the rows of a batch are for: those of one slot stand together, slots in rising order."""

    slots: torch.Tensor  # (groups,) the slot of each group
    index: torch.Tensor | None  # (groups, most rows) rows of each group, filled up with its last; None: equal groups
    places: torch.Tensor | None  # (rows,) where each row stands in the flattened index

    @classmethod
    def of(cls, slots: Sequence[int], device: torch.device) -> _Rows:
        groups = [(slot, len(list(rows))) for slot, rows in groupby(slots)]
        if [slot for slot, _ in groups] != sorted({*slots}):
            raise ValueError(f"the rows of a slot must stand together, in rising order; got {list(slots)}")
        most = max(n for _, n in groups)
        chosen = torch.tensor([slot for slot, _ in groups], device=device)
        if all(n == most for _, n in groups):
            return cls(chosen, None, None)
        index, places, first = [], [], 0
        for i, (_, n) in enumerate(groups):
            index.append([first + min(place, n - 1) for place in range(most)])
            places += [i * most + place for place in range(n)]
            first += n
        return cls(chosen, torch.tensor(index, device=device), torch.tensor(places, device=device))


class LoraStack:
    """The LoRA matrices of `n_slots` tasks for one base model; off until `training`, `active` or `merged` is entered.

    All matrices are views of one buffer (n_slots, weights): an optimiser step is a few operations on the whole. Hold
    `model.lock` from `reset` or `fill` to the last pass with it.

    Raises:
        AdapterRefused: the model has no layer that `settings.target_modules` names.
    """

    def __init__(self, model: TransformersModel, settings: LoraSettings, n_slots: int = 1) -> None:
        self.model = model
        self.settings = settings
        self.n_slots = n_slots
        modules = _target_modules(model, settings)
        sizes = [settings.rank * n for _, layer in modules for n in (layer.in_features, layer.out_features)]
        self.weights = torch.zeros(n_slots, sum(sizes), device=model.device)  # fp32, whatever the base has
        parts = iter(self.weights.split(sizes, dim=1))
        self._layers = []
        for name, layer in modules:
            a = next(parts).view(n_slots, settings.rank, layer.in_features)
            b = next(parts).view(n_slots, layer.out_features, settings.rank)
            self._layers.append(
                _Layer(name, layer, *(torch.nn.Parameter(part, requires_grad=False) for part in (a, b)))
            )
        self._scale = settings.alpha / settings.rank
        self._rows = _Rows.of([0], model.device)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the matrices, A and B of every layer in the model's order, each of all slots."""
        return [matrix for layer in self._layers for matrix in (layer.a, layer.b)]

    def gradients(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the gradients of a loss, laid out as `weights`."""
        found = torch.autograd.grad(loss, self.parameters())
        return torch.cat([gradient.reshape(self.n_slots, -1) for gradient in found], dim=1)

    def reset(self, seed: int, slot: int = 0, *, used_rank: int | None = None) -> None:
        """Start a slot anew: A drawn as LoRA does, B zero, so that the model answers as the base until trained.

        Args:
            used_rank: rows of A beyond it are 0, and then stay so, as the columns of B that belong to them do.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self._layers:
                bound = math.sqrt(1.0 / layer.a.shape[2])  # kaiming_uniform_ with a = sqrt(5)
                drawn = (torch.rand(layer.a.shape[1:], generator=generator) * 2 - 1) * bound
                layer.a[slot] = drawn.to(layer.a.device)
                if used_rank is not None:
                    layer.a[slot, used_rank:] = 0.0
                layer.b[slot] = 0.0

    def tensors(self, slot: int = 0) -> dict[str, torch.Tensor]:
        """Return copies of a slot's matrices under PEFT's names."""
        return {name: matrix[slot].detach().cpu().clone() for name, matrix in self._named().items()}

    def fill(self, tensors: Mapping[str, torch.Tensor], slot: int = 0) -> None:
        """Take the matrices of a trained adapter into a slot.

        Raises:
            AdapterRefused: names, shapes or types are not exactly this stack's, or a value is not finite. PEFT itself
                would load half an adapter without complaint.
        """
        own = self._named()
        if own.keys() != tensors.keys():
            odd = sorted(own.keys() ^ tensors.keys())[0]
            raise AdapterRefused(f"tensor names differ from this model's, first at {odd!r}. Train the adapter anew.")
        for name, matrix in own.items():
            given = tensors[name]
            finite = bool(torch.isfinite(given).all())
            if given.shape != matrix.shape[1:] or given.dtype != matrix.dtype or not finite:
                raise AdapterRefused(
                    f"{name}: got {tuple(given.shape)} {given.dtype}, finite: {finite}; "
                    f"wanted {tuple(matrix.shape[1:])} {matrix.dtype}. Train the adapter anew."
                )
        with torch.no_grad():
            for name, matrix in own.items():
                matrix[slot] = tensors[name].to(matrix.device)

    def peft_config(self) -> str:
        """Return PEFT's adapter_config.json for an adapter of this stack."""
        config = LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; any number does
            target_modules=sorted({layer.name.rpartition(".")[2] for layer in self._layers}),
            lora_dropout=0.0,
            bias="none",
        )
        content = {**config.to_dict(), "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True}
        return json.dumps(
            content,
            default=lambda value: sorted(value) if isinstance(value, set) else str(value),
            indent=1,
            sort_keys=True,
        )

    def use(self, slots: Sequence[int]) -> None:
        """Say which slot each row of the next batches is for; the rows of a slot stand together, in rising order."""
        self._rows = _Rows.of(slots, self.model.device)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Let the matrices be trained for the time of a with block; `use` says which rows are for which slot."""
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        try:
            with self._hooks():
                yield
        finally:
            for parameter in self.parameters():
                parameter.requires_grad_(False)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the model answer with the slots that `use` names, computed beside its weights."""
        with torch.no_grad(), self._hooks():
            yield

    @contextlib.contextmanager
    def merged(self, slot: int = 0) -> Iterator[None]:
        """Let the model answer with one slot added to its weights: decoding is as fast as the base's."""
        originals = [layer.module.weight.data for layer in self._layers]
        try:
            for layer, original in zip(self._layers, originals, strict=True):
                update = self._scale * (layer.b[slot] @ layer.a[slot]).detach()
                layer.module.weight.data = (original.float() + update).to(original.dtype)
            yield
        finally:
            for layer, original in zip(self._layers, originals, strict=True):
                layer.module.weight.data = original

    @contextlib.contextmanager
    def _hooks(self) -> Iterator[None]:
        handles = [layer.module.register_forward_hook(self._adding(layer)) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _adding(self, layer: _Layer) -> Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
        def add(module: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return self._with_update(layer, given[0], output)

        return add

    def _with_update(self, layer: _Layer, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return output + scale * x A^T B^T, each row of the batch with its own slot's A and B."""
        rows = self._rows
        whole = len(rows.slots) == self.n_slots
        a, b = (matrix if whole else matrix[rows.slots] for matrix in (layer.a, layer.b))
        n_groups = len(rows.slots)
        if rows.index is not None:
            given, base = x[rows.index.flatten()], output[rows.index.flatten()]
        else:
            given, base = x, output
        inner = given.reshape(n_groups, -1, x.shape[-1]).to(a.dtype) @ a.mT  # (groups, tokens, rank)
        summed = torch.baddbmm(base.reshape(n_groups, -1, base.shape[-1]).to(a.dtype), inner, b.mT, alpha=self._scale)
        summed = summed.to(output.dtype).view(base.shape)
        return summed if rows.places is None else summed[rows.places]

    def _named(self) -> dict[str, torch.nn.Parameter]:
        return {
            f"{_PEFT_PREFIX}{layer.name}.{which}.weight": matrix
            for layer in self._layers
            for which, matrix in (("lora_A", layer.a), ("lora_B", layer.b))
        }


def _target_modules(model: TransformersModel, settings: LoraSettings) -> list[tuple[str, torch.nn.Linear]]:
    head = model.module.get_output_embeddings()
    targets = settings.target_modules
    found = [
        (name, module)
        for name, module in model.module.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (module is not head if targets == "all-linear" else name.rpartition(".")[2] in targets)
    ]
    if not found:
        raise AdapterRefused(f"the model has no linear layer that target_modules={targets!r} names. Name others.")
    return found
