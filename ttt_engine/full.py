"""All weights of a small model in the place of a LoRA: trained, answered with, and the base's put back.

For models of a few million weights this is smaller than the LoRA of a large one (18 million: 72 MB).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

from icl_engine.transformers_model import TransformersModel
from ttt_engine.adapter import TASK_TOKEN
from ttt_engine.config import LoraSettings
from ttt_engine.errors import AdapterRefused
from ttt_engine.slots import Rows, TaskToken, fill, read


class FullWeights:
    """An `Adaptation` that is a whole model of its own, in fp32, under the names of the base's parameters.

    The base's tensors are swapped for views of one buffer while it is on, and swapped back. So there is one slot: rows
    of one batch cannot have different models.

    Raises:
        AdapterRefused: the model has more than `settings.max_full_weights` weights, or they are quantised.
    """

    def __init__(self, model: TransformersModel, settings: LoraSettings) -> None:
        self.model = model
        self.settings = settings
        self.n_slots = 1
        named: dict[str, torch.nn.Parameter] = dict(model.module.named_parameters())  # tied ones once
        _check_trainable(named, settings.max_full_weights)
        sizes = {name: parameter.numel() for name, parameter in named.items()}
        if settings.task_token:
            sizes[TASK_TOKEN] = TaskToken.width(model)
        self.weights = torch.zeros(1, sum(sizes.values()), device=model.device)  # fp32, whatever the base has
        parts = dict(zip(sizes, self.weights.split(list(sizes.values()), dim=1), strict=True))
        self._token = TaskToken(model, parts.pop(TASK_TOKEN)) if settings.task_token else None
        self._parameters = list(named.values())
        self._own = {name: part.view(1, *named[name].shape) for name, part in parts.items()}
        self._base: list[torch.Tensor] = []  # while this is on: what the parameters held before
        self._rows = Rows.of([0], model.device)

    def gradients(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the gradients of a loss, laid out as `weights`."""
        found = torch.autograd.grad(loss, self._trained(), allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.reshape(1, -1) for gradient in found], dim=1)

    def keep_rank(self, rank: int, slot: int = 0) -> None:
        """Do nothing: there is no rank."""

    def reset(self, seed: int, slot: int = 0) -> None:
        """Start anew from the base's weights; nothing is drawn."""
        base = self._base or [parameter.data for parameter in self._parameters]
        with torch.no_grad():
            for own, original in zip(self._own.values(), base, strict=True):
                own[slot] = original
            if self._token:
                self._token.vectors[slot] = 0.0

    def tensors(self, slot: int = 0) -> dict[str, torch.Tensor]:
        """Return copies of the weights, under the names of the base's parameters."""
        return read(self._named(), slot)

    def fill(self, tensors: Mapping[str, torch.Tensor], slot: int = 0) -> None:
        """Take in weights that were trained; see `slots.fill`."""
        fill(self._named(), tensors, slot)

    def peft_config(self) -> str:
        """Return the model's config.json: this is no PEFT adapter, but all weights of a model of its own."""
        config: str = self.model.module.config.to_json_string()
        return config

    def use(self, slots: Sequence[int], draws: Sequence[int] = ()) -> None:
        """Say which slot each row is for: the only one; there is no dropout."""
        if {*slots} != {0}:
            raise ValueError(f"all weights are trained for one slot at a time, slot 0; got {list(slots)}")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Let the weights be trained for the time of a with block."""
        try:
            for parameter in self._trained():
                parameter.requires_grad_(True)
            with self._in_place():
                yield
        finally:
            for parameter in self._trained():
                parameter.requires_grad_(False)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the model answer with these weights, in fp32 as they were trained."""
        with torch.no_grad(), self._in_place():
            yield

    @contextlib.contextmanager
    def merged(self, slot: int = 0) -> Iterator[None]:
        """The same as `active`: there is nothing to add up."""
        with self.active():
            yield

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        base = self._base = [parameter.data for parameter in self._parameters]
        try:
            for parameter, own in zip(self._parameters, self._own.values(), strict=True):
                parameter.data = own[0]
            with self._token.added(lambda: self._rows) if self._token else contextlib.nullcontext():
                yield
        finally:
            for parameter, original in zip(self._parameters, base, strict=True):
                parameter.data = original
            self._base = []

    def _trained(self) -> list[torch.nn.Parameter]:
        """In the order of `weights`."""
        return [*self._parameters, *([self._token.vectors] if self._token else [])]

    def _named(self) -> dict[str, torch.Tensor]:
        return {**self._own, **({TASK_TOKEN: self._token.vectors} if self._token else {})}


def _check_trainable(named: Mapping[str, torch.Tensor], most: int) -> None:
    quantised = [name for name, tensor in named.items() if not tensor.is_floating_point()]
    if quantised:
        raise AdapterRefused(f"method='full' trains no quantised weights, such as {quantised[0]!r}. Use method='lora'.")
    n_weights = sum(tensor.numel() for tensor in named.values())
    if n_weights > most:
        raise AdapterRefused(
            f"the model has {n_weights:,} weights, and method='full' trains at most max_full_weights={most:,}. "
            "Use method='lora', or raise the limit: training takes 20 bytes a weight, an adapter 4."
        )
