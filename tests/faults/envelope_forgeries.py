"""Forged adapters, by what is wrong with them: some are signed as only we can, to show that the inner checks hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3
from safetensors.numpy import load, save

from tests.adapters import adapter_of, signer, spec_of
from ttt_engine.adapter import Adapter
from ttt_engine.config import LoraSettings
from ttt_engine.stores.envelope import FIXED_BYTES, VERSION, seal
from ttt_engine.stores.signing import Signer


@dataclass(frozen=True, slots=True)
class Forgery:
    """Bytes that are no adapter, and the reasons either of which is right."""

    blob: bytes
    reasons: tuple[str, ...]


class Payload:
    """Runs code where it is unpickled: the attack itself, for a test that shows it never is."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        import os

        return os.system, ("exit 1",)


def blob_of(adapter: Adapter, by: Signer | None = None) -> bytes:
    sealed = seal(adapter, by or signer(json.loads(adapter.spec)["tenant"]))
    return sealed.head + bytes(sealed.weights)


def _signed(content: dict[str, Any], weights: bytes, by: Signer | None = None, header: bytes | None = None) -> bytes:
    """Sign anything with the right secret."""
    header = json.dumps(content).encode() if header is None else header
    prefix = struct.pack(">8sHHIQ", b"\x89TTTADP\n", VERSION, 0, len(header), len(weights))
    return prefix + (by or signer()).sign(prefix, header) + header + weights


def _content(adapter: Adapter) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(seal(adapter, signer()).head[FIXED_BYTES:])
    return content


def _with_weights(adapter: Adapter, weights: bytes) -> bytes:
    """Other weights in a header that says what it said of the tensors, with their own hashes, signed."""
    pieces = [blake3(weights[i : i + 2**20]).hexdigest() for i in range(0, len(weights), 2**20)]
    return _signed({**_content(adapter), "pieces": pieces}, weights)


def _tensors(adapter: Adapter) -> dict[str, Any]:
    return dict(load(bytes(adapter.weights)))


def _unsigned_change(adapter: Adapter) -> Forgery:
    content = {**_content(adapter), "train_tokens": 1}
    return Forgery(
        _signed(content, bytes(adapter.weights), signer("default", "a secret that is not ours")), ("signature",)
    )


def _pickled(adapter: Adapter) -> Forgery:
    import pickle  # the forger's, not ours

    return Forgery(pickle.dumps(Payload()), ("size", "magic"))


def _pickled_weights(adapter: Adapter) -> Forgery:
    import pickle

    return Forgery(_with_weights(adapter, pickle.dumps(Payload())), ("layout",))


def _other_weights(adapter: Adapter) -> Forgery:
    head = seal(adapter, signer()).head
    return Forgery(head + bytes(adapter_of("another task").weights), ("hash", "size"))


def _replayed(adapter: Adapter) -> Forgery:
    return Forgery(blob_of(adapter_of("another task")), ("key",))


def _foreign(adapter: Adapter) -> Forgery:
    return Forgery(blob_of(adapter_of(adapter.task_fingerprint, tenant="acme")), ("signature",))


def _foreign_signed_by_us(adapter: Adapter) -> Forgery:
    spec = spec_of(adapter.task_fingerprint, tenant="acme")
    content = {**_content(adapter), "spec": spec.document}
    return Forgery(_signed(content, bytes(adapter.weights)), ("key", "tenant"))


def _other_base(adapter: Adapter) -> Forgery:
    content = {**_content(adapter), "spec": spec_of(adapter.task_fingerprint, base="another base").document}
    return Forgery(_signed(content, bytes(adapter.weights)), ("key",))


def _other_rank(adapter: Adapter) -> Forgery:
    content = {**_content(adapter), "peft_config": json.dumps({"r": 64, "lora_alpha": 8.0})}
    return Forgery(_signed(content, bytes(adapter.weights)), ("config",))


def _other_alpha_with_its_key(adapter: Adapter) -> Forgery:
    spec = spec_of(adapter.task_fingerprint, lora=LoraSettings(4, 1e6))
    return Forgery(blob_of(adapter_of(spec=spec)), ("key",))


def _extra_tensor(adapter: Adapter) -> Forgery:
    weights = save({**_tensors(adapter), "extra": np.zeros((1, 1), np.float32)})
    return Forgery(_with_weights(adapter, weights), ("tensors",))


def _missing_tensor(adapter: Adapter) -> Forgery:
    return Forgery(_with_weights(adapter, save(dict(list(_tensors(adapter).items())[:1]))), ("tensors",))


def _swapped_names(adapter: Adapter) -> Forgery:
    (one, a), (other, b) = _tensors(adapter).items()
    return Forgery(_with_weights(adapter, save({f"{one}.swapped": a, other: b})), ("tensors",))


def _other_dtype(adapter: Adapter) -> Forgery:
    weights = save({name: tensor.astype(np.float16) for name, tensor in _tensors(adapter).items()})
    return Forgery(_with_weights(adapter, weights), ("tensors",))


def _not_finite(adapter: Adapter) -> Forgery:
    tensors = _tensors(adapter)
    first = next(iter(tensors))
    tensors[first] = tensors[first].copy()
    tensors[first][0, 0] = np.nan
    return Forgery(_with_weights(adapter, save(tensors)), ("values",))


def _no_tensors(adapter: Adapter) -> Forgery:
    return Forgery(_with_weights(adapter, (2).to_bytes(8, "little") + b"{}"), ("layout",))


def _huge_safetensors_header(adapter: Adapter) -> Forgery:
    return Forgery(_with_weights(adapter, (10**8).to_bytes(8, "little") + b"{" * 64), ("layout",))


def _huge_header(adapter: Adapter) -> Forgery:
    prefix = struct.pack(">8sHHIQ", b"\x89TTTADP\n", VERSION, 0, 2**32 - 1, 2**63)
    return Forgery(prefix + bytes(32) + b"x" * 100, ("size",))


def _deep_header(adapter: Adapter) -> Forgery:
    return Forgery(_signed({}, b"", header=b"[" * 100_000), ("header",))


def _newer(adapter: Adapter) -> Forgery:
    blob = bytearray(blob_of(adapter))
    blob[9] = VERSION + 1
    return Forgery(bytes(blob), ("version",))


def _appended(adapter: Adapter) -> Forgery:
    return Forgery(blob_of(adapter) + b"\0", ("size",))


def _plain_safetensors(adapter: Adapter) -> Forgery:
    return Forgery(bytes(adapter.weights), ("magic",))


def _no_pieces(adapter: Adapter) -> Forgery:
    return Forgery(_signed({**_content(adapter), "pieces": []}, bytes(adapter.weights)), ("header",))


FORGERIES: dict[str, Callable[[Adapter], Forgery]] = {
    "signed with another secret": _unsigned_change,
    "a pickle": _pickled,
    "a pickle as weights, signed": _pickled_weights,
    "another adapter's weights": _other_weights,
    "another adapter, replayed": _replayed,
    "another tenant's adapter": _foreign,
    "another tenant's settings, signed": _foreign_signed_by_us,
    "another base, signed": _other_base,
    "another rank, signed": _other_rank,
    "another alpha and its own key, signed": _other_alpha_with_its_key,
    "a tensor too many, signed": _extra_tensor,
    "a tensor missing, signed": _missing_tensor,
    "other names, signed": _swapped_names,
    "another type, signed": _other_dtype,
    "not a number, signed": _not_finite,
    "no tensors, signed": _no_tensors,
    "safetensors with a huge header, signed": _huge_safetensors_header,
    "a huge head": _huge_header,
    "a header nested deeply, signed": _deep_header,
    "a newer version": _newer,
    "a byte too many": _appended,
    "safetensors without an envelope": _plain_safetensors,
    "no hashes, signed": _no_pieces,
}
