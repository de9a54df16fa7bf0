"""Adapters for tests of the stores: real keys, real safetensors, no torch."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save

from ttt_engine.adapter import Adapter, AdapterSpec
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.stores.signing import Signer

LORA = LoraSettings(rank=4, alpha=8.0)
SECRET = "a secret for tests which is long enough"


def signer(tenant: str = "default", *secrets: str) -> Signer:
    return Signer(secrets or (SECRET,), tenant)


def spec_of(
    task: str = "task", *, tenant: str = "default", base: str = "base", lora: LoraSettings = LORA, seed: int = 0
) -> AdapterSpec:
    return AdapterSpec(task, base, lora, TrainingSettings(), seed, tenant)


def adapter_of(
    task: str = "task",
    *,
    tenant: str = "default",
    n_bytes: int = 1024,
    weights: bytes | None = None,
    spec: AdapterSpec | None = None,
    sketch: tuple[int, ...] = (),
    parents: tuple[str, ...] = (),
    train_seconds: float = 1.25,
) -> Adapter:
    """An adapter of about `n_bytes`, whose weights are drawn from its task's name."""
    spec = spec or spec_of(task, tenant=tenant)
    return Adapter(
        key=spec.key,
        weights=weights_of(f"{tenant}/{task}", n_bytes) if weights is None else weights,
        peft_config=json.dumps({"r": spec.lora.rank, "lora_alpha": spec.lora.alpha, "größe": 1}),
        base_fingerprint=spec.base,
        task_fingerprint=spec.task,
        losses=(2.5, 0.1 + 0.2),
        train_seconds=train_seconds,
        train_tokens=1234,
        spec=spec.document,
        sketch=sketch,
        parents=parents,
    )


def weights_of(name: str, n_bytes: int) -> bytes:
    rng = np.random.default_rng(list(name.encode()))
    half = max(1, n_bytes // 32)
    tensors = {
        f"base_model.model.layers.0.{which}.weight": rng.standard_normal((4, half), np.float32)
        for which in ("lora_A", "lora_B")
    }
    return save(tensors)
