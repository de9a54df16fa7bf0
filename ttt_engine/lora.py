"""LoRAs of several tasks side by side on one base model: drawn, trained, read out, filled, and switched on and off.

The base weights are never written. While a stack is on, hooks add each task's update to the layers it adapts, and its
task token to the embeddings; merging swaps in a sum for the time of an answer and swaps the very same tensors back.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig

from icl_engine.transformers_model import TransformersModel
from ttt_engine.adapter import TASK_TOKEN
from ttt_engine.config import LoraSettings
from ttt_engine.errors import AdapterRefused
from ttt_engine.slots import Rows, TaskToken, fill, read

_PEFT_PREFIX = "base_model.model."  # under which PEFT files its tensors
_IN_LAYER = re.compile(r"(.+?)\.(\d+)\.")  # a stack of layers and the place of one of them: its first number


@dataclass(frozen=True, slots=True)
class _Layer:
    """One adapted layer and its matrices: views of the stack's buffers, a row of them a slot."""

    name: str
    place: int  # among the layers
    module: torch.nn.Linear
    mergeable: bool  # its weight is its own, and not quantised: a sum can stand in for it
    a: torch.nn.Parameter  # (slots, rank, inputs)
    b: torch.nn.Parameter  # (slots, outputs, rank)


class LoraStack:
    """The LoRA matrices of `n_slots` tasks for one base model; off until `training`, `active` or `merged` is entered.

    All that is trained are views of one buffer (n_slots, weights): an optimiser step is a few operations on the whole.
    Hold `model.lock` from `reset` or `fill` to the last pass with it.

    Raises:
        AdapterRefused: the model has no layer that `settings` name.
    Source: Hu et al. 2021 (arXiv 2106.09685); with `frozen_a` Zhang et al. 2023 (arXiv 2308.03303), sec. 3. With
        `top_layers` no gradient goes further down than these (the `num_layers` of mlx-lm), but that of a task token.
    """

    def __init__(self, model: TransformersModel, settings: LoraSettings, n_slots: int = 1) -> None:
        self.model = model
        self.settings = settings
        self.n_slots = n_slots
        modules = _target_modules(model, settings) if settings.rank else []
        a_sizes = [settings.rank * layer.in_features for _, layer in modules]
        b_sizes = [settings.rank * layer.out_features for _, layer in modules]
        trained = b_sizes if settings.frozen_a else [n for pair in zip(a_sizes, b_sizes, strict=True) for n in pair]
        if settings.task_token:
            trained = [*trained, TaskToken.width(model)]
        self.weights = torch.zeros(n_slots, sum(trained), device=model.device)  # fp32, whatever the base has
        parts = iter(self.weights.split(trained, dim=1))
        a_parts = parts
        if settings.frozen_a:  # in a buffer of their own: the optimiser keeps nothing of them
            a_parts = iter(torch.zeros(n_slots, sum(a_sizes), device=model.device).split(a_sizes, dim=1))
        uses = Counter(id(own) for module in model.module.modules() for own in module.parameters(recurse=False))
        self._layers: list[_Layer] = []
        for name, layer in modules:
            a = next(a_parts).view(n_slots, settings.rank, layer.in_features)
            b = next(parts).view(n_slots, layer.out_features, settings.rank)
            matrices = (torch.nn.Parameter(part, requires_grad=False) for part in (a, b))
            tied = uses[id(layer.weight)] > 1  # with the input embedding, which a sum would change too
            self._layers.append(_Layer(name, len(self._layers), layer, not tied and _is_plain(layer), *matrices))
        self._token = TaskToken(model, next(parts)) if settings.task_token else None
        self._scale = settings.alpha / max(1, settings.rank)
        self._head = model.module.get_output_embeddings()
        self.use([0])

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return what is trained, in the order of `weights`: A and B of every layer, or B alone, each of all slots."""
        frozen = self.settings.frozen_a
        matrices = [matrix for layer in self._layers for matrix in ((layer.b,) if frozen else (layer.a, layer.b))]
        return [*matrices, *([self._token.vectors] if self._token else [])]

    @property
    def scale(self) -> float:
        """What a layer's update is multiplied by: alpha over the rank."""
        return self._scale

    @property
    def rows(self) -> Rows:
        """Which rows of the next batches are for which slot, as `use` was told."""
        return self._rows

    def matrices_of(self, module: torch.nn.Linear) -> tuple[torch.nn.Parameter, torch.nn.Parameter] | None:
        """Return A (slots, rank, inputs) and B (slots, outputs, rank) of a layer; None: it is not adapted."""
        return next(((layer.a, layer.b) for layer in self._layers if layer.module is module), None)

    def gradients(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the gradients of a loss, laid out as `weights`."""
        # a layer may take no part in a pass: an expert that is not chosen, a tower for pictures
        found = torch.autograd.grad(loss, self.parameters(), allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.reshape(self.n_slots, -1) for gradient in found], dim=1)

    def reset(self, seed: int, slot: int = 0) -> None:
        """Start a slot anew: A drawn as LoRA does, B zero, so that the model answers as the base until trained."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self._layers:
                bound = math.sqrt(1.0 / layer.a.shape[2])  # kaiming_uniform_ with a = sqrt(5)
                drawn = (torch.rand(layer.a.shape[1:], generator=generator) * 2 - 1) * bound
                layer.a[slot] = drawn.to(layer.a.device)
                layer.b[slot] = 0.0
            if self._token:
                self._token.vectors[slot] = 0.0

    def keep_rank(self, rank: int, slot: int = 0) -> None:
        """Make 0 what lies beyond a rank: rows of A and columns of B, which training then leaves at 0."""
        with torch.no_grad():
            for layer in self._layers:
                layer.a[slot, rank:] = 0.0
                layer.b[slot, :, rank:] = 0.0

    def tensors(self, slot: int = 0) -> dict[str, torch.Tensor]:
        """Return copies of a slot's matrices under PEFT's names, and of its task token."""
        return read(self._named(), slot)

    def fill(self, tensors: Mapping[str, torch.Tensor], slot: int = 0) -> None:
        """Take a trained adapter into a slot.

        Raises:
            AdapterRefused: names, shapes or types are not exactly this stack's, or a value is not finite.
        """
        fill(self._named(), tensors, slot)

    def peft_config(self) -> str:
        """Return PEFT's adapter_config.json for the matrices of this stack; of a task token PEFT knows nothing."""
        if not self._layers:  # PEFT knows no rank 0
            return json.dumps({"r": 0, "lora_alpha": self.settings.alpha})
        config = LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; any number does
            target_modules=sorted({self._peft_target(layer.name) for layer in self._layers}),
            lora_dropout=self.settings.dropout,
            bias="none",
        )
        content = {**config.to_dict(), "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True}
        return json.dumps(
            content,
            default=lambda value: sorted(value) if isinstance(value, set) else str(value),
            indent=1,
            sort_keys=True,
        )

    def _peft_target(self, name: str) -> str:
        """Return what PEFT knows a layer by: the end of its name, or all of it where others of that end are as they
        are.
        """
        return name.rpartition(".")[2] if self.settings.top_layers is None else name

    def use(self, slots: Sequence[int], draws: Sequence[int] = ()) -> None:
        """Say which slot each row of the next batches is for; the rows of a slot stand together, in rising order.

        Args:
            draws: the seed of each row's dropout; (): none, as where the model answers.
        """
        self._rows = self._head_rows = Rows.of(slots, self.model.device)
        self._slots, self._draws = tuple(slots), tuple(draws)

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
        """Let the model answer with one slot added to its weights: decoding is as fast as the base's.

        What cannot be added is computed beside them: tied and quantised layers, the task token. In half precision the
        sum is rounded to it, so that answers may differ from those beside the weights by as much.
        """
        slots = self._slots
        layers = [layer for layer in self._layers if layer.mergeable]
        originals = [layer.module.weight.data for layer in layers]
        try:
            self.use([slot])
            for layer, original in zip(layers, originals, strict=True):
                update = self._scale * (layer.b[slot] @ layer.a[slot]).detach()
                layer.module.weight.data = (original.float() + update).to(original.dtype)
            with self._hooks(besides=layers):
                yield
        finally:
            for layer, original in zip(layers, originals, strict=True):
                layer.module.weight.data = original
            self.use(slots)

    @contextlib.contextmanager
    def _hooks(self, besides: Sequence[_Layer] = ()) -> Iterator[None]:
        merged = {layer.name for layer in besides}
        layers = [layer for layer in self._layers if layer.name not in merged]
        with contextlib.ExitStack() as hooks:
            for layer in layers:
                hooks.callback(layer.module.register_forward_hook(self._adding(layer)).remove)
            if any(layer.module is self._head for layer in layers):
                noting = self.model.module.register_forward_pre_hook(self._note_learned, with_kwargs=True)
                hooks.callback(noting.remove)
            if self._token:
                hooks.enter_context(self._token.added(lambda: self._rows))
            yield

    def _note_learned(self, module: Any, given: Any, named: Mapping[str, Any]) -> None:
        """See how many places of each row the head will be given, where it is given some of each, one after the other.

        A mask (rows, tokens) in `logits_to_keep` leaves the head no rows to tell slots by.
        """
        kept = named.get("logits_to_keep")
        self._head_rows = self._rows
        if isinstance(kept, torch.Tensor) and kept.dtype == torch.bool and len(self._rows.slots) > 1:
            counts = kept.sum(1).tolist()
            places = [slot for slot, n in zip(self._slots, counts, strict=True) for _ in range(n)]
            self._head_rows = Rows.of(places, self.model.device)

    def _adding(self, layer: _Layer) -> Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
        def add(module: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return self._with_update(layer, given[0], output)

        return add

    def _with_update(self, layer: _Layer, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return output + scale * x A^T B^T, each row of the batch with its own slot's A and B."""
        rows = self._head_rows if layer.module is self._head else self._rows
        if self._draws and self.settings.dropout:
            x = self._thinned(layer, x)
        a, b = rows.chosen(layer.a), rows.chosen(layer.b)
        dtype = output.dtype if torch.is_autocast_enabled(output.device.type) else a.dtype  # autocast sees to its own
        inner = rows.grouped(x).to(dtype) @ a.mT  # (groups, tokens, rank)
        summed = torch.baddbmm(rows.grouped(output).to(dtype), inner, b.mT, alpha=self._scale)
        return rows.ungrouped(summed.to(output.dtype), output.shape)

    def _thinned(self, layer: _Layer, x: torch.Tensor) -> torch.Tensor:
        """Return x with a share of its numbers 0 and the others larger by as much, others in every row, layer and step.

        A row's draw is its own: on a CPU it is the same beside other rows, however far these are padded.
        """
        share = self.settings.dropout
        kept = []
        for row, draw in zip(x, self._draws, strict=True):
            generator = torch.Generator(x.device).manual_seed(draw + layer.place)
            kept.append(torch.rand(row.shape, generator=generator, device=x.device) >= share)
        return x * torch.stack(kept) / (1.0 - share)

    def _named(self) -> dict[str, torch.nn.Parameter]:
        matrices = {
            f"{_PEFT_PREFIX}{layer.name}.{which}.weight": matrix
            for layer in self._layers
            for which, matrix in (("lora_A", layer.a), ("lora_B", layer.b))
        }
        return {**matrices, **({TASK_TOKEN: self._token.vectors} if self._token else {})}


def _is_plain(layer: torch.nn.Linear) -> bool:
    """Say whether the weight is the matrix itself: a quantised one is packed, whatever type it is packed in."""
    return layer.weight.is_floating_point() and layer.weight.shape == (layer.out_features, layer.in_features)


def in_top_layers(names: Sequence[str], n_layers: int) -> set[str]:
    """Return the names of the modules that are in the last so many of their stack of layers.

    `model.layers.3.mlp.up_proj` is in the fourth layer of `model.layers`.
    """
    places = {name: (found[1], int(found[2])) for name in names if (found := _IN_LAYER.match(name))}
    last: dict[str, int] = {}
    for stack, place in places.values():
        last[stack] = max(place, last.get(stack, 0))
    return {name for name, (stack, place) in places.items() if place > last[stack] - n_layers}


def _target_modules(model: TransformersModel, settings: LoraSettings) -> list[tuple[str, torch.nn.Linear]]:
    head = model.module.get_output_embeddings()
    targets = settings.target_modules

    def named(name: str, module: torch.nn.Module) -> bool:
        if module is head and settings.output_head:
            return True
        return module is not head if targets == "all-linear" else name.rpartition(".")[2] in targets

    linear = [(name, module) for name, module in model.module.named_modules() if isinstance(module, torch.nn.Linear)]
    found = [(name, module) for name, module in linear if named(name, module)]
    if settings.top_layers is not None:
        top = in_top_layers([name for name, _ in linear], settings.top_layers)
        found = [(name, module) for name, module in found if module is head or name in top]
        if all(module is head for _, module in found):
            raise AdapterRefused(
                f"none of the matrices that target_modules={targets!r} names is in the last layers that "
                f"top_layers={settings.top_layers} leaves. Name others, or leave more layers."
            )
    if not found:
        raise AdapterRefused(f"the model has no linear layer that target_modules={targets!r} names. Name others.")
    if settings.output_head and all(module is not head for _, module in found):
        raise AdapterRefused("the model has no linear output head to adapt. Leave output_head off.")
    return found
