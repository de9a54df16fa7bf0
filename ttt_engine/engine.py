"""Training at test time, whole: find or train a task's adapter, and answer with it on the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save

from icl_engine.answer import Answer
from icl_engine.answering import answer_by_vote
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from ttt_engine.adapter import Adapter, adapter_key
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.errors import AdapterRefused, StoreUnavailable
from ttt_engine.lora import LoraSlot, lora_slot
from ttt_engine.stores import AdapterStore
from ttt_engine.training import train


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapter and how it was come by."""

    adapter: Adapter
    cached: bool  # found in the store; nothing was trained
    degraded: tuple[str, ...]  # what went wrong with the store on the way


class TttEngine:
    """Adapts one base model to tasks, one task at a time.

    The LoRA is put on the model with the first use; the base weights are shared by all tasks and never written.
    """

    def __init__(self, model: TransformersModel, store: AdapterStore, lora: LoraSettings | None = None) -> None:
        self.model = model
        self.store = store
        self.lora = lora or LoraSettings()

    def key(self, task: Task, training: TrainingSettings, *, seed: int) -> str:
        """Return the key under which the task's adapter is kept."""
        return adapter_key(task, self.model.fingerprint, self.lora, training, seed=seed)

    def is_cached(self, task: Task, training: TrainingSettings, *, seed: int) -> bool:
        """Say whether an adapter for exactly this task is at hand."""
        return self.key(task, training, seed=seed) in self.store

    def adapt(
        self,
        task: Task,
        training: TrainingSettings,
        *,
        seed: int,
        deadline: float | None = None,
        progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    ) -> Adapted:
        """Return the task's adapter from the store, or train it and keep it.

        A store that fails costs a training run, never an answer, and is told of in `degraded`.

        Raises:
            TooFewDemonstrations: `task` has fewer than two.
            TrainingFailed: no usable adapter came of it.
        """
        key = self.key(task, training, seed=seed)
        degraded: list[str] = []
        try:
            found = self.store.get(key)
            if found is not None:
                with self.model.lock:
                    self._load(found)
                return Adapted(found, True, ())
        except (AdapterRefused, StoreUnavailable) as error:
            degraded.append(str(error))
        with self.model.lock:
            slot = lora_slot(self.model, self.lora)
            run = train(slot, task, training, seed=seed, deadline=deadline, progress=progress)
            adapter = Adapter(
                key=key,
                weights=save(slot.tensors()),
                peft_config=_peft_config(slot),
                base_fingerprint=self.model.fingerprint,
                task_fingerprint=task.demonstrations_fingerprint,
                losses=run.losses,
                train_seconds=run.seconds,
                train_tokens=run.tokens,
            )
        try:
            self.store.put(adapter)
        except StoreUnavailable as error:
            degraded.append(str(error))
        return Adapted(adapter, False, tuple(degraded))

    def answer(
        self, task: Task, adapter: Adapter, *, n_views: int, seed: int = 0, merged: bool = True
    ) -> tuple[Answer, ...]:
        """Answer each query of the task with the adapter on the model, by a vote over augmented prompts.

        Args:
            merged: add the adapter to the weights while answering (faster), or compute it beside them: same answers.

        Raises:
            AdapterRefused: the adapter does not fit the model.
            ContextOverflow: the task does not fit the model.
        """
        with self.model.lock:
            self._load(adapter)
            with lora_slot(self.model, self.lora).active(merged=merged):
                return answer_by_vote(self.model, task, n_views=n_views, seed=seed)

    def _load(self, adapter: Adapter) -> None:
        if adapter.base_fingerprint != self.model.fingerprint:
            raise AdapterRefused("the adapter was trained on another base model. Train it anew.")
        try:
            tensors = load(adapter.weights)
        except SafetensorError as error:
            raise AdapterRefused(f"the adapter is not safetensors: {error}. Train it anew.") from error
        lora_slot(self.model, self.lora).fill(tensors)


def _peft_config(slot: LoraSlot) -> str:
    config = {**slot.peft_config.to_dict(), "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True}
    return json.dumps(
        config, default=lambda value: sorted(value) if isinstance(value, set) else str(value), indent=1, sort_keys=True
    )
