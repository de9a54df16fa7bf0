"""What training computes in bfloat16, where that is asked for: products, and on a CPU little else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from icl_engine.inference_settings import Precision
from ttt_engine.attention import BlockwiseAttention


@contextlib.contextmanager
def computing_in(precision: Precision, device: torch.device, *, attending: bool = True) -> Iterator[None]:
    """Compute a pass and its gradients in a precision, for the time of a with block.

    Args:
        attending: see to torch's attention on a CPU, too; not where none is asked of it.

    Autocast keeps the copies it makes of weights to the end of a block: take a block of its own for every step.
    """
    if precision == "full":
        yield
        return
    attention = BlockwiseAttention() if device.type == "cpu" and attending else contextlib.nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield
