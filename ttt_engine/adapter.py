"""The adapter of one task: its safetensors bytes, what made it, and the key it is found under. Loads no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from icl_engine.task import Task
from ttt_engine.config import LoraSettings, TrainingSettings

SCHEMA = "adapter/1"
CODE_VERSION = 1  # raise it when the same settings come to train another adapter


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained LoRA, as kept and handed about."""

    key: str
    weights: bytes  # safetensors, PEFT's names
    peft_config: str  # JSON, PEFT's adapter_config.json
    base_fingerprint: str
    task_fingerprint: str  # of the demonstrations and the instruction
    losses: tuple[float, ...]  # nats per token, each training step
    train_seconds: float
    train_tokens: int

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.weights).hexdigest()


def adapter_key(
    task: Task,
    base_fingerprint: str,
    lora: LoraSettings,
    training: TrainingSettings,
    *,
    seed: int,
    tenant: str = "default",
) -> str:
    """Return the SHA-256 over all that makes an adapter what it is: another base, task or setting is another key."""
    content = {
        "schema": SCHEMA,
        "code": CODE_VERSION,
        "tenant": tenant,
        "task": task.demonstrations_fingerprint,
        "base": base_fingerprint,
        "lora": asdict(lora),
        "training": asdict(training),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
