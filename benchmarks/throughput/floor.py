"""The least time that training and answering can take on a machine: arithmetic of a model's shape, over rates measured
in the same run.

The counts are of matrix products and attention; norms, activations and Python are what a fraction of the floor lacks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ttt_engine.config import LoraSettings
from ttt_engine.lora import LoraStack


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a decoder the counts hang on."""

    width: int
    layers: int
    trunk: int  # P: weights in matrix products, without embedding and head
    head: int  # H: weights of the head
    kv_width: int  # numbers in a key, or a value, of one token in one layer
    value_bytes: int  # of a weight, and of a number in the key-value cache
    linears: tuple[tuple[int, int, int], ...]  # (inputs, outputs, how many) of the trunk's matrices

    @property
    def weight_bytes(self) -> int:
        """Read once in every pass."""
        return (self.trunk + self.head) * self.value_bytes

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one token."""
        return 2 * self.layers * self.kv_width * self.value_bytes


def llama_shape(
    *, width: int, inner: int, layers: int, kv_width: int, vocabulary: int, value_bytes: int = 2, q_width: int = 0
) -> Shape:
    """Return the shape of a Llama: four matrices of attention and three of the gated MLP in each layer.

    Args:
        q_width: of all heads together; `width` where it is not given.
    """
    q_width = q_width or width
    a_layer = [(width, q_width), (width, kv_width), (width, kv_width), (q_width, width)]
    a_layer += [(width, inner), (width, inner), (inner, width)]
    linears = tuple((*each, n * layers) for each, n in Counter(a_layer).items())
    trunk = sum(inputs * outputs * n for inputs, outputs, n in linears)
    return Shape(width, layers, trunk, width * vocabulary, kv_width, value_bytes, linears)


def shape_of(module: Any) -> Shape:
    """Return the shape of a transformers model of Llama's kind."""
    config = module.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return llama_shape(
        width=config.hidden_size,
        inner=config.intermediate_size,
        layers=config.num_hidden_layers,
        kv_width=config.num_key_value_heads * head_dim,
        q_width=config.num_attention_heads * head_dim,
        vocabulary=config.vocab_size,
        value_bytes=next(module.parameters()).element_size(),
    )


def lora_weights(model: Any, lora: LoraSettings) -> int:
    """Return P_L, the weights of one task's adapter."""
    return LoraStack(model, lora).weights.shape[1]


def training_flops(shape: Shape, lora_weights: int, lengths: Sequence[int], learned: int) -> float:
    """Return the operations that training over a frozen base needs: F = D (4 P + 6 P_L + 6 n_l d L) + 4 H D_s.

    The base is gone through forwards and backwards, without gradients of its weights; a LoRA has those too. The head is
    needed where a token is learned. So is most of the last layer (`ttt_engine.last_layer`), which is counted whole all
    the same, for peers and for us: what leaves it out comes out up to a tenth nearer to the floor than it is.

    Args:
        lengths: of every sequence, in tokens; padding is not needed.
        learned: D_s, tokens that are learned.
    """
    per_token = 4 * shape.trunk + 6 * lora_weights
    attention = 6 * shape.layers * shape.width  # a token and a token of the sequence; causal
    trunk = sum(length * (per_token + attention * length) for length in lengths)
    return float(trunk + 4 * shape.head * learned)


def answering_floor_s(
    shape: Shape, rows: Sequence[tuple[int, int]], *, flops_per_s: float, bytes_per_s: float
) -> tuple[float, float]:
    """Return the least seconds of reading the prompts, and of writing the answers, all rows of all tasks in one batch.

    Reading is bound by arithmetic. A step of writing reads the weights and the keys and values so far, and multiplies
    all live rows: whichever takes longer.

    Args:
        rows: (tokens of the prompt, tokens written) of each.
    """
    attention = 2 * shape.layers * shape.width
    reading = sum(n * (2 * shape.trunk + attention * n) + 2 * shape.head for n, _ in rows)
    writing_s = 0.0
    for step in range(1, max((written for _, written in rows), default=0)):  # reading gives the first token
        live = [prompt + step for prompt, written in rows if written > step]
        moved = shape.weight_bytes + sum(live) * shape.kv_bytes
        flops = 2 * len(live) * (shape.trunk + shape.head) + attention * sum(live)
        writing_s += max(moved / bytes_per_s, flops / flops_per_s)
    return reading / flops_per_s, writing_s


def measured_flops_per_s(
    shape: Shape, device: torch.device, dtype: torch.dtype, *, rows: Sequence[int], repeats: int
) -> float:
    """Return R_gemm: what torch.mm gives at the model's own matrices, over all of them, each at its best.

    Args:
        rows: numbers of tokens to try; too many fall out of a cache, too few do not fill the machine.
    """
    seconds, flops = 0.0, 0.0
    for inputs, outputs, n in shape.linears:
        rate = max(_product_flops_per_s(inputs, outputs, m, device, dtype, repeats) for m in rows)
        flops += 2.0 * inputs * outputs * n
        seconds += 2.0 * inputs * outputs * n / rate
    return flops / seconds


def measured_bytes_per_s(n_bytes: int, device: torch.device, *, repeats: int) -> float:
    """Return the bandwidth of copying as many bytes as the weights have: those of a small model stay in a cache."""
    source = torch.ones(max(n_bytes, 2**20), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.numel() / _best(lambda: target.copy_(source), device, repeats)


def synchronize(device: torch.device) -> None:
    """Wait for what was asked of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _product_flops_per_s(
    inputs: int, outputs: int, rows: int, device: torch.device, dtype: torch.dtype, repeats: int
) -> float:
    x = torch.randn(rows, inputs, device=device, dtype=dtype)
    weights = torch.randn(outputs, inputs, device=device, dtype=dtype)
    out = torch.empty(rows, outputs, device=device, dtype=dtype)
    return 2.0 * rows * inputs * outputs / _best(lambda: torch.mm(x, weights.T, out=out), device, repeats)


def _best(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats + 1):  # the first warms up, and is never the best
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best
