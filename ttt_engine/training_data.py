"""Training data from the task alone: leave-one-out tasks, augmented and shuffled. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from icl_engine.augmentations import random_augmentation
from icl_engine.leave_one_out import leave_one_out
from icl_engine.task import Task, Value


def training_batches(
    task: Task,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    fits: Callable[[Task, Value], bool] = lambda task, answer: True,
) -> Iterator[list[tuple[Task, Value]]]:
    """Yield `steps` batches of (task, answer): each demonstration in turn held out, under a random augmentation.

    The same demonstrations, sizes and seed give the same batches on every machine and under any hash seed; the queries
    of `task` play no part, so that one adapter serves all of them.

    Args:
        fits: says whether the model's context holds a task with its answer; where an augmentation does not fit (turned
            upright, a wide grid has more row ends), the task is left as it is.

    Raises:
        TooFewDemonstrations: `task` has fewer than two.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 3.1 (leave-one-out tasks, rule-based transformations).
    """
    rng = Random(f"training/1:{task.demonstrations_fingerprint}:{seed}")  # a str seeds through SHA-512
    return _batches(list(leave_one_out(task)), steps, batch_size, rng, fits)


def _batches(
    held_out: list[tuple[Task, Value]], steps: int, batch_size: int, rng: Random, fits: Callable[[Task, Value], bool]
) -> Iterator[list[tuple[Task, Value]]]:
    turn = 0
    for _ in range(steps):
        batch = []
        for _ in range(batch_size):
            if turn % len(held_out) == 0:
                rng.shuffle(held_out)
            left_out, answer = held_out[turn % len(held_out)]
            augmentation = random_augmentation(left_out, rng)
            augmented = augmentation.apply(left_out), augmentation.apply_value(answer)
            batch.append(augmented if fits(*augmented) else (left_out, answer))
            turn += 1
        yield batch
