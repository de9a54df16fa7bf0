"""Rotary positions of queries and keys, turned in place of what transformers computes with copies of both halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Turn:
    """Rotary positions: how far the pairs of a head's numbers are turned at each token. Source: Su et al. 2021 (arXiv
    2104.09864), eq. 34, in the order of transformers: the first half of a head with its second.
    """

    cos: torch.Tensor  # (rows, tokens, 1, half of a head), in the type of products
    sin: torch.Tensor

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor, n_rows: int) -> Turn:
        """Take what transformers computes, (rows or 1, tokens, head), both halves alike."""
        half = cos.shape[-1] // 2
        return cls(*(each[..., None, :half].expand(n_rows, -1, -1, -1) for each in (cos, sin)))

    def at(self, chosen: Callable[[torch.Tensor], torch.Tensor]) -> Turn:
        """Return those of some tokens, which are chosen of (rows, tokens, n)."""
        return Turn(*(chosen(each.flatten(2))[:, :, None] for each in (self.cos, self.sin)))

    def turn(self, x: torch.Tensor, out: torch.Tensor, *, back: bool = False) -> None:
        """Turn x, (rows, tokens, heads, head), into `out`, of the same shape."""
        (first, second), (turned, other) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
        sign = -1 if back else 1
        torch.mul(first, self.cos, out=turned).addcmul_(second, self.sin, value=-sign)
        torch.mul(second, self.cos, out=other).addcmul_(first, self.sin, value=sign)
