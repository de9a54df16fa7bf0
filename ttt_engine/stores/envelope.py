"""The signed form in which adapters leave the process: a head that says what it is, then safetensors, nothing else.

    magic (8) version (2) 0 (2) header bytes (4) weights bytes (8) | HMAC-SHA256 (32) | header | weights

The HMAC covers everything but the weights; the header holds the BLAKE3 digest of each MiB of them. So one short HMAC
decides whether the head is ours before anything is parsed, and the weights are read once, piece by piece as they
arrive. (SHA-256 at 1.7 GB/s would take longer than a local Redis takes to send them.)
Checked in this order: size, magic, version, signature, header (key, tenant, settings), pieces, safetensors, the exact
tensors, every value finite. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from ttt_engine.adapter import Adapter
from ttt_engine.errors import AdapterRejected
from ttt_engine.stores.layout import all_finite, finite, tensor_layout
from ttt_engine.stores.signing import Signer

MAGIC = b"\x89TTTADP\n"  # no text starts like this, and a change of line ends breaks it
VERSION = 2
PIECE_BYTES = 2**20
MAX_HEADER_BYTES = 8 * 2**20
MAX_BYTES = 2**30  # of a whole envelope; the paper's largest adapter has 596 MB
REASONS = (
    "size", "magic", "version", "signature", "header", "key", "tenant", "config", "hash", "layout", "tensors", "values",
)  # fmt: skip

_PREFIX = struct.Struct(">8sHHIQ")
_MAC_BYTES = 32
FIXED_BYTES = _PREFIX.size + _MAC_BYTES
_FIELDS = {
    "key", "spec", "peft_config", "losses", "train_seconds", "train_tokens", "verdict", "sketch", "parents", "tensors",
    "pieces",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sealed:
    """An adapter in its envelope."""

    head: bytes
    weights: memoryview

    def pieces(self) -> Iterator[memoryview]:
        """Yield the weights, a MiB at a time."""
        for start in range(0, len(self.weights), PIECE_BYTES):
            yield self.weights[start : start + PIECE_BYTES]


def seal(adapter: Adapter, signer: Signer) -> Sealed:
    """Put an adapter into its envelope.

    Raises:
        ValueError: it is not one that `open_sealed` would give back, such as one without `spec`.
    """
    if _sha256(adapter.spec) != adapter.key:
        raise ValueError("the key is not the SHA-256 of the adapter's spec, or it has none")
    weights = memoryview(adapter.weights).toreadonly()
    content = {
        "key": adapter.key,
        "spec": adapter.spec,
        "peft_config": adapter.peft_config,
        "losses": list(adapter.losses),
        "train_seconds": adapter.train_seconds,
        "train_tokens": adapter.train_tokens,
        "verdict": adapter.verdict,
        "sketch": list(adapter.sketch),
        "parents": list(adapter.parents),
        "tensors": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in tensor_layout(weights)],
        "pieces": [blake3(piece).hexdigest() for piece in Sealed(b"", weights).pieces()],
    }
    header = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    prefix = _PREFIX.pack(MAGIC, VERSION, 0, len(header), len(weights))
    return Sealed(prefix + signer.sign(prefix, header) + header, weights)


def open_sealed(blob: bytes | memoryview, key: str, signer: Signer, *, max_bytes: int = MAX_BYTES) -> Adapter:
    """Return the adapter in a whole envelope.

    Raises:
        AdapterRejected: it is not what was sealed under this key for this tenant.
    """
    view = memoryview(blob).toreadonly()
    head = Head.read(view, key, signer, max_bytes=max_bytes)
    if len(view) != len(head) + head.n_weights:
        raise AdapterRejected("size", f"{len(view)} bytes, where the head says {len(head) + head.n_weights}")
    weights = view[len(head) :]
    for i in range(head.n_pieces):
        head.check_piece(i, weights[head.piece(i)])
    return head.adapter(weights)


def room(n_bytes: int) -> memoryview:
    """Return fresh memory to receive weights in.

    numpy asks the system for large pages: first writing 50 MB takes 15 ms in pages of 4 KiB, 2 ms in those of 2 MiB.
    """
    import numpy as np  # a tenth of a second's import, which a look at an empty store need not wait for

    return np.empty(n_bytes, np.uint8).data


def head_bytes(start: bytes | memoryview) -> int:
    """Return how long the head is that starts like this; of what is no head, as much as is there."""
    if len(start) < FIXED_BYTES:
        return len(start)
    return FIXED_BYTES + min(int(_PREFIX.unpack_from(start)[3]), MAX_HEADER_BYTES)


class Head:
    """The head of an envelope, checked; it checks the pieces of the weights as they come."""

    def __init__(self, length: int, n_weights: int, content: _Content) -> None:
        self._length = length
        self.n_weights = n_weights
        self.n_pieces = math.ceil(n_weights / PIECE_BYTES)
        self._content = content
        types = {dtype for _, dtype, _ in content.tensors}
        self._dtype = types.pop() if len(types) == 1 else None  # of all values, where it is one
        self._values_start: int | None = None  # in the weights, once the first piece is there
        self._n_finite = 0  # pieces whose values have been found finite

    @classmethod
    def read(cls, blob: bytes | memoryview, key: str, signer: Signer, *, max_bytes: int = MAX_BYTES) -> Head:
        """Read the head that `blob` starts with.

        Raises:
            AdapterRejected: it is not ours, or not the one of `key`.
        """
        if not FIXED_BYTES <= len(blob) <= max_bytes:
            raise AdapterRejected("size", f"{len(blob)} bytes")
        magic, version, zero, n_header, n_weights = _PREFIX.unpack_from(blob)
        if magic != MAGIC:
            raise AdapterRejected("magic", "it does not begin as an adapter does")
        if (version, zero) != (VERSION, 0):
            raise AdapterRejected("version", f"version {version}, where {VERSION} is read")
        length = FIXED_BYTES + n_header
        if n_header > MAX_HEADER_BYTES or length > len(blob) or length + n_weights > max_bytes:
            raise AdapterRejected("size", f"a head of {n_header} and weights of {n_weights} bytes")
        header = memoryview(blob)[FIXED_BYTES:length]
        if not signer.accepts(blob[_PREFIX.size : FIXED_BYTES], blob[: _PREFIX.size], header):
            said = "not signed with our secret for this tenant; who shares a store has to share the secrets"
            raise AdapterRejected("signature", said)
        content = _read_header(bytes(header), n_weights)
        _check_asked_for(content, key, signer.tenant)
        return cls(length, n_weights, content)

    def __len__(self) -> int:
        return self._length

    @property
    def sketch(self) -> tuple[int, ...]:
        """Of the task the adapter was trained for."""
        return self._content.sketch

    @property
    def spec(self) -> str:
        """The document that the key is the SHA-256 of."""
        return self._content.spec

    @property
    def weights_id(self) -> str:
        """A name for exactly these weights."""
        return hashlib.sha256("".join(self._content.pieces).encode()).hexdigest()[:16]

    def piece(self, i: int) -> slice:
        """Return where piece `i` lies in the weights."""
        return slice(i * PIECE_BYTES, min((i + 1) * PIECE_BYTES, self.n_weights))

    def check_piece(self, i: int, piece: bytes | memoryview) -> None:
        """Raise unless this is piece `i` of the weights, which come in order.

        Its values are looked at too, while it is in the processor's cache; what is wrong with them `adapter` says.

        Raises:
            AdapterRejected: it is not.
        """
        if blake3(piece).hexdigest() != self._content.pieces[i]:
            raise AdapterRejected("hash", f"MiB {i + 1} of {self.n_pieces} is not the one that was signed")
        if i == 0:
            self._values_start = 8 + int.from_bytes(piece[:8], "little")
        if self._dtype is not None and self._values_start is not None and self._values_start % 8 == 0:
            values = memoryview(piece)[max(0, self._values_start - i * PIECE_BYTES) :]
            self._n_finite += finite(values, self._dtype)

    def adapter(self, weights: memoryview) -> Adapter:
        """Return the adapter, once all its pieces have been checked.

        Raises:
            AdapterRejected: it is no safetensors of the tensors that the head names, or a value is not finite.
        """
        content = self._content
        try:
            tensors = tensor_layout(weights)
        except ValueError as error:
            raise AdapterRejected("layout", str(error)) from error
        if [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors] != content.tensors:
            raise AdapterRejected("tensors", "names, shapes or types are not those of the head")
        if self._n_finite < self.n_pieces and not all_finite(weights, tensors):
            raise AdapterRejected("values", "a weight is not finite")
        spec = json.loads(content.spec)
        return Adapter(
            key=content.key,
            weights=weights,
            peft_config=content.peft_config,
            base_fingerprint=spec["base"],
            task_fingerprint=spec["task"],
            losses=content.losses,
            train_seconds=content.train_seconds,
            train_tokens=content.train_tokens,
            verdict=content.verdict,
            spec=content.spec,
            sketch=content.sketch,
            parents=content.parents,
        )


@dataclass(frozen=True, slots=True)
class _Content:
    """What a header says, in its types."""

    key: str
    spec: str
    peft_config: str
    losses: tuple[float, ...]
    train_seconds: float
    train_tokens: int
    verdict: str
    sketch: tuple[int, ...]
    parents: tuple[str, ...]
    tensors: list[tuple[str, str, tuple[int, ...]]]
    pieces: tuple[str, ...]


def _read_header(header: bytes, n_weights: int) -> _Content:
    try:
        raw = json.loads(header, parse_constant=_no_number)
        if not isinstance(raw, dict) or set(raw) != _FIELDS:
            raise ValueError("the fields are others")
        content = _Content(
            key=_str(raw["key"]),
            spec=_str(raw["spec"]),
            peft_config=_str(raw["peft_config"]),
            losses=tuple(_float(loss) for loss in _list(raw["losses"])),
            train_seconds=_float(raw["train_seconds"]),
            train_tokens=_int(raw["train_tokens"]),
            verdict=_str(raw["verdict"]),
            sketch=tuple(_int(number) for number in _list(raw["sketch"])),
            parents=tuple(_str(parent) for parent in _list(raw["parents"])),
            tensors=[
                (_str(name), _str(dtype), tuple(_int(n) for n in _list(shape)))
                for name, dtype, shape in (_list(tensor) for tensor in _list(raw["tensors"]))
            ],
            pieces=tuple(_str(piece) for piece in _list(raw["pieces"])),
        )
    except (ArithmeticError, ValueError, RecursionError) as error:
        raise AdapterRejected("header", str(error)[:200]) from error
    if len(content.pieces) != math.ceil(n_weights / PIECE_BYTES):
        raise AdapterRejected("header", f"{len(content.pieces)} pieces for {n_weights} bytes")
    return content


def _check_asked_for(content: _Content, key: str, tenant: str) -> None:
    """The header's settings hash to its key, so whoever asks by key has asked for this base, task and LoRA."""
    if content.key != key or _sha256(content.spec) != key:
        raise AdapterRejected("key", "it is another adapter, or its settings are not those of its key")
    spec = _document(content.spec)
    if spec.get("tenant") != tenant:
        raise AdapterRejected("tenant", "it is another tenant's")
    lora, config = spec.get("lora"), _document(content.peft_config)
    if not all(isinstance(spec.get(name), str) for name in ("base", "task")) or not isinstance(lora, dict):
        raise AdapterRejected("header", "base, task or LoRA settings are missing")
    shape = (None, None) if lora.get("method") == "full" else (lora.get("rank"), lora.get("alpha"))
    if (config.get("r"), config.get("lora_alpha")) != shape:
        raise AdapterRejected("config", "rank or alpha differ from those of its key")


def _sha256(spec: str) -> str:
    return hashlib.sha256(spec.encode("utf-8", "surrogatepass")).hexdigest()


def _document(text: str) -> dict[str, object]:
    try:
        content = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise AdapterRejected("header", "a document in it is not JSON") from error
    if not isinstance(content, dict):
        raise AdapterRejected("header", "a document in it is no object")
    return content


def _no_number(name: str) -> object:
    raise ValueError(f"{name} in the header")


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is missing")
    return value


def _int(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a count is missing")
    return value


def _float(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]  # it is one of the two
        raise ValueError("a number is missing")
    return float(value)  # type: ignore[arg-type]


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value
