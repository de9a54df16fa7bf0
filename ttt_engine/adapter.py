"""The adapter of one task: its safetensors bytes, what made it, and the key it is found under. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from icl_engine.task import Task
from ttt_engine.checks import helps
from ttt_engine.config import LoraSettings, TrainingSettings

SCHEMA = "adapter/1"
DEFAULT_TENANT = "default"
CODE_VERSION = 1  # raise it when the same settings come to train another adapter
TASK_TOKEN = "task_token"  # what that tensor of an adapter is called, where there is one
_KEY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained LoRA, or all weights of a model that was trained whole, as kept and handed about."""

    key: str
    weights: bytes | memoryview  # safetensors, PEFT's names; of a whole model its own
    peft_config: str  # JSON, PEFT's adapter_config.json; of a whole model its config.json
    base_fingerprint: str
    task_fingerprint: str  # of the demonstrations and the instruction
    losses: tuple[float, ...]  # nats per token, each training step
    train_seconds: float
    train_tokens: int
    spec: str = ""  # the document that `key` is the SHA-256 of; without it an adapter stays in this process
    sketch: tuple[int, ...] = ()  # of the task (ttt_engine.stores.sketch); () where none was made
    verdict: str = ""  # of training on itself (ttt_engine.checks.Verdict); "" where it did not look
    parents: tuple[str, ...] = ()  # keys of the adapters training began with, nearest first; () for a fresh start

    @property
    def helps(self) -> bool:
        """Say whether answers with it are worth more than those without, as far as training looked."""
        return helps(self.verdict)

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.weights).hexdigest()


_NOT_CHOSEN = (("dropout", 0.0), ("top_layers", None), ("softmax_over", "vocabulary"))


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """All that makes an adapter what it is: another base, task, tenant or setting is another key."""

    task: str  # fingerprint of the demonstrations and the instruction, or of a family of tasks
    base: str  # fingerprint of the base model
    lora: LoraSettings
    training: TrainingSettings
    seed: int
    tenant: str = DEFAULT_TENANT
    start: str = "fresh"  # "relatives" where training may begin with one; or key and checksum of what it begins with

    @property
    def document(self) -> str:
        """Canonical JSON, the same on every machine and under any hash seed."""
        content: dict[str, object] = {
            "schema": SCHEMA,
            "code": CODE_VERSION,
            "tenant": self.tenant,
            "task": self.task,
            "base": self.base,
            "lora": _said(self.lora),
            "training": _said(self.training),
            "seed": self.seed,
        }
        if self.start != "fresh":
            content["start"] = self.start
        return _canonical(content)

    @property
    def key(self) -> str:
        """SHA-256 (hex) of the document."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    @property
    def kin(self) -> str:
        """SHA-256 (hex) over what relatives share: tenant, base and LoRA settings."""
        return hashlib.sha256(_canonical([self.tenant, self.base, _said(self.lora)]).encode()).hexdigest()


def adapter_key(
    task: Task,
    base_fingerprint: str,
    lora: LoraSettings,
    training: TrainingSettings,
    *,
    seed: int,
    tenant: str = DEFAULT_TENANT,
) -> str:
    """Return the key under which the adapter of a task is kept; see `AdapterSpec`."""
    return AdapterSpec(task.demonstrations_fingerprint, base_fingerprint, lora, training, seed, tenant).key


def family_fingerprint(tasks: Sequence[Task]) -> str:
    """Return what stands for a family of tasks in a spec: the same in any order, and for one task the task's own."""
    fingerprints = sorted({task.demonstrations_fingerprint for task in tasks})
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256(_canonical(["family", *fingerprints]).encode()).hexdigest()


def checked_key(key: str) -> str:
    """Return the key, if it is one: it becomes part of file names and of names in Redis."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} is no key of an adapter: 64 hexadecimal digits are")
    return key


def kin_of(spec_document: str) -> str:
    """Return `AdapterSpec.kin` of an adapter's `spec`."""
    content = json.loads(spec_document)
    return hashlib.sha256(_canonical([content["tenant"], content["base"], content["lora"]]).encode()).hexdigest()


def _said(settings: LoraSettings | TrainingSettings) -> dict[str, object]:
    """Return what is said of settings: nothing of what is not chosen and could not be when adapters were first kept."""
    return {name: value for name, value in asdict(settings).items() if (name, value) not in _NOT_CHOSEN}


def _canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
