"""Looks at a held-out demonstration go round, stop what is learned or in vain, and lose no demonstration."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from icl_engine.errors import TaskRefused
from icl_engine.leave_one_out import leave_one_out
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from tests.models import CONSTANT_TASK, ROW_TASK
from ttt_engine import training as loop
from ttt_engine.checks import Check, early_verdict, final_verdict, held_out_at
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.training import TrainingJob, TrainingRun, losses_of, train, train_many
from ttt_engine.training_data import training_batches


def looks(*nlls: float, exact: bool = False, untrained: float = 1.0) -> list[Check]:
    return [Check(i, i % 3, nll, exact, untrained) for i, nll in enumerate(nlls)]


# The rules


def test_the_held_out_demonstration_changes_after_every_look_and_goes_round() -> None:
    assert [held_out_at(step, 3, 2) for step in range(8)] == [0, 0, 1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize(("n", "every"), [(2, 2), (1, 2), (5, None)])
def test_without_checks_or_with_too_few_demonstrations_none_is_held_out(n: int, every: int | None) -> None:
    assert held_out_at(0, n, every) is None


def test_three_right_looks_in_a_row_are_enough() -> None:
    wrong, right = looks(0.5), looks(0.1, 0.1, 0.1, exact=True)

    assert early_verdict([*wrong, *right], 5) == "learned"
    assert early_verdict([*right[:2], *wrong], 5) == ""
    assert early_verdict(right[:2], 5) == ""


def test_a_round_that_is_no_better_than_before_gives_up() -> None:
    assert early_verdict(looks(1.0, 1.2, 0.9), 3) == "gave up"
    assert early_verdict(looks(1.0, 1.2), 3) == ""
    assert early_verdict(looks(0.9, 0.9, 0.9), 3) == ""
    assert early_verdict(looks(5.0, 0.5, 0.5, 0.5), 3) == ""


def test_what_ends_worse_than_it_began_is_worse() -> None:
    assert final_verdict(looks(0.1, 0.1, 0.1, 2.0, 2.0, 2.0), 3) == "worse"
    assert final_verdict(looks(2.0, 2.0, 2.0, 0.1, 0.1, 0.1), 3) == ""
    assert final_verdict([], 3) == ""


@pytest.mark.parametrize("every", [0, -3])
def test_a_look_needs_a_step_before_it(every: int) -> None:
    with pytest.raises(TaskRefused, match="check_every"):
        TrainingSettings(check_every=every)


# In training


def test_what_is_learned_stops_early(model: TransformersModel, lora: LoraSettings, training: TrainingSettings) -> None:
    run = train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, steps=60, check_every=4), 0))

    assert run.verdict == "learned"
    assert len(run.losses) < 60
    assert [check.exact for check in run.checks[-3:]] == [True] * 3
    assert [check.demonstration for check in run.checks] == [i % 3 for i in range(len(run.checks))]
    assert [check.step for check in run.checks] == [4 * (i + 1) for i in range(len(run.checks))]


def test_training_in_vain_gives_up_after_one_round(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    run = train(model, lora, TrainingJob(ROW_TASK, replace(training, learning_rate=1e-12, check_every=2), 0))

    assert run.verdict == "gave up"
    assert len(run.losses) == 6
    assert [check.nll for check in run.checks] == pytest.approx([check.untrained_nll for check in run.checks], rel=1e-4)


def test_the_held_out_demonstration_is_not_trained_on_until_it_was_looked_at(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Task] = []
    real = training_batches

    def noted(task: Task, **choices: object) -> object:
        drawn.append(task)
        return real(task, **choices)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "training_batches", noted)
    train(model, lora, TrainingJob(ROW_TASK, replace(training, steps=7, check_every=2, learning_rate=1e-4), 0))
    shown = [[ROW_TASK.demonstrations.index(each) for each in task.demonstrations] for task in drawn]

    assert shown[:3] == [[1, 2], [0, 2], [0, 1]]


def test_of_two_demonstrations_none_can_be_held_out_and_training_goes_on(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    pair = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:2])
    plain = train(model, lora, TrainingJob(pair, replace(training, steps=4), 0))
    looked = train(model, lora, TrainingJob(pair, replace(training, steps=4, check_every=2), 0))

    assert looked.checks == ()
    assert looked.losses == plain.losses


def test_every_task_of_many_is_looked_at_as_alone(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    jobs = [
        TrainingJob(CONSTANT_TASK, replace(training, steps=30, check_every=3), 1),
        TrainingJob(ROW_TASK, replace(training, steps=9, check_every=4, learning_rate=1e-3), 2),
        TrainingJob(ROW_TASK, replace(training, steps=5), 3),
    ]

    for run, job in zip(train_many(model, lora, jobs, pass_tokens=100_000), jobs, strict=True):
        assert isinstance(run, TrainingRun)
        alone = train(model, lora, job)
        assert run.verdict == alone.verdict
        assert run.losses == pytest.approx(alone.losses, rel=1e-4)
        assert [check.nll for check in run.checks] == pytest.approx([check.nll for check in alone.checks], rel=1e-3)


def test_what_is_read_in_looks_is_counted_and_no_more_is_scored_than_will_be_looked_at(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = replace(training, steps=4, check_every=2, learning_rate=1e-4)
    looked_at = [len(model.encode(*each).ids) for each in leave_one_out(ROW_TASK)][:2]
    known = train(model, lora, TrainingJob(ROW_TASK, watched, 0, untrained=(1.0, 1.0, 1.0)))
    read: list[int] = []

    def noted(model: TransformersModel, sequences: list[loop.Learned], *more: Any, **named: Any) -> object:
        read.append(sum(len(sequence.ids) for sequence, _ in sequences))
        return losses_of(model, sequences, *more, **named)

    monkeypatch.setattr(loop, "losses_of", noted)
    run = train(model, lora, TrainingJob(ROW_TASK, watched, 0))

    assert [check.demonstration for check in run.checks] == [0, 1]
    assert known.tokens == sum(read) + sum(looked_at)
    assert run.tokens == known.tokens + sum(looked_at)


def test_the_time_of_looks_is_counted(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(real: Any) -> Any:
        def slowed(*given: Any) -> Any:
            time.sleep(0.5)
            return real(*given)

        return slowed

    monkeypatch.setattr(model, "score", slow(model.score))
    monkeypatch.setattr(loop, "_scores", slow(loop._scores))
    run = train(model, lora, TrainingJob(ROW_TASK, replace(training, steps=2, check_every=2), 0))

    assert run.seconds > 1.0
