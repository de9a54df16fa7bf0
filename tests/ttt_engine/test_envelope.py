"""What was sealed comes back; everything else is rejected, with the reason, before anything is parsed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from tests.adapters import adapter_of, signer, spec_of, weights_of
from tests.faults.envelope_forgeries import FORGERIES, blob_of
from ttt_engine.config import LoraSettings
from ttt_engine.errors import AdapterRejected
from ttt_engine.stores.envelope import FIXED_BYTES, PIECE_BYTES, REASONS, Head, head_bytes, open_sealed, seal
from ttt_engine.stores.layout import all_finite, tensor_layout

ADAPTER = adapter_of(sketch=(1, 2, 2**32 - 1), parents=("f" * 64,))
BLOB = blob_of(ADAPTER)


@pytest.mark.parametrize("n_bytes", [64, PIECE_BYTES - 4096, PIECE_BYTES, 3 * PIECE_BYTES + 17])
def test_what_is_sealed_comes_back_unchanged(n_bytes: int) -> None:
    adapter = adapter_of(n_bytes=n_bytes, sketch=(7,), parents=("e" * 64,))

    assert open_sealed(blob_of(adapter), adapter.key, signer()) == adapter


def test_sealing_twice_gives_the_same_bytes() -> None:
    assert blob_of(ADAPTER) == BLOB


@pytest.mark.parametrize("spec", ["", spec_of("another").document])
def test_an_adapter_that_would_not_be_given_back_is_not_sealed(spec: str) -> None:
    with pytest.raises(ValueError, match="spec"):
        seal(replace(ADAPTER, spec=spec), signer())


def test_a_head_says_how_long_it_is() -> None:
    sealed = seal(ADAPTER, signer())

    assert head_bytes(BLOB) == head_bytes(BLOB[:FIXED_BYTES]) == len(sealed.head)
    assert len(Head.read(sealed.head, ADAPTER.key, signer())) == len(sealed.head)


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_forgery_is_rejected_for_what_is_wrong_with_it(name: str) -> None:
    forgery = FORGERIES[name](ADAPTER)

    with pytest.raises(AdapterRejected) as rejected:
        open_sealed(forgery.blob, ADAPTER.key, signer())

    assert rejected.value.reason in forgery.reasons
    assert rejected.value.reason in REASONS


@pytest.mark.parametrize(("method", "config"), [("full", {"r": 4, "lora_alpha": 8.0}), ("lora", {"model_type": "x"})])
def test_a_lora_s_config_for_a_whole_model_or_the_other_way_about_is_rejected(
    method: Any, config: dict[str, object]
) -> None:
    spec = spec_of(lora=LoraSettings(4, 8.0, method=method))
    adapter = replace(adapter_of(spec=spec), peft_config=json.dumps(config))

    with pytest.raises(AdapterRejected) as rejected:
        open_sealed(blob_of(adapter), adapter.key, signer())

    assert rejected.value.reason == "config"


def test_another_secret_s_or_tenant_s_signature_is_none() -> None:
    for other in (signer("default", "another secret, long enough"), signer("acme")):
        with pytest.raises(AdapterRejected) as rejected:
            open_sealed(BLOB, ADAPTER.key, other)

        assert rejected.value.reason == "signature"


def test_secrets_are_changed_by_putting_a_new_one_first() -> None:
    old, both, new = (
        signer(),
        signer("default", "a new secret, long enough", "a secret for tests which is long enough"),
        signer("default", "a new secret, long enough"),
    )

    assert open_sealed(BLOB, ADAPTER.key, both) == ADAPTER
    renewed = blob_of(ADAPTER, both)
    assert open_sealed(renewed, ADAPTER.key, new) == ADAPTER
    with pytest.raises(AdapterRejected):
        open_sealed(renewed, ADAPTER.key, old)


def test_what_is_larger_than_the_limit_is_not_looked_at() -> None:
    with pytest.raises(AdapterRejected) as rejected:
        open_sealed(BLOB, ADAPTER.key, signer(), max_bytes=len(BLOB) - 1)

    assert rejected.value.reason == "size"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_rejected_and_nothing_else(blob: bytes) -> None:
    with pytest.raises(AdapterRejected):
        open_sealed(blob, ADAPTER.key, signer())


def _deserialized(weights: bytes) -> list[tuple[str, dict[str, Any]]]:
    return list(deserialize(weights))  # type: ignore[no-untyped-call]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(sorted(json.loads(seal(ADAPTER, signer()).head[FIXED_BYTES:]))), value=_JSON)
def test_a_signed_header_of_any_content_is_read_or_rejected(field: str, value: object) -> None:
    sealed = seal(ADAPTER, signer())
    content = {**json.loads(sealed.head[FIXED_BYTES:]), field: value}
    header = json.dumps(content).encode()
    prefix = sealed.head[:12] + len(header).to_bytes(4, "big") + sealed.head[16:24]
    blob = prefix + signer().sign(prefix, header) + header + bytes(sealed.weights)

    try:
        opened = open_sealed(blob, ADAPTER.key, signer())
    except AdapterRejected:
        return
    assert (opened.key, opened.weights, opened.base_fingerprint) == (ADAPTER.key, ADAPTER.weights, "base")


# Keys


def test_equal_keys_are_of_equal_settings() -> None:
    variants = [
        spec_of(), spec_of("Task"), spec_of(tenant="acme"), spec_of(base="bäse"), spec_of(base="ba\u0308se"),
        spec_of(seed=1), spec_of(lora=LoraSettings(4, 8.5)), spec_of(lora=LoraSettings(4, math.nextafter(8.0, 9.0))),
        replace(spec_of(), start="relatives"),
    ]  # fmt: skip

    assert len({spec.key for spec in variants}) == len(variants)
    assert spec_of().kin == spec_of("another task", seed=3).kin
    assert len({spec.kin for spec in (spec_of(), spec_of(tenant="acme"), spec_of(base="x"))}) == 3


# The layout of the tensors


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_safetensors_is_read_that_the_library_would_not_read(data: st.DataObject) -> None:
    good = bytearray(weights_of("task", 64))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        layout = tensor_layout(bytes(good))
    except ValueError:
        return
    theirs = {
        name: (about["dtype"], tuple(about["shape"]), bytes(about["data"]))
        for name, about in _deserialized(bytes(good))
    }

    assert {each.name: (each.dtype, each.shape, bytes(good[each.start : each.stop])) for each in layout} == theirs


def test_the_layout_is_the_library_s() -> None:
    weights = weights_of("task", 4096)
    theirs = {name: bytes(about["data"]) for name, about in _deserialized(weights)}

    assert {each.name: weights[each.start : each.stop] for each in tensor_layout(weights)} == theirs


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_value_that_is_not_finite_is_found(value: float, dtype: str) -> None:
    tensor = np.zeros((3, 5), dtype)
    clean = save({"a": tensor, "b": tensor})
    tensor[2, 4] = value
    spoilt = save({"a": np.zeros((3, 5), dtype), "b": tensor})

    assert all_finite(clean, tensor_layout(clean))
    assert not all_finite(spoilt, tensor_layout(spoilt))


@pytest.mark.parametrize(("bits", "finite"), [(0x7F7F, True), (0x7F80, False), (0xFF80, False), (0x7FC0, False)])
def test_bfloat16_is_looked_at_by_its_bits(bits: int, finite: bool) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bits.to_bytes(2, "little") * 2

    assert all_finite(weights, tensor_layout(weights)) is finite


def test_the_library_agrees_on_what_is_broken() -> None:
    for broken in (b"", b"\xff" * 20, weights_of("task", 64)[:-1], weights_of("task", 64) + b"\0"):
        with pytest.raises(ValueError, match=r"."):
            tensor_layout(broken)
        with pytest.raises(SafetensorError):
            _deserialized(broken)
