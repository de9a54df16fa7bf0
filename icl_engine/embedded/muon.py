"""Muon with its orthogonalisation in fp32, for processors without products in bfloat16: torch's computes in it always,
and where it is emulated a step takes as long as the passes over 8,192 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


class Fp32Muon(torch.optim.Muon):
    """`torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, the same but for its rounding; state dicts fit either.

    Source: Jordan et al. 2024, "Muon"; the scale of the update is that of Moonlight (arXiv 2502.16982, sec. 2.2).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if (gradient := parameter.grad) is not None:
                    self._move(parameter, gradient, group)
        return loss

    def _move(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        assert group["adjust_lr_fn"] == "match_rms_adamw", "the only scale that is wanted here"
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1.0 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(parameter.shape)))


def orthogonalised(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], n_steps: int, eps: float
) -> torch.Tensor:
    """Return about the nearest orthogonal matrix, by Newton-Schulz: its singular values come to about 0.5 to 1.3, where
    they were not next to nothing.
    """
    a, b, c = coefficients
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(n_steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
