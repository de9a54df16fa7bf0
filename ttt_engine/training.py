"""The training loop: a task in, a trained LoRA in the slot out. Knows nothing of stores or decisions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from icl_engine.decoding import left_padded
from icl_engine.encoding import Encoded
from icl_engine.errors import ContextOverflow
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LossOn, TrainingSettings
from ttt_engine.errors import TrainingFailed
from ttt_engine.lora import LoraSlot
from ttt_engine.loss import target_spans
from ttt_engine.training_data import training_batches, typical_sequences

_EXPLODED = 5.0  # nats per token above the first loss; guessing evenly among 288 tokens costs 5.7


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a training run did."""

    losses: tuple[float, ...]  # nats per target token, each step
    tokens: int  # read in training
    seconds: float


def train(
    slot: LoraSlot,
    task: Task,
    settings: TrainingSettings,
    *,
    seed: int,
    start: Mapping[str, torch.Tensor] | None = None,
    deadline: float | None = None,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> TrainingRun:
    """Train `slot` on sequences made of the demonstrations of `task`, as `settings` choose.

    Args:
        start: tensors of an adapter to begin with, under PEFT's names; None: a fresh start.
        deadline: on the clock of `time.monotonic`; checked before every step.
        progress: told of (steps done, steps, loss in nats per token).

    Raises:
        TooFewDemonstrations: `task` has fewer than the form of data needs: two where one is left out, else one.
        TrainingFailed: the loss is not finite or explodes, memory or time runs out, a sequence is too long.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 3 (loss on all outputs after the first demonstration's).
    """
    started = time.monotonic()
    steps = settings.steps_for(_sequence_tokens(slot.model, task, settings, seed))
    batches = training_batches(
        task,
        steps=steps,
        batch_size=settings.batch_size,
        seed=seed,
        fits=slot.model.fits,
        data=settings.data,
        augmentation=settings.augmentation,
        max_sequences=settings.max_sequences,
    )
    losses: list[float] = []
    n_tokens = 0
    slot.reset(seed)
    if start is not None:
        slot.fill(start)
    with slot.model.lock, slot.training() as parameters:
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
        try:
            for step, batch in enumerate(batches):
                if deadline is not None and time.monotonic() > deadline:
                    raise TrainingFailed(f"deadline reached after {step} of {steps} steps", task_id=task.id)
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * (1.0 - step / steps)
                encoded = [slot.model.encode(left_out, answer) for left_out, answer in batch]
                loss = training_loss(slot.model, encoded, settings.loss_on)
                losses.append(loss.item())
                if not math.isfinite(losses[-1]) or losses[-1] > losses[0] + _EXPLODED:
                    raise TrainingFailed(f"loss became {losses[-1]:.3g} at step {step + 1}", task_id=task.id)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, settings.max_norm)
                optimizer.step()
                n_tokens += sum(len(sequence.ids) for sequence in encoded)
                progress(step + 1, steps, losses[-1])
        except torch.OutOfMemoryError as error:
            raise TrainingFailed("out of memory", task_id=task.id) from error
        except RuntimeError as error:
            if "alloc" not in str(error):  # what the CPU allocator says: "can't allocate memory"
                raise
            raise TrainingFailed("out of memory", task_id=task.id) from error
        except ContextOverflow as error:
            raise TrainingFailed("a training sequence is longer than the context", task_id=task.id) from error
        if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
            raise TrainingFailed("a weight of the adapter is not finite", task_id=task.id)
    return TrainingRun(tuple(losses), n_tokens, time.monotonic() - started)


def _sequence_tokens(model: TransformersModel, task: Task, settings: TrainingSettings, seed: int) -> float:
    """Return the mean length of the task's training sequences, in tokens; those too long for the context count."""
    sequences = typical_sequences(
        task, seed=seed, fits=model.fits, data=settings.data, augmentation=settings.augmentation
    )
    lengths = [len(model.encoding.encode(shown, answer).ids) for shown, answer in sequences]
    return sum(lengths) / len(lengths)


def training_loss(model: TransformersModel, encoded: list[Encoded], loss_on: LossOn = "after_first") -> torch.Tensor:
    """Return the mean cross-entropy, nats per token, over the `target_spans` of each sequence."""
    ids, mask = left_padded([sequence.ids for sequence in encoded], model.encoding.pad_id, model.device)
    wanted = torch.zeros(ids.shape, dtype=torch.bool)
    for row, sequence in enumerate(encoded):
        shift = ids.shape[1] - len(sequence.ids)
        for start, stop in target_spans(sequence, loss_on):
            wanted[row, start + shift : stop + shift] = True
    places = wanted.any(dim=0).nonzero()[:, 0]  # the columns in which any row has a target
    logits = model.module(
        input_ids=ids,
        attention_mask=mask,
        position_ids=model.encoding.positions(ids, mask),
        use_cache=False,
        logits_to_keep=(places - 1).to(ids.device),
    ).logits  # (rows, len(places), vocabulary)
    chosen = wanted[:, places].to(ids.device)  # (rows, len(places))
    targets = ids[:, places.to(ids.device)]
    return torch.nn.functional.cross_entropy(logits[chosen].float(), targets[chosen])
