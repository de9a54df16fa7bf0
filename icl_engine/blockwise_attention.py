"""Attention on a CPU as matrix products, of a block of queries at a time and the keys that any of them looks at.

In bfloat16 torch's own kernel for CPUs is no quicker than in fp32, and these products are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

QUERIES = 128  # in a block; the quickest of 32, 64, 128 and 256


@dataclass(frozen=True, slots=True)
class Block:
    """Queries that are computed together, with all the keys that any of them looks at."""

    queries: slice
    n_keys: int  # the first so many
    hidden: torch.Tensor  # (rows or none, heads or none, queries, keys): -inf where a query does not look, else 0
    n_seen: int = 0  # keys before those of `hidden`, at which all of the queries look


def causal_blocks(n_tokens: int, dtype: torch.dtype, n_queries: int = QUERIES) -> list[Block]:
    """Return the blocks in which every token looks at those up to it."""
    triangle = torch.full((n_queries, n_queries), -math.inf, dtype=dtype).triu_(1)  # keys that come later
    blocks = []
    for start in range(0, n_tokens, n_queries):
        stop = min(start + n_queries, n_tokens)
        blocks.append(Block(slice(start, stop), stop, triangle[: stop - start, : stop - start], start))
    return blocks


def attend(
    asking: torch.Tensor,
    asked: torch.Tensor,
    given: torch.Tensor,
    blocks: Sequence[Block],
    *,
    kept: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return what the queries make of the values, (rows, heads, queries, width).

    Args:
        asking: the queries, scaled, (rows, heads, queries, width).
        asked: the keys, (rows, heads, keys, width), in the type of `asking`: in which scores are computed.
        given: the values, of the shape of the keys; probabilities and all that follows are in their type.
        kept: is given the probabilities of each block, for the gradients.
    """
    rows, heads, queries, _ = asking.shape
    attended = given.new_empty(rows, queries, heads, given.shape[3]).transpose(1, 2)  # as the next layer reads it
    for block in blocks:
        scores = asking[:, :, block.queries] @ asked[:, :, : block.n_keys].mT
        scores[..., block.n_seen :] += block.hidden
        probabilities = scores.softmax(-1).to(given.dtype)
        attended[:, :, block.queries] = probabilities @ given[:, :, : block.n_keys]
        if kept is not None:
            kept.append(probabilities)
    return attended
