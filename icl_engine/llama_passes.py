"""A Llama's passes of reading on a CPU, written out: prompts, one token more, given answers. Without gradients.

For the embedded model and every other Llama whose layers nobody has changed. It computes what transformers' modules do
in fewer and quicker calls, which is what a token takes that a small model reads, and the last layer for those places
alone whose logits are asked for. On request products are in bfloat16.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from transformers.modeling_outputs import CausalLMOutputWithPast

from icl_engine.blockwise_attention import Block, attend, causal_blocks
from icl_engine.inference_settings import Precision
from icl_engine.plain_llama import LlamaLayer, is_llama_around_linears, is_plain_llama
from icl_engine.rotary import Turn

_QUERIES = 192  # in a block of attention


@contextlib.contextmanager
def written_out(module: Any, precision: Precision = "full") -> Iterator[None]:
    """Let a model's passes be computed here for the time of a with block, if it is a Llama on a CPU that nobody has
    changed; else by transformers. Hold the model's lock, and leave the weights as they are.

    Args:
        precision: "bf16" has products in bfloat16, if the weights are in fp32 and nothing is added to linear layers;
            what is read after something is attended to in full precision, so that numbers hang, by as much as the
            rounding, on what is read in one pass: with a draft or without, with a prefix that others share or alone.
    """
    if not is_llama_around_linears(module):
        yield
        return
    module.forward = _Passes(module, in_bfloat16=precision == "bf16" and is_plain_llama(module)).read
    try:
        yield
    finally:
        del module.forward


class _Passes:
    """What a model computes of tokens that follow each other."""

    def __init__(self, module: Any, *, in_bfloat16: bool) -> None:
        self._module, self._base, self._in_bfloat16 = module, module.model, in_bfloat16
        config = module.config
        self._n_heads, self._n_shared = config.num_attention_heads, config.num_key_value_heads
        self._head = module.model.layers[0].self_attn.head_dim
        self._n_layers = config.num_hidden_layers

    @functools.cached_property
    def _layers(self) -> list[LlamaLayer[_Linears]]:
        layers = self._base.layers[: self._n_layers]
        made = _in_bfloat16 if self._in_bfloat16 else _as_they_are
        return [LlamaLayer.of(layer, made, is_last=layer is layers[-1]) for layer in layers]

    def read(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values: Any = None,
        logits_to_keep: int | torch.Tensor = 0,
        use_cache: bool = False,
    ) -> CausalLMOutputWithPast:
        """Read tokens, (rows, tokens), after those in the cache, as transformers' module does.

        Args:
            attention_mask: (rows, tokens with those in the cache), 0 where a row is padded.
            logits_to_keep: the places whose logits are wanted; 0: all of them.
            use_cache: whether there is a cache.
        """
        n_tokens = input_ids.shape[1]
        places = None if isinstance(logits_to_keep, int) or n_tokens == 1 else logits_to_keep
        states = self._base.embed_tokens(input_ids)  # (rows, tokens, hidden)
        cos, sin = self._base.rotary_emb(states, position_ids)
        turn = asking = Turn.of(cos, sin, len(input_ids))
        looking = _Looking.of(attention_mask, n_tokens)
        in_blocks = self._in_bfloat16 and n_tokens == attention_mask.shape[1] > 1
        blocks = looking.blocks() if in_blocks else []
        for i, layer in enumerate(self._layers):
            read = _normed(states, layer.norm)
            joined = self._by_head(layer.attention(read))
            if layer.query is None:
                turned, value = joined.split([self._n_heads + self._n_shared, self._n_shared], dim=2)
                query, key = _turned(turned, turn).split([self._n_heads, self._n_shared], dim=1)
            else:  # the last layer, whose keys and values alone are of all places
                if places is not None:
                    states, read, asking = states[:, places], read[:, places], turn.at(lambda x: x[:, places])
                    looking = looking.at(places)
                    blocks = looking.blocks() if in_blocks else []
                turned, value = joined.split(self._n_shared, dim=2)
                query, key = _turned(self._by_head(layer.query(read)), asking), _turned(turned, turn)
            value = value.transpose(1, 2)
            if past_key_values is not None:
                key, value = past_key_values.update(key, value, i)
            attended = self._attended(query, key, value, blocks) if in_blocks else looking.attended(query, key, value)
            states = states + layer.output(attended.transpose(1, 2).flatten(2))
            gate, up = layer.gate_up(_normed(states, layer.mlp_norm)).chunk(2, dim=-1)
            states = states + layer.down(silu(gate) * up)
        logits = self._module.lm_head(_normed(states, self._base.norm))
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, tokens, heads, head) of (rows, tokens, heads times head), in the type of states."""
        by_head: torch.Tensor = x.to(self._base.embed_tokens.weight.dtype).unflatten(2, (-1, self._head))
        return by_head

    def _attended(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block]
    ) -> torch.Tensor:
        query = (query * query.shape[-1] ** -0.5).to(torch.bfloat16)
        key, value = key.to(torch.bfloat16), value.to(torch.bfloat16)
        if self._n_heads > self._n_shared:
            key, value = (each.repeat_interleave(self._n_heads // self._n_shared, dim=1) for each in (key, value))
        return attend(query, key, value, blocks)


def _turned(x: torch.Tensor, turn: Turn) -> torch.Tensor:
    """Turn (rows, tokens, heads, head) by their positions; (rows, heads, tokens, head)."""
    turned = torch.empty(x.shape, dtype=x.dtype)
    turn.turn(x, turned)
    return turned.transpose(1, 2)


def _normed(states: torch.Tensor, norm: Any) -> torch.Tensor:
    """Norm in fp32. Source: Zhang and Sennrich 2019 (arXiv 1910.07467), eq. 4."""
    exact = states.float()
    normed = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    found: torch.Tensor = norm.weight * normed.to(states.dtype)
    return found


@dataclass(frozen=True, slots=True)
class _Looking:
    """Which tokens each of those that are read looks at."""

    seen: torch.Tensor | None  # (rows or 1, 1, queries, keys); None: all up to its own
    n_queries: int
    n_keys: int

    @classmethod
    def of(cls, mask: torch.Tensor, n_queries: int) -> _Looking:
        """Take a mask of all tokens, (rows, tokens), of which the last are read now."""
        n_keys = mask.shape[1]
        if bool(mask.all()) and n_queries in (1, n_keys):
            return cls(None, n_queries, n_keys)
        seen = mask.bool()[:, None, None]
        if n_queries > 1:  # a token of the padding looks at itself, so that its numbers are finite
            ahead = torch.arange(n_keys) - torch.arange(n_keys - n_queries, n_keys)[:, None]
            seen = (seen & (ahead < 0)) | (ahead == 0)
        return cls(seen, n_queries, n_keys)

    def at(self, places: torch.Tensor) -> _Looking:
        """Return what some of the tokens that are read look at."""
        if self.seen is not None:
            return _Looking(self.seen[:, :, places], len(places), self.n_keys)
        before = self.n_keys - self.n_queries
        return _Looking((torch.arange(self.n_keys) <= places[:, None] + before)[None, None], len(places), self.n_keys)

    def attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return attention by torch's kernel, (rows, heads, queries, head)."""
        return scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self.seen,
            is_causal=self.seen is None and self.n_queries > 1,
            enable_gqa=query.shape[1] > key.shape[1],
        )

    def blocks(self) -> list[Block]:
        """Return the blocks of attention in bfloat16; of tokens before which none are cached."""
        if self.seen is None:
            return causal_blocks(self.n_keys, torch.bfloat16, _QUERIES)
        hidden = torch.zeros(self.seen.shape, dtype=torch.bfloat16).masked_fill_(~self.seen, -torch.inf)
        blocks = []
        for start in range(0, self.n_queries, _QUERIES):
            queries = slice(start, min(start + _QUERIES, self.n_queries))
            n_keys = int(self.seen[:, 0, queries].flatten(0, 1).any(dim=0).nonzero().max()) + 1
            blocks.append(Block(queries, n_keys, hidden[:, :, queries, :n_keys]))
        return blocks


_Linears = Callable[
    [torch.Tensor], torch.Tensor
]  # linear layers that read the same: what they make of it, side by side


def _as_they_are(*layers: Any) -> _Linears:
    if len(layers) == 1:
        only: _Linears = layers[0]
        return only
    return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)


def _in_bfloat16(*layers: torch.nn.Linear) -> _Linears:
    weight = torch.cat([layer.weight.to(torch.bfloat16) for layer in layers])
    return lambda x: linear(x.to(weight.dtype), weight)
