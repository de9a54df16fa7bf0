"""Settings from the task itself: a few steps of several candidates side by side, judged on a held-out demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from icl_engine.errors import FewShotError
from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.training import TrainingJob, TrainingRun, train_many, untrained_nll

_RATES = (0.5, 1.0, 2.0)  # times the learning rate that is set
_RANK_SHARES = (0.25, 1.0)  # of the rank that is set
_TRIAL_STEPS = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """The settings chosen for a task, and what choosing cost."""

    training: TrainingSettings
    tokens: int = 0
    seconds: float = 0.0
    untrained: tuple[float, ...] = ()  # nats per token of the demonstrations that training will look at, before it


def choose(model: TransformersModel, lora: LoraSettings, job: TrainingJob) -> Choice:
    """Choose learning rate, rank and a bound of steps for a task by the early curves of six candidates: three where no
    LoRA of some rank is trained.

    Each candidate takes five steps without the first demonstration; the one that then finds its output likeliest is
    taken. Where no demonstration can be looked at (of fewer than three none is spared) or no candidate gets
    through, the settings stay.
    How many of the steps are taken is left to early stopping, which the chosen settings ask for.
    """
    asked = replace(job.settings, auto=False, check_every=job.settings.check_every or _TRIAL_STEPS)
    steps = min(_TRIAL_STEPS, asked.steps)
    before = untrained_nll(model, replace(job, settings=asked), asked.steps)
    if not before.nll:
        return Choice(asked)
    job = replace(job, untrained=before.nll)  # once, not for each candidate
    has_rank = lora.method == "lora" and lora.rank > 0
    candidates = [
        replace(asked, learning_rate=rate * asked.learning_rate, used_rank=used_rank)
        for rate, used_rank in product(_RATES, _used_ranks(lora.rank) if has_rank else [asked.used_rank])
    ]
    trials = [
        replace(job, settings=replace(each, steps=steps, check_every=steps, schedule="constant"), progress=_nothing)
        for each in candidates
    ]
    runs = train_many(model, lora, trials)
    done = [run for run in runs if isinstance(run, TrainingRun)]
    best = _best(runs)
    return Choice(
        asked if best is None else candidates[best],
        before.tokens + sum(run.tokens for run in done),
        before.seconds + sum(run.seconds for run in done),
        before.nll,
    )


def _used_ranks(rank: int) -> list[int]:
    return sorted({max(1, round(share * rank)) for share in _RANK_SHARES})


def _best(runs: Sequence[TrainingRun | FewShotError]) -> int | None:
    """Return which run finds the held-out output likeliest; None where none has looked."""
    looked = [(run.checks[-1].nll, i) for i, run in enumerate(runs) if isinstance(run, TrainingRun) and run.checks]
    return min(looked)[1] if looked else None


def _nothing(step: int, steps: int, loss: float) -> None:
    pass
