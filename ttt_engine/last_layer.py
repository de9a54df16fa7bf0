"""The last layer of a pass of training, computed for learned places alone: of all others nobody asks what it says.

Its queries, keys and values are computed of all places, its output projection and MLP of those whose logits are
wanted. It leaves out a tenth of the embedded model's products, and no number that is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from icl_engine.plain_llama import is_as_written

# decoder layers of transformers that are made alike: norm, attention, sum; norm, MLP, sum
_KNOWN = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"})


@contextlib.contextmanager
def last_layer_at(module: Any, wanted: torch.Tensor) -> Iterator[torch.Tensor]:
    """Let a model compute its last layer, for the time of a with block, for some places of every row. Hold the model's
    lock.

    Args:
        module: a causal language model.
        wanted: (rows, tokens), of bool: the places. In the CPU's memory, whatever the module is on: a GPU is waited for
            once, before the pass, to be given them.

    Yields:
        `wanted` as it has to be said of what the last layer gives: (rows, most places of a row), or as it was, of a
        model whose last layer is not known here.
    """
    layer = _last_layer(module)
    if layer is None:
        yield wanted
        return
    places = ChosenPlaces.of(wanted, layer.self_attn.o_proj.weight.device)

    def forward(hidden_states: torch.Tensor, **given: Any) -> torch.Tensor:
        attended, *_ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **given)
        hidden = places.of_rows(hidden_states) + attended
        found: torch.Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return found

    narrowing = layer.self_attn.o_proj.register_forward_pre_hook(lambda _, given: (places.of_rows(given[0]),))
    layer.forward = forward
    try:
        yield places.kept
    finally:
        del layer.forward
        narrowing.remove()


@dataclass(frozen=True, slots=True)
class ChosenPlaces:
    """Places of every row of a batch: as many of each, a row with fewer filled up with others."""

    columns: torch.Tensor  # (rows, most places of a row), those that are wanted first; in the CPU's memory, as `kept`
    kept: torch.Tensor  # (rows, most places of a row), which of them are wanted
    _flat: torch.Tensor  # (rows * most,) of the batch as one row, on the model's device

    @classmethod
    def of(cls, wanted: torch.Tensor, device: torch.device) -> ChosenPlaces:
        """Take the wanted places, (rows, tokens) of bool in the CPU's memory; the device is waited for once."""
        counts = wanted.sum(1)
        most = int(counts.max())
        columns = torch.sort(wanted, dim=1, descending=True, stable=True).indices[:, :most]
        n_rows, n_tokens = wanted.shape
        flat = (columns + n_tokens * torch.arange(n_rows)[:, None]).flatten().to(device)
        return cls(columns, torch.arange(most) < counts[:, None], flat)

    def of_rows(self, values: torch.Tensor) -> torch.Tensor:
        """Return what is at these places of (rows, tokens, n): (rows, places, n)."""
        return values.flatten(0, 1).index_select(0, self._flat).view(*self.columns.shape, values.shape[-1])


def _last_layer(module: Any) -> Any:
    """Return the layer that a model computes last, if it and its attention are as transformers has them, or None."""
    layers = getattr(getattr(module, "model", None), "layers", None)
    if layers is None or type(layers[0]).__name__ not in _KNOWN:
        return None
    layer = layers[module.config.num_hidden_layers - 1]
    return layer if is_as_written(layer) and is_as_written(layer.self_attn) else None
