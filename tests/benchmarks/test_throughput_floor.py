from __future__ import annotations

from math import prod

import pytest
import torch

from benchmarks.throughput.floor import (
    Shape,
    answering_floor_s,
    llama_shape,
    lora_weights,
    measured_bytes_per_s,
    measured_flops_per_s,
    shape_of,
    training_flops,
)
from tests.models import tiny_model
from ttt_engine.config import LoraSettings

LLAMA_1B = llama_shape(width=2048, inner=8192, layers=16, kv_width=512, vocabulary=128_256)
LLAMA_8B = llama_shape(width=4096, inner=14_336, layers=32, kv_width=1024, vocabulary=128_256)
SCRATCH = {
    width: llama_shape(width=width, inner=4 * width, layers=layers, kv_width=width, vocabulary=1024)
    for width, layers in ((128, 4), (256, 6), (512, 8))
}
A100, H200 = 312e12, 989e12  # operations/s of bfloat16
H200_BYTES = 4.8e12


def qv_mlp(width: int, kv_width: int, inner: int, layers: int, rank: int) -> int:
    """P_L of the paper's targets: q, v and the MLP."""
    return rank * layers * (2 * width + (width + kv_width) + 3 * (width + inner))


def all_linear(shape: Shape, rank: int) -> int:
    return sum(rank * (inputs + outputs) * n for inputs, outputs, n in shape.linears)


def a_token(shape: Shape, lora: int, *, learned: bool) -> float:
    return training_flops(shape, lora, [1], int(learned))


@pytest.mark.parametrize(("rank", "gflops"), [(16, 5.0), (64, 5.2), (128, 5.4)])
def test_a_token_of_llama_1b_costs_what_is_known(rank: int, gflops: float) -> None:
    lora = qv_mlp(2048, 512, 8192, 16, rank)

    assert a_token(LLAMA_1B, lora, learned=True) == pytest.approx(gflops * 1e9, rel=0.01)


@pytest.mark.parametrize(("rank", "gflops"), [(16, 30.2), (64, 30.9), (128, 31.7)])
def test_a_token_of_llama_8b_costs_what_is_known(rank: int, gflops: float) -> None:
    lora = qv_mlp(4096, 1024, 14_336, 32, rank)

    assert a_token(LLAMA_8B, lora, learned=True) == pytest.approx(gflops * 1e9, rel=0.005)


@pytest.mark.parametrize(
    ("width", "weights", "lora", "mflops"),
    [(128, 1.0e6, 0.19e6, 5.3), (256, 6.3e6, 0.57e6, 29), (512, 34e6, 1.5e6, 143)],
)
def test_a_token_of_a_small_model_costs_what_is_known(width: int, weights: float, lora: float, mflops: float) -> None:
    shape = SCRATCH[width]

    assert shape.trunk == pytest.approx(weights, rel=0.05)
    assert all_linear(shape, 16) == pytest.approx(lora, rel=0.02)
    assert a_token(shape, all_linear(shape, 16), learned=False) == pytest.approx(mflops * 1e6, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "lora", "rate", "seconds"),
    [
        (LLAMA_1B, qv_mlp(2048, 512, 8192, 16, 128), A100, 17),
        (LLAMA_1B, qv_mlp(2048, 512, 8192, 16, 128), H200, 5.5),
        (LLAMA_8B, qv_mlp(4096, 1024, 14_336, 32, 128), A100, 102),
        (LLAMA_8B, qv_mlp(4096, 1024, 14_336, 32, 128), H200, 32),
    ],
)
def test_a_million_tokens_take_what_is_known(shape: Shape, lora: int, rate: float, seconds: float) -> None:
    assert 1e6 * a_token(shape, lora, learned=True) / rate == pytest.approx(seconds, rel=0.02)


def test_attention_grows_with_the_square_of_the_length() -> None:
    without = Shape(8, 2, 0, 0, 8, 4, ())

    assert training_flops(without, 0, [10, 20], 0) == 6 * 2 * 8 * (10**2 + 20**2)


def test_only_learned_tokens_need_the_head() -> None:
    more = training_flops(LLAMA_1B, 0, [50], 20) - training_flops(LLAMA_1B, 0, [50], 0)

    assert more == pytest.approx(4 * LLAMA_1B.head * 20)


def test_a_step_of_writing_reads_the_weights_whatever_the_number_of_rows() -> None:
    """0.51 ms of Llama 1B on an H200."""
    one = answering_floor_s(LLAMA_1B, [(1, 2)], flops_per_s=H200, bytes_per_s=H200_BYTES)[1]
    many = answering_floor_s(LLAMA_1B, [(1, 2)] * 64, flops_per_s=H200, bytes_per_s=H200_BYTES)[1]

    assert one == pytest.approx(0.51e-3, rel=0.02)
    assert many == pytest.approx(one, rel=0.01)


def test_a_step_of_very_many_rows_is_bound_by_arithmetic() -> None:
    n = 1000
    floor_s = answering_floor_s(LLAMA_1B, [(1, 2)] * n, flops_per_s=H200, bytes_per_s=H200_BYTES)[1]

    assert floor_s == pytest.approx(2 * n * (LLAMA_1B.trunk + LLAMA_1B.head) / H200, rel=0.01)


def test_a_token_of_llama_8b_keeps_131_kilobytes() -> None:
    assert LLAMA_8B.kv_bytes == 131_072


def test_reading_is_two_operations_a_weight_and_token() -> None:
    reading_s, writing_s = answering_floor_s(LLAMA_8B, [(2000, 1)] * 15, flops_per_s=H200, bytes_per_s=H200_BYTES)

    assert reading_s == pytest.approx(0.5, rel=0.2)  # attention is beside it
    assert writing_s == 0.0


def test_a_model_s_shape_is_its_matrices() -> None:
    model = tiny_model()
    shape, head = shape_of(model.module), model.module.get_output_embeddings()
    matrices = [m.weight for m in model.module.modules() if isinstance(m, torch.nn.Linear) and m is not head]

    assert shape.trunk == sum(weight.numel() for weight in matrices)
    assert shape.head == prod(head.weight.shape)
    assert lora_weights(model, LoraSettings(rank=3)) == all_linear(shape, 3)


def test_rates_are_measured_on_this_machine() -> None:
    device = torch.device("cpu")
    shape = shape_of(tiny_model().module)

    assert measured_flops_per_s(shape, device, torch.float32, rows=(8, 16), repeats=1) > 0
    assert measured_bytes_per_s(2**20, device, repeats=1) > 0
