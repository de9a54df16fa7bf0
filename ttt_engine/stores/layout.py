"""Where the tensors lie in safetensors bytes, read strictly and without loading torch.

Stricter than the format: no metadata, only the float types that weights have, tensors one after the other without a
gap. The bytes are those of a signed adapter; this is the second lock, not the first.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # bytes of one value
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_TENSORS = 100_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: what it is, and the bytes of the file it takes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def tensor_layout(weights: bytes | memoryview) -> tuple[Tensor, ...]:
    """Return the tensors in the order they lie in.

    Raises:
        ValueError: this is not safetensors, or has what no adapter of ours has.
    """
    n_header = int.from_bytes(weights[:8], "little")
    if len(weights) < 8 or n_header > min(_MAX_HEADER_BYTES, len(weights) - 8):
        raise ValueError("the header is longer than the file or its limit")
    try:
        content = json.loads(bytes(weights[8 : 8 + n_header]), object_pairs_hook=_without_doubles)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(content, dict) or not 0 < len(content) <= _MAX_TENSORS:
        raise ValueError("the header names no tensors, or too many")
    tensors = sorted((_tensor(name, entry) for name, entry in content.items()), key=lambda tensor: tensor.start)
    place = 0
    for tensor in tensors:
        if tensor.start != place:
            raise ValueError("tensors overlap or leave a gap")
        place = tensor.stop
    if 8 + n_header + place != len(weights):
        raise ValueError("the tensors do not end where the file does")
    return tuple(
        Tensor(tensor.name, tensor.dtype, tensor.shape, 8 + n_header + tensor.start, 8 + n_header + tensor.stop)
        for tensor in tensors
    )


def all_finite(weights: bytes | memoryview, tensors: tuple[Tensor, ...]) -> bool:
    """Say whether every value of every tensor is finite."""
    return all(finite(memoryview(weights)[tensor.start : tensor.stop], tensor.dtype) for tensor in tensors)


def finite(values: memoryview, dtype: str) -> bool:
    """Say whether every value is finite; bytes that are not whole values of one of our types are not."""
    if len(values) == 0 or dtype not in _SIZES or len(values) % _SIZES[dtype]:
        return len(values) == 0
    import numpy as np  # a tenth of a second's import, which a look at an empty store need not wait for

    if dtype == "BF16":  # numpy has no such type; all bits of the exponent set: infinite or no number
        return bool(((np.frombuffer(values, "<u2") & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(np.frombuffer(values, f"<f{_SIZES[dtype]}")).all())


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name comes twice")
    return content


def _tensor(name: str, entry: object) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)], **rest} if (
            not rest and dtype in _SIZES and all(type(n) is int and n > 0 for n in shape)
        ):
            if 0 <= start < stop and stop - start == math.prod(shape) * _SIZES[dtype]:
                return Tensor(name, dtype, tuple(shape), start, stop)
    raise ValueError(f"tensor {name[:80]!r} is not described as one")
