"""Muon in fp32 is torch's Muon, but for its rounding."""

from __future__ import annotations

import copy

import pytest
import torch

from icl_engine.embedded.muon import Fp32Muon, orthogonalised

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("shape", [(24, 24), (24, 64), (64, 24)])
def test_it_moves_a_matrix_as_torch_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.05, "adjust_lr_fn": "match_rms_adamw"}
    one, other = Fp32Muon([ours], **settings), torch.optim.Muon([theirs], **settings)  # type: ignore[arg-type]
    for _ in range(3):
        before = ours.detach().clone()
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
        moved = (ours - before).norm()
        assert (ours - theirs).norm() < 0.03 * moved  # bfloat16 has three digits
        assert moved > 0.01

    assert torch.equal(one.state[ours]["momentum_buffer"], other.state[theirs]["momentum_buffer"])


def test_it_goes_on_from_what_torch_s_has_kept() -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(8, 16))
    matrix.grad = torch.randn(8, 16)
    other = torch.optim.Muon([matrix], lr=0.02, adjust_lr_fn="match_rms_adamw")
    other.step()
    resumed = Fp32Muon([matrix], lr=0.02, adjust_lr_fn="match_rms_adamw")
    resumed.load_state_dict(copy.deepcopy(other.state_dict()))

    assert torch.equal(resumed.state[matrix]["momentum_buffer"], other.state[matrix]["momentum_buffer"])


def test_what_is_orthogonalised_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((32, 32), (16, 48), (48, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape), COEFFICIENTS, 5, 1e-7))
        assert 0.3 < values.min() <= values.max() < 1.3
