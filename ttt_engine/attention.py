"""Causal attention in bfloat16 of a pass of training on a CPU, block by block, with its gradients.

torch's kernel for CPUs computes all probabilities anew for its gradients, in bfloat16 more slowly than in fp32.
Here they are kept, and all is matrix products of a block of queries and the keys up to its end, in 0.3 to 0.5 of the
time at the embedded model's shapes. In fp32, where products are slower, training as a whole gained nothing by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_BLOCK = 128  # queries; the quickest of 32, 64, 128 and 256
# probabilities of a layer, 16 MiB; where it would be more, torch's attention computes, which keeps none
_MOST_KEPT = 2**23


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
        asking, asked, given = (each.flatten(0, 1) for each in (query, key, value))
        scaled, against = asking.float() * scale, asked.float().mT
        tokens = value.shape[2]
        hidden = torch.full((_BLOCK, _BLOCK), -math.inf).triu_(1)  # keys of the block itself that come later
        attended, kept = torch.empty_like(given), []
        for start in range(0, tokens, _BLOCK):
            stop = min(start + _BLOCK, tokens)
            scores = scaled[:, start:stop] @ against[:, :, :stop]
            scores[:, :, start:] += hidden[: stop - start, : stop - start]
            probabilities = scores.softmax(-1).to(value.dtype)
            attended[:, start:stop] = probabilities @ given[:, :stop]
            kept.append(probabilities)
        context.save_for_backward(query, key, value, *kept)
        context.scale = scale
        return attended.view(value.shape)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *kept = context.saved_tensors
        with torch.autocast("cpu", enabled=False):
            flat = (each.to(value.dtype).flatten(0, 1) for each in (query, key, value, gradient))
            asking, asked, given, wanted = flat
            of_asking = torch.empty_like(asking)
            of_asked, of_given = (torch.zeros(each.shape) for each in (asked, given))  # fp32: sums over blocks
            stop = 0
            for probabilities in kept:
                start, stop = stop, stop + probabilities.shape[1]
                here = wanted[:, start:stop]
                of_given[:, :stop] += probabilities.mT @ here
                of_probabilities = here @ given[:, :stop].mT
                of_scores = torch._softmax_backward_data(of_probabilities, probabilities, -1, value.dtype)
                of_asking[:, start:stop] = of_scores @ asked[:, :stop]
                of_asked[:, :stop] += of_scores.mT @ asking[:, start:stop]
            return (
                (of_asking * context.scale).to(query.dtype).view(query.shape),
                of_asked.mul_(context.scale).to(key.dtype).view(key.shape),
                of_given.to(value.dtype).view(value.shape),
                None,
            )


def _is_plainly_causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, given: Mapping[str, Any]) -> bool:
    """Say whether every token looks at all those up to it, and the probabilities of so many can be kept."""
    asks = given.get("is_causal", False) and given.get("attn_mask") is None and not given.get("dropout_p", 0.0)
    shares = query.shape[1] == key.shape[1] or given.get("enable_gqa", False)
    if query.dim() != 4:
        return False
    batch, heads, tokens, _ = query.shape
    kept = sum(min(_BLOCK, tokens - start) * min(start + _BLOCK, tokens) for start in range(0, tokens, _BLOCK))
    return bool(
        asks
        and shares
        and value.dtype == torch.bfloat16
        and key.shape == value.shape
        and key.shape[2:] == query.shape[2:]
        and 0 < batch * heads * kept <= _MOST_KEPT
    )


def _full(given: Any) -> Any:
    """Return a floating mask in full precision, and all else as it is."""
    return given.float() if isinstance(given, torch.Tensor) and given.is_floating_point() else given
