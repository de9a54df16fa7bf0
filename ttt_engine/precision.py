"""What training computes in bfloat16, where that is asked for: the products, and on a CPU nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ttt_engine.config import Precision


@contextlib.contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute a pass and its gradients in a precision, for the time of a with block.

    Autocast keeps the copies it makes of weights to the end of a block: take a block of its own for every step.
    """
    if precision == "full":
        yield
        return
    attention = _FullAttention() if device.type == "cpu" else contextlib.nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield


class _FullAttention(TorchFunctionMode):
    """Computes attention in full within autocast: on a CPU its backward pass takes 2.5 times as long in bfloat16."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is not scaled_dot_product_attention or len(args) < 3:
            return func(*args, **given)
        query, key, value, *rest = args
        with torch.autocast("cpu", enabled=False):
            rest, given = [_full(each) for each in rest], {name: _full(each) for name, each in given.items()}
            found: torch.Tensor = func(query.float(), key.float(), value.float(), *rest, **given)
        return found.to(value.dtype)


def _full(given: Any) -> Any:
    """Return a floating mask in full precision, and all else as it is."""
    return given.float() if isinstance(given, torch.Tensor) and given.is_floating_point() else given
