"""Attention block by block is torch's, but for the rounding of bfloat16; what it is not made for is torch's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from icl_engine.inference_settings import Precision
from icl_engine.language_model import load_model
from icl_engine.transformers_model import TransformersModel
from tests.models import CONSTANT_TASK, save_tiny_qwen
from ttt_engine import attention
from ttt_engine.attention import BlockwiseAttention, causal_attention
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.training import TrainingJob, train

ROUNDING = 0.01  # of bfloat16, relative, in the norm


States = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # queries, keys, values


def _states(tokens: int) -> States:
    query, key, value = torch.randn(3, 2, 3, tokens, 16, generator=torch.Generator().manual_seed(tokens)).bfloat16()
    return query, key, value


def _learned(states: States, *, full: bool = False) -> States:
    query, key, value = (each.to(torch.float32 if full else each.dtype, copy=True).requires_grad_() for each in states)
    return query, key, value


def _apart(found: torch.Tensor, known: torch.Tensor) -> float:
    found, known = found.detach().float(), known.detach().float()
    return float((found - known).norm() / known.norm())


@pytest.fixture
def blockwise(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths that were computed block by block."""
    found: list[int] = []

    def noting(query: torch.Tensor, *rest: object) -> torch.Tensor:
        found.append(query.shape[2])
        return causal_attention(query, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(attention, "causal_attention", noting)
    return found


@pytest.mark.parametrize("tokens", [1, 127, 128, 129, 300])
def test_it_is_what_torch_computes_and_so_are_its_gradients(tokens: int) -> None:
    states, full = _learned(_states(tokens)), _learned(_states(tokens), full=True)
    wanted = torch.randn(2, 3, tokens, 16, generator=torch.Generator().manual_seed(1))
    known = scaled_dot_product_attention(*full, is_causal=True)

    found = causal_attention(*states)

    assert found.dtype == torch.bfloat16
    assert _apart(found, known) < ROUNDING
    gradients, of_full = torch.autograd.grad(found, states, wanted), torch.autograd.grad(known, full, wanted)
    for gradient, expected in zip(gradients, of_full, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert _apart(gradient, expected) < ROUNDING or float(expected.norm()) < 1e-5  # one token has nothing to weigh


def test_what_comes_later_changes_nothing() -> None:
    query, key, value = _states(200)
    other_key, other_value = (torch.cat([each[:, :, :150], -each[:, :, 150:]], dim=2) for each in (key, value))

    found, changed = causal_attention(query, key, value), causal_attention(query, other_key, other_value)

    assert torch.equal(found[:, :, :150], changed[:, :, :150])
    assert not torch.equal(found[:, :, 150:], changed[:, :, 150:])


def test_queries_of_several_heads_share_keys(blockwise: list[int]) -> None:
    query, key, value = _states(140)
    shared = query, key[:, :1], value[:, :1]
    states, full = _learned(shared), _learned(shared, full=True)

    with BlockwiseAttention():
        found = scaled_dot_product_attention(*states, is_causal=True, enable_gqa=True, scale=0.5)

    known = scaled_dot_product_attention(*full, is_causal=True, enable_gqa=True, scale=0.5)
    assert blockwise == [140]
    assert _apart(found, known) < ROUNDING
    wanted = torch.randn(2, 3, 140, 16, generator=torch.Generator().manual_seed(1))
    gradients, of_full = torch.autograd.grad(found, states, wanted), torch.autograd.grad(known, full, wanted)
    for gradient, expected in zip(gradients, of_full, strict=True):
        assert gradient.shape == expected.shape
        assert _apart(gradient, expected) < ROUNDING


def test_products_in_bfloat16_are_not_asked_of_its_scores() -> None:
    states = _states(140)
    with torch.autocast("cpu", torch.bfloat16), BlockwiseAttention():
        found = scaled_dot_product_attention(*states, is_causal=True)

    assert torch.equal(found, causal_attention(*states))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True, "dropout_p": 0.5},
        {"attn_mask": torch.ones(140, 140, dtype=torch.bool).tril()},
    ],
    ids=["not causal", "with dropout", "with a mask"],
)
def test_what_it_is_not_made_for_is_torch_s_own(options: dict[str, Any], blockwise: list[int]) -> None:
    states = _states(140)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = scaled_dot_product_attention(*_learned(states, full=True), **options).bfloat16()
        torch.manual_seed(0)
        with BlockwiseAttention():
            found = scaled_dot_product_attention(*states, **options)

    assert blockwise == []
    assert torch.equal(found, known)


def test_where_too_much_would_be_kept_torch_computes(blockwise: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    states = _states(140)
    with BlockwiseAttention():
        scaled_dot_product_attention(*states, is_causal=True)
        monkeypatch.setattr(attention, "MOST_KEPT", 2 * 3 * (128 * 128 + 12 * 140) - 1)
        scaled_dot_product_attention(*states, is_causal=True)

    assert blockwise == [140]


def test_training_in_bfloat16_on_a_cpu_attends_block_by_block(
    tmp_path: Path, lora: LoraSettings, blockwise: list[int]
) -> None:
    model = load_model(str(save_tiny_qwen(tmp_path)), device="cpu", dtype="float32")
    assert isinstance(model, TransformersModel)
    for precision in get_args(Precision):
        train(model, lora, TrainingJob(CONSTANT_TASK, TrainingSettings(steps=2, precision=precision), 0))

    assert len(blockwise) == 2 * model.module.config.num_hidden_layers


def test_queries_and_keys_may_be_in_fp32_as_rotary_positions_leave_them() -> None:
    query, key, value = _states(140)
    states = _learned((query.float(), key.float(), value))
    known = scaled_dot_product_attention(*_learned((query, key, value), full=True), is_causal=True)

    with BlockwiseAttention():
        found = scaled_dot_product_attention(*states, is_causal=True)

    assert _apart(found, known) < ROUNDING
    assert [each.dtype for each in torch.autograd.grad(found.sum(), states)] == [each.dtype for each in states]


def test_second_derivatives_are_refused() -> None:
    states = _learned(_states(5))
    (first, *_) = torch.autograd.grad(causal_attention(*states).square().sum(), states, create_graph=True)

    with pytest.raises(RuntimeError, match=r"once_differentiable|used in the graph"):
        torch.autograd.grad(first.sum(), states)
