"""Every row of the stack goes as torch's own AdamW takes it alone."""

from __future__ import annotations

import torch

from ttt_engine.optimizer import StackedAdamW


def test_a_row_goes_to_the_last_bits_as_torch_s_own_adamw_takes_it() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(20, 1, 50, generator=generator)
    weights, alone = torch.zeros(1, 50), torch.zeros(50, requires_grad=True)
    ours, theirs = StackedAdamW(weights), torch.optim.AdamW([alone], lr=0.01, weight_decay=0.0)

    for gradient in gradients:
        ours.step(gradient.clone(), torch.tensor([0.01]), torch.tensor([1e9]))
        alone.grad = gradient[0].clone()
        theirs.step()

        torch.testing.assert_close(weights[0], alone.detach(), rtol=1e-6, atol=1e-8)
