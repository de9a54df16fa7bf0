"""AdamW over a stack of adapters: every slot with its own learning rate, step count and gradient clip."""

from __future__ import annotations

import torch

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class StackedAdamW:
    """AdamW without weight decay on a buffer (slots, weights), each row by itself.

    A row goes exactly the way that `torch.optim.AdamW` with `clip_grad_norm_` would take it alone. State stays with the
    slot until `reset`.

    Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), alg. 2, with no decay.
    """

    def __init__(self, weights: torch.Tensor) -> None:
        self._weights = weights
        self._mean = torch.zeros_like(weights)
        self._square = torch.zeros_like(weights)
        # counted where every machine has float64: in float32, 1 - 0.999 is off by a hundred-thousandth
        self._steps = torch.zeros(len(weights), 1, dtype=torch.float64)

    def reset(self, slot: int) -> None:
        """Forget what a slot has gone through."""
        self._mean[slot] = 0.0
        self._square[slot] = 0.0
        self._steps[slot] = 0.0

    @torch.no_grad()
    def step(self, gradients: torch.Tensor, rates: torch.Tensor, max_norms: torch.Tensor) -> None:
        """Move every slot along its gradient.

        Args:
            gradients: (slots, weights); written to.
            rates: (slots,) learning rates; a slot with rate 0 stays where it is.
            max_norms: (slots,) gradient clips.
        """
        gradients *= (max_norms / (gradients.norm(dim=1) + 1e-6)).clamp(max=1.0)[:, None]
        self._steps += 1.0
        self._mean.lerp_(gradients, 1.0 - _BETAS[0])
        self._square.mul_(_BETAS[1]).addcmul_(gradients, gradients, value=1.0 - _BETAS[1])
        corrections = torch.stack([1.0 - beta**self._steps for beta in _BETAS])  # (2, slots, 1)
        of_mean, of_square = corrections.float().to(self._weights.device)
        spread = (self._square.sqrt() / of_square.sqrt()).add_(_EPSILON)
        self._weights.addcmul_(self._mean / spread, -rates[:, None] / of_mean)
