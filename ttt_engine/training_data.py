"""Training data from the task alone: its demonstrations as sequences, augmented and in random order. Knows nothing of
models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from random import Random

from icl_engine.errors import TooFewDemonstrations
from icl_engine.leave_one_out import leave_one_out, leave_two_out
from icl_engine.task import Demonstration, Task, Value
from ttt_engine.augmenters import Example, augmented, changes_length
from ttt_engine.config import AugmentationForm, DataForm

_ENOUGH_TO_WEIGH = 32  # sequences drawn to say how long those are that an augmentation makes longer


def training_batches(
    task: Task,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    fits: Callable[[Task, Value], bool] = lambda task, answer: True,
    data: DataForm = "leave_one_out",
    augmentation: AugmentationForm = "invertible",
    max_sequences: int | None = None,
) -> Iterator[list[Example]]:
    """Yield `steps` batches of (task, answer), in rounds: each sequence of the form once, under a random augmentation.

    The same demonstrations, choices and seed give the same batches on every machine and under any hash seed; the
    queries of `task` play no part, so that one adapter serves all of them.

    - `leave_one_out`: each demonstration in turn is asked for and the others are shown.
    - `leave_two_out`: the same, topped up in each round with one further demonstration not shown, in every way (the
      published code tops up only where leave-one-out gives fewer sequences than it takes, so less of many).
      Sequences too long for the context give way to those that fit, if any do. Two demonstrations leave none to show:
      then it is leave-one-out alone.
    - `shuffles`: all demonstrations in a random order, the last of them asked for; the same one may be several times
      running, which is all that parts it from `leave_one_out` in random order.
    - `direct`: each demonstration in turn is asked for and none is shown.

    Args:
        fits: says whether the model's context holds a task with its answer; where an augmentation does not fit (turned
            upright, a wide grid has more row ends), the task is left as it is.
        augmentation: see `ttt_engine.augmenters.augmented`.
        max_sequences: after as many have been drawn, they are drawn again, in random order, in place of new ones; what
            comes before is the same as without.

    Raises:
        TooFewDemonstrations: `task` has fewer than the form needs: two where one is left out, else one.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 3.1 (leave-one-out tasks, rule-based transformations; "direct
        I/O" is its ablation), the published code (topped up with leave-two-out, at most 250) and, for `shuffles`, its
        BBH experiments.
    """
    drawn = _drawn(task, data, augmentation, seed, fits)
    if max_sequences is not None:
        drawn = _repeated(drawn, max_sequences, _rng("repeated", task, seed))
    return (list(islice(drawn, batch_size)) for _ in range(steps))


def typical_sequences(
    task: Task,
    *,
    seed: int,
    fits: Callable[[Task, Value], bool] = lambda task, answer: True,
    data: DataForm = "leave_one_out",
    augmentation: AugmentationForm = "invertible",
) -> list[Example]:
    """Return sequences as long, on average, as those of `training_batches`: for a budget of tokens.

    Where augmentations keep the length, or nearly, these are the sequences of the form as they are; else some drawn.

    Raises:
        TooFewDemonstrations: as for `training_batches`.
    """
    if changes_length(augmentation) and task.kind == "grid":
        return list(islice(_drawn(task, data, augmentation, seed, fits), _ENOUGH_TO_WEIGH))
    return list(chain.from_iterable(_groups(task, data, fits)))


def in_turn(batches: Sequence[Iterator[list[Example]]], steps: int) -> Iterator[list[Example]]:
    """Yield `steps` batches, one of each task after the other: for an adapter that several tasks share."""
    return (next(batches[step % len(batches)]) for step in range(steps))


def _rng(name: str, task: Task, seed: int) -> Random:
    return Random(f"{name}/1:{task.demonstrations_fingerprint}:{seed}")  # a str seeds through SHA-512


def _drawn(
    task: Task, data: DataForm, augmentation: AugmentationForm, seed: int, fits: Callable[[Task, Value], bool]
) -> Iterator[Example]:
    """Return augmented sequences without end, having checked that there are any."""
    rng = _rng("training", task, seed)
    groups = _groups(task, data, fits)
    rounds = _shuffles(task, rng) if data == "shuffles" else _rounds(groups, rng)
    return (augmented(example, augmentation, rng, fits) for example in rounds)


def _groups(task: Task, data: DataForm, fits: Callable[[Task, Value], bool]) -> list[list[Example]]:
    """Return the sequences of the form as they are; a round goes through one group after the other."""
    if data == "leave_one_out":
        return [list(leave_one_out(task))]
    if data == "leave_two_out":
        groups = [list(leave_one_out(task)), list(leave_two_out(task)) if len(task.demonstrations) > 2 else []]
        fitting = [[example for example in group if fits(*example)] for group in groups]
        return fitting if any(fitting) else groups
    pairs = task.demonstrations
    if not pairs:
        raise TooFewDemonstrations("got none", field="demonstrations", remedy="Give at least one.", task_id=task.id)
    if data == "shuffles":
        return [[_last_asked_for(task, pairs)]]
    return [[_last_asked_for(task, (pair,)) for pair in pairs]]


def _last_asked_for(task: Task, pairs: tuple[Demonstration, ...]) -> Example:
    return task.replace(demonstrations=pairs[:-1], queries=(pairs[-1].input,)), pairs[-1].output


def _rounds(groups: list[list[Example]], rng: Random) -> Iterator[Example]:
    while True:
        for group in groups:
            rng.shuffle(group)
            yield from group


def _shuffles(task: Task, rng: Random) -> Iterator[Example]:
    while True:
        yield _last_asked_for(task, tuple(rng.sample(task.demonstrations, len(task.demonstrations))))


def _repeated(drawn: Iterator[Example], n: int, rng: Random) -> Iterator[Example]:
    assert n > 0, "TrainingSettings lets no other through"
    kept = []
    for example in islice(drawn, n):
        kept.append(example)
        yield example
    while True:
        rng.shuffle(kept)
        yield from kept
