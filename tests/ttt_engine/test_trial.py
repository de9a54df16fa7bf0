"""A trial tells of training what training itself does in its first steps, and leaves nothing behind."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from icl_engine.leave_one_out import leave_one_out
from icl_engine.transformers_model import TransformersModel
from tests.models import CONSTANT_TASK
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import TttEngine
from ttt_engine.errors import TrainingFailed
from ttt_engine.stores import MemoryAdapterStore
from ttt_engine.training import TrainingJob, train


@pytest.fixture
def engine(model: TransformersModel, lora: LoraSettings) -> TttEngine:
    return TttEngine(model, MemoryAdapterStore(), lora)


def test_a_trial_scores_a_held_out_demonstration_before_and_after(
    engine: TttEngine, training: TrainingSettings
) -> None:
    trial = engine.trial(CONSTANT_TASK, training, seed=0, steps=4)
    untrained = engine.model.score(list(leave_one_out(CONSTANT_TASK)))[0].nll_per_token

    assert trial is not None
    assert trial.untrained_nll == pytest.approx(untrained, abs=1e-3)
    assert trial.trained_nll < trial.untrained_nll  # the answer is always the same: what the others teach helps
    assert trial.tokens > 0
    assert trial.seconds > 0


def test_a_trial_takes_the_first_steps_of_a_training(engine: TttEngine, training: TrainingSettings) -> None:
    trial = engine.trial(CONSTANT_TASK, training, seed=3)
    watched = replace(training, steps=2, check_every=2, schedule="constant")
    run = train(engine.model, engine.lora, TrainingJob(CONSTANT_TASK, watched, 3))

    assert trial is not None
    assert trial.trained_nll == pytest.approx(run.checks[0].nll, abs=1e-4)
    assert trial.tokens == run.tokens


def test_what_is_known_of_the_demonstrations_is_not_looked_up_again(
    engine: TttEngine, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.model, "score", lambda *_: pytest.fail("it was scored again"))
    trial = engine.trial(CONSTANT_TASK, training, seed=0, untrained=(7.0, 8.0, 9.0))

    assert trial is not None
    assert trial.untrained_nll == 7.0


def test_a_trial_keeps_nothing_and_leaves_the_model_as_it_was(engine: TttEngine, training: TrainingSettings) -> None:
    before = {name: weight.clone() for name, weight in engine.model.module.state_dict().items()}
    engine.trial(CONSTANT_TASK, training, seed=0)

    assert not engine.is_cached(CONSTANT_TASK, training, seed=0)
    assert all(torch.equal(weight, before[name]) for name, weight in engine.model.module.state_dict().items())


def test_two_demonstrations_cannot_spare_one(engine: TttEngine, training: TrainingSettings) -> None:
    pair = CONSTANT_TASK.replace(demonstrations=CONSTANT_TASK.demonstrations[:2])

    assert engine.trial(pair, training, seed=0) is None


def test_a_trial_that_the_budget_cuts_short_still_ends_with_a_look(
    engine: TttEngine, training: TrainingSettings
) -> None:
    assert engine.trial(CONSTANT_TASK, replace(training, token_budget=1), seed=0) is not None


def test_a_trial_that_is_late_is_not_run(engine: TttEngine, training: TrainingSettings) -> None:
    with pytest.raises(TrainingFailed, match="deadline"):
        engine.trial(CONSTANT_TASK, training, seed=0, deadline=time.monotonic() - 1)
