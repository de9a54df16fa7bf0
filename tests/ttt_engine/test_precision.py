"""Asked for bfloat16, products are in it, attention of values in fp32 is not, and the rest is left to autocast."""

from __future__ import annotations

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from ttt_engine.precision import computing_in

CPU = torch.device("cpu")
STATES = torch.randn(3, 2, 1, 9, 8, generator=torch.Generator().manual_seed(0))  # queries, keys, values


def test_products_are_in_bfloat16_and_attention_of_full_values_in_full() -> None:
    query, key, value = (states.clone().requires_grad_() for states in STATES)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True)

    with computing_in("bf16", CPU):
        product = linear(query, torch.ones(8, 8))
        attended = scaled_dot_product_attention(query, key, value, is_causal=True)

    assert product.dtype == torch.bfloat16
    assert torch.equal(attended, expected)
    assert torch.equal(*(torch.autograd.grad(each.sum(), query)[0] for each in (attended, expected)))


def test_attention_gives_the_type_it_is_given() -> None:
    query, key, value = STATES

    with computing_in("bf16", CPU):
        attended = scaled_dot_product_attention(query, key, value.bfloat16())

    assert attended.dtype == torch.bfloat16
    assert torch.equal(attended, scaled_dot_product_attention(query, key, value.bfloat16().float()).bfloat16())


def test_full_precision_changes_nothing() -> None:
    with computing_in("full", CPU):
        product = linear(STATES, torch.ones(8, 8))

    assert torch.equal(product, linear(STATES, torch.ones(8, 8)))
    assert not torch.is_autocast_enabled("cpu")
