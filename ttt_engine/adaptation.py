"""The seam between training and what is trained: LoRAs beside the base's weights, or all of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings
from ttt_engine.full import FullWeights
from ttt_engine.lora import LoraStack


class Adaptation(Protocol):
    """What is trained on the tasks of `n_slots` slots; off until `training`, `active` or `merged` is entered.

    The base's own weights are never written: after each of the three the model has the very tensors it had before. Hold
    `model.lock` from `reset` or `fill` to the last pass with it.
    """

    settings: LoraSettings
    n_slots: int
    weights: torch.Tensor  # (n_slots, weights) all that is trained, fp32; an optimiser writes to it

    def gradients(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the gradients of a loss, laid out as `weights`."""
        ...

    def reset(self, seed: int, slot: int = 0) -> None:
        """Start a slot anew, so that the model answers as the base until trained."""
        ...

    def keep_rank(self, rank: int, slot: int = 0) -> None:
        """Leave so much of a LoRA's rank to training, and the rest at 0."""
        ...

    def tensors(self, slot: int = 0) -> dict[str, torch.Tensor]:
        """Return copies of all that makes a slot's adapter, by name."""
        ...

    def fill(self, tensors: Mapping[str, torch.Tensor], slot: int = 0) -> None:
        """Take what `tensors` returned into a slot.

        Raises:
            AdapterRefused: names, shapes or types are not exactly those asked for, or a value is not finite.
        """
        ...

    def peft_config(self) -> str:
        """Return the JSON that goes with the tensors: PEFT's adapter_config.json or, of all weights, the config.json
        of the model.
        """
        ...

    def use(self, slots: Sequence[int], draws: Sequence[int] = ()) -> None:
        """Say which slot each row of the next batches is for; the rows of a slot stand together, in rising order.

        Args:
            draws: the seed of each row's dropout; (): none, as where the model answers.
        """
        ...

    def training(self) -> AbstractContextManager[None]:
        """Let it be trained for the time of a with block."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Let the model answer with the slots that `use` names."""
        ...

    def merged(self, slot: int = 0) -> AbstractContextManager[None]:
        """Let the model answer with one slot, as fast as can be."""
        ...


def adaptation_of(model: TransformersModel, settings: LoraSettings, n_slots: int = 1) -> Adaptation:
    """Return what these settings train, for as many tasks at a time; all weights: for one, however many are asked for.

    Raises:
        AdapterRefused: the model has no layer that the settings name, or more weights than they let train whole.
    """
    if settings.method == "full":
        return FullWeights(model, settings)
    return LoraStack(model, settings, n_slots)
