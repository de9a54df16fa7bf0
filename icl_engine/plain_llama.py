"""Says whether a model is a Llama that nobody has changed, so that its layers may be computed as transformers' source
has them, without its modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaMLP,
    LlamaModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from icl_engine.embedded.grid_llama import GridLlamaForCausalLM, GridLlamaModel, GridRotaryEmbedding

_WRITTEN = (LlamaDecoderLayer, LlamaAttention, LlamaMLP, LlamaRMSNorm)


Linears = TypeVar("Linears")  # what is made of linear layers that read the same


@dataclass(frozen=True, slots=True)
class LlamaLayer(Generic[Linears]):
    """The parts of one decoder layer."""

    norm: Any  # before attention
    attention: Linears  # queries, keys and values; of the last layer keys and values
    query: Linears | None  # of the last layer
    output: Linears
    mlp_norm: Any
    gate_up: Linears
    down: Linears

    @classmethod
    def of(cls, layer: Any, made: Callable[..., Linears], *, is_last: bool) -> LlamaLayer[Linears]:
        """Take the parts of transformers' layer.

        Args:
            made: makes one of linear layers that read the same.
        """
        own, mlp = layer.self_attn, layer.mlp
        return cls(
            norm=layer.input_layernorm,
            attention=made(own.k_proj, own.v_proj) if is_last else made(own.q_proj, own.k_proj, own.v_proj),
            query=made(own.q_proj) if is_last else None,
            output=made(own.o_proj),
            mlp_norm=layer.post_attention_layernorm,
            gate_up=made(mlp.gate_proj, mlp.up_proj),
            down=made(mlp.down_proj),
        )

    @property
    def products(self) -> list[Linears]:
        """All of its linear layers."""
        return [each for each in (self.attention, self.query, self.output, self.gate_up, self.down) if each is not None]


def is_llama_around_linears(module: Any) -> bool:
    """Say whether a causal language model on a CPU, in evaluation mode, is a Llama as it is written, whatever its
    linear layers are and whatever is added to them; embedding and head may have hooks as well.
    """
    if type(module) not in (LlamaForCausalLM, GridLlamaForCausalLM) or type(module).forward is not _FORWARD:
        return False
    base = module.model
    if type(base) not in (LlamaModel, GridLlamaModel) or has_hooks(base) or "forward" in vars(base) | vars(module):
        return False
    config = module.config
    if config._attn_implementation not in ("sdpa", "eager") or not getattr(config, "is_causal", True):
        return False
    if module.training or module.device.type != "cpu":
        return False
    if type(base.rotary_emb) not in (LlamaRotaryEmbedding, GridRotaryEmbedding):
        return False
    return _is_as_written(base.norm, LlamaRMSNorm) and all(map(_is_layer_as_written, base.layers))


def is_plain_llama(module: Any) -> bool:
    """Say whether it is such a Llama, of weights in fp32, whose layers have plain linear layers without biases, to
    which nothing is added.
    """
    if not is_llama_around_linears(module) or module.dtype != torch.float32:
        return False
    parts = [part for layer in module.model.layers for part in layer.modules()]
    return all(_is_plain_linear(part) for part in parts if type(part) not in _WRITTEN and not _is_silu(part))


def is_as_written(module: Any) -> bool:
    """Say whether a module of transformers computes what its class was written to: nobody has put a forward of their
    own on it or on the class.
    """
    own = type(module)
    return (
        own.__module__.startswith("transformers.models.")
        and own.forward.__module__ == own.__module__
        and "forward" not in vars(module)
    )


def has_hooks(module: Any) -> bool:
    """Say whether anything else is computed when a module is called."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


_FORWARD = LlamaForCausalLM.forward


def _is_layer_as_written(layer: Any) -> bool:
    if not _is_as_written(layer, LlamaDecoderLayer):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    return (
        _is_as_written(attention, LlamaAttention)
        and attention.scaling == attention.head_dim**-0.5
        and _is_as_written(mlp, LlamaMLP)
        and _is_silu(mlp.act_fn)
        and all(_is_as_written(each, LlamaRMSNorm) for each in (layer.input_layernorm, layer.post_attention_layernorm))
    )


def _is_as_written(part: Any, kind: type) -> bool:
    return type(part) is kind and is_as_written(part) and not has_hooks(part)


def _is_silu(part: Any) -> bool:
    return type(part) in (torch.nn.SiLU, type(ACT2FN["silu"])) and not has_hooks(part)


def _is_plain_linear(part: Any) -> bool:
    if type(part) is not torch.nn.Linear or has_hooks(part):
        return False
    return part.bias is None and part.weight.dtype == torch.float32 and "forward" not in vars(part)
