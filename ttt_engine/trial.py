"""A trial of training: a step or two, and whether a demonstration that was held out is less of a surprise after them.

What it trains is thrown away. It says more of whether training helps than its loss does, and costs a few steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from icl_engine.task import Task
from ttt_engine.config import TrainingSettings

if TYPE_CHECKING:
    from ttt_engine.training import TrainingJob, TrainingRun

TRIAL_STEPS = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial showed, and what it cost."""

    untrained_nll: float  # nats per token of the held-out output, before
    trained_nll: float  # the same after
    exact: bool  # greedy decoding would write it, after
    tokens: int  # trained on
    seconds: float


def trial_job(
    task: Task,
    training: TrainingSettings,
    *,
    seed: int,
    steps: int = TRIAL_STEPS,
    untrained: Sequence[float] = (),
    deadline: float | None = None,
) -> TrainingJob:
    """Return the training of a trial: the first steps, at the full rate, of a training that holds one out.

    Args:
        untrained: nats per token of each demonstration held out, before training, where they are known.
    """
    from ttt_engine.training import TrainingJob  # torch, which whoever only reads a trial does not need

    settings = replace(training, steps=steps, check_every=steps, schedule="constant", warmup_share=0.0, auto=False)
    return TrainingJob(task, settings, seed, deadline=deadline, untrained=tuple(untrained))


def trial_of(run: TrainingRun) -> Trial | None:
    """Return what the run of a trial showed; None where it could not look at a held-out demonstration: of fewer than
    three none is spared, and one that is held out may not fit the model.
    """
    if not run.checks:
        return None
    look = run.checks[-1]
    return Trial(look.untrained_nll, look.nll, look.exact, run.tokens, run.seconds)
