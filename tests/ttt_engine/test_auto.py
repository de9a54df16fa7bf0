"""Candidates are tried side by side, and the one that finds a held-out output likeliest is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from icl_engine.leave_one_out import leave_one_out
from icl_engine.transformers_model import TransformersModel
from tests.models import CONSTANT_TASK, ROW_TASK
from ttt_engine import auto
from ttt_engine.auto import Choice, choose
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import TttEngine
from ttt_engine.stores import MemoryAdapterStore
from ttt_engine.training import TrainingJob, TrainingRun, train, train_many


@pytest.fixture
def asked(training: TrainingSettings) -> TrainingSettings:
    return replace(training, auto=True)


def test_the_best_of_the_candidates_by_a_trial_of_their_own_is_chosen(
    model: TransformersModel, lora: LoraSettings, asked: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[TrainingSettings, float]] = []

    def noted(model: TransformersModel, lora: LoraSettings, jobs: list[TrainingJob]) -> object:
        runs = train_many(model, lora, jobs)
        tried.extend(
            (job.settings, run.checks[-1].nll)
            for job, run in zip(jobs, runs, strict=True)
            if isinstance(run, TrainingRun)
        )
        return runs

    monkeypatch.setattr(auto, "train_many", noted)
    choice = choose(model, lora, TrainingJob(CONSTANT_TASK, asked, 0))
    best, _ = min(tried, key=lambda each: each[1])

    assert len({(settings.learning_rate, settings.used_rank) for settings, _ in tried}) == 6
    assert choice.training == replace(
        asked, auto=False, check_every=5, learning_rate=best.learning_rate, used_rank=best.used_rank
    )
    assert choice.tokens > 0


def test_where_no_demonstration_can_be_spared_the_settings_stay(
    model: TransformersModel, lora: LoraSettings, asked: TrainingSettings
) -> None:
    pair = CONSTANT_TASK.replace(demonstrations=CONSTANT_TASK.demonstrations[:2])
    choice = choose(model, lora, TrainingJob(pair, asked, 0))

    assert choice == Choice(replace(asked, auto=False, check_every=5))  # nothing was tried, and nothing spent


@pytest.mark.parametrize("lora", [LoraSettings(method="full"), LoraSettings(rank=0, task_token=True)])
def test_where_there_is_no_rank_to_choose_rates_alone_are_tried(
    model: TransformersModel, lora: LoraSettings, asked: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[TrainingJob] = []

    def noted(model: TransformersModel, lora: LoraSettings, jobs: list[TrainingJob]) -> object:
        tried.extend(jobs)
        return train_many(model, lora, jobs)

    monkeypatch.setattr(auto, "train_many", noted)
    choose(model, lora, TrainingJob(CONSTANT_TASK, asked, 0))

    assert len({job.settings.learning_rate for job in tried}) == len(tried) == 3


def test_each_demonstration_is_scored_once_before_training(
    model: TransformersModel, lora: LoraSettings, asked: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, scored = model.score, []

    def noted(answered: list[Any]) -> Any:
        scored.extend(answered)
        return score(answered)

    monkeypatch.setattr(model, "score", noted)
    TttEngine(model, MemoryAdapterStore(), lora).adapt(ROW_TASK, asked, seed=0)

    assert scored == list(leave_one_out(ROW_TASK))


def test_part_of_the_rank_trains_as_a_lora_of_that_rank(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    run = train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, used_rank=1), 0))

    assert lora.rank == 4
    for name, tensor in run.tensors.items():
        rest = tensor[1:] if "lora_A" in name else tensor[:, 1:]
        assert not rest.any()
    assert run.losses[-1] < run.losses[0]


def test_part_of_the_rank_of_an_adapter_to_begin_with_is_trained_alike(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    start = train(model, lora, TrainingJob(CONSTANT_TASK, training, 0)).tensors
    run = train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, steps=2, used_rank=1), 0, start))

    assert not any(tensor[1:].any() for name, tensor in run.tensors.items() if "lora_A" in name)
    assert not any(tensor[:, 1:].any() for name, tensor in run.tensors.items() if "lora_B" in name)


def test_an_adapter_of_chosen_settings_is_kept_under_what_was_asked_for(
    model: TransformersModel, lora: LoraSettings, asked: TrainingSettings
) -> None:
    engine = TttEngine(model, MemoryAdapterStore(), lora)
    first = engine.adapt(ROW_TASK, asked, seed=0)
    again = engine.adapt(ROW_TASK, asked, seed=0)

    assert not first.cached
    assert again.cached
    assert again.adapter.key == engine.key(ROW_TASK, asked, seed=0)
    assert first.adapter.train_tokens > 0


def test_of_no_steps_nothing_is_chosen(model: TransformersModel, lora: LoraSettings, asked: TrainingSettings) -> None:
    choice = choose(model, lora, TrainingJob(CONSTANT_TASK, replace(asked, steps=0), 0))

    assert (choice.training.steps, choice.tokens) == (0, 0)


def test_candidates_are_judged_also_where_the_budget_allows_fewer_steps_than_a_trial_asks_for(
    model: TransformersModel, lora: LoraSettings, asked: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[object] = []

    def kept(*given: Any) -> list[Any]:
        runs.extend(train_many(*given))
        return runs

    monkeypatch.setattr(auto, "train_many", kept)
    choose(model, lora, TrainingJob(CONSTANT_TASK, replace(asked, token_budget=1), 0))

    assert [len(run.checks) for run in runs if isinstance(run, TrainingRun)] == [1] * 6
