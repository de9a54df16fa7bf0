"""Causal attention in bfloat16 of a pass of training on a CPU, block by block, with its gradients.

torch's kernel for CPUs computes all probabilities anew for its gradients, in bfloat16 more slowly than in fp32.
Here they are kept, and all is matrix products of a block of queries and the keys up to its end, in 0.3 to 0.5 of the
time at the embedded model's shapes. In fp32, where products are slower, training as a whole gained nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from icl_engine.blockwise_attention import QUERIES, Block, attend, causal_blocks

# probabilities of a layer, 16 MiB; where it would be more, torch's attention computes, which keeps none
MOST_KEPT = 2**23


class BlockwiseAttention(TorchFunctionMode):
    """Computes a model's attention blockwise where its values are in bfloat16 and it is causal without a mask of its
    own. All other attention is torch's, in full precision: on a CPU torch's own gradients take 2.5 times as long in
    bfloat16.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is not scaled_dot_product_attention or len(args) < 3:
            return func(*args, **given)
        query, key, value, *rest = args
        with torch.autocast("cpu", enabled=False):
            if not rest and _is_plainly_causal(query, key, value, given):
                return causal_attention(query, key, value, given.get("scale"))
            rest, given = [_full(each) for each in rest], {name: _full(each) for name, each in given.items()}
            found: torch.Tensor = func(query.float(), key.float(), value.float(), *rest, **given)
        return found.to(value.dtype)


def causal_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Return what every token makes of those up to it; (batch, heads, tokens, width), in the type of `value`.

    Scores and their softmax are computed in fp32, all other products in the type of `value`. Autocast has to be off.

    Args:
        query: (batch, heads, tokens, width), as `key` and `value`, which may have fewer heads.
        scale: of the scores; None: one over the root of the width.
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (each.repeat_interleave(repeats, dim=1) for each in (key, value))
    attended: torch.Tensor = _CausalAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, query.shape[-1] ** -0.5 if scale is None else scale
    )
    return attended


class _CausalAttention(torch.autograd.Function):
    """As many heads in the keys and the values as in the queries. Autocast is off, in both directions."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        blocks = causal_blocks(value.shape[2], torch.float32)
        kept: list[torch.Tensor] = []
        attended = attend(query.float() * scale, key.float(), value, blocks, kept=kept)
        context.save_for_backward(query, key, value, *kept)
        context.scale, context.blocks = scale, blocks
        return attended

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *kept = context.saved_tensors
        with torch.autocast("cpu", enabled=False):
            asking, asked, wanted = (each.to(value.dtype) for each in (query, key, gradient))
            of_asking, of_asked, of_given = gradients_of(asking, asked, value, wanted, kept, context.blocks)
            of_query, of_key = of_asking * context.scale, of_asked * context.scale
            return of_query.to(query.dtype), of_key.to(key.dtype), of_given.to(value.dtype), None


def n_kept(n_tokens: int, n_queries: int = QUERIES) -> int:
    """Return how many probabilities are kept of causal blocks, a row and head."""
    starts = range(0, n_tokens, n_queries)
    return sum(min(n_queries, n_tokens - start) * min(start + n_queries, n_tokens) for start in starts)


def gradients_of(
    asking: torch.Tensor,
    asked: torch.Tensor,
    given: torch.Tensor,
    wanted: torch.Tensor,
    kept: Sequence[torch.Tensor],
    blocks: Sequence[Block],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of queries as they were scaled, keys and values; the last two in fp32 where they are sums.

    Args:
        asking: as for `attend`, all in the type of the values.
        wanted: the gradient of what `attend` returned.
        kept: the probabilities it kept.
    """
    of_asking = torch.empty_like(asking)
    summed_in = given.dtype if len(blocks) == 1 else torch.float32
    of_asked, of_given = (torch.zeros(each.shape, dtype=summed_in) for each in (asked, given))
    for probabilities, block in zip(kept, blocks, strict=True):
        here, keys = wanted[:, :, block.queries], slice(block.n_keys)
        of_given[:, :, keys] += probabilities.mT @ here
        of_probabilities = here @ given[:, :, keys].mT
        of_scores = torch._softmax_backward_data(of_probabilities, probabilities, -1, given.dtype)
        of_asking[:, :, block.queries] = of_scores @ asked[:, :, keys]
        of_asked[:, :, keys] += of_scores.mT @ asking[:, :, block.queries]
    return of_asking, of_asked, of_given


def _is_plainly_causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, given: Mapping[str, Any]) -> bool:
    """Say whether every token looks at all those up to it, and the probabilities of so many can be kept."""
    asks = given.get("is_causal", False) and given.get("attn_mask") is None and not given.get("dropout_p", 0.0)
    shares = query.shape[1] == key.shape[1] or given.get("enable_gqa", False)
    if query.dim() != 4:
        return False
    batch, heads, tokens, _ = query.shape
    return bool(
        asks
        and shares
        and value.dtype == torch.bfloat16
        and key.shape == value.shape
        and key.shape[2:] == query.shape[2:]
        and 0 < batch * heads * n_kept(tokens) <= MOST_KEPT
    )


def _full(given: Any) -> Any:
    """Return a floating mask in full precision, and all else as it is."""
    return given.float() if isinstance(given, torch.Tensor) and given.is_floating_point() else given
