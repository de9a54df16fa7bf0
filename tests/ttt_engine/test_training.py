"""The loop lowers the loss on outputs alone, gives the same bits for the same seed, and stops where it should."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import get_args

import pytest
import torch
from safetensors.torch import save

from icl_engine.encoding import Encoded
from icl_engine.errors import TooFewDemonstrations
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from tests.models import ANSWERS, CONSTANT, CONSTANT_TASK, ROW_TASK, TASKS, TEXT_TASK
from ttt_engine.config import LoraSettings, LossOn, TrainingSettings
from ttt_engine.errors import TrainingFailed
from ttt_engine.lora import LoraSlot
from ttt_engine.training import train, training_loss

NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte."
)


@pytest.fixture
def slot(model: TransformersModel, lora: LoraSettings) -> LoraSlot:
    return LoraSlot(model, lora)


def loss_by_hand(model: TransformersModel, sequences: list[Encoded], loss_on: LossOn = "after_first") -> float:
    """The mean over every token that is learned, one plain pass a sequence."""
    nll: list[float] = []
    for sequence in sequences:
        ids = torch.tensor(sequence.ids)
        with torch.no_grad():
            log_p = model.module(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        places = {
            "after_first": [place for span in sequence.outputs[1:] for place in range(*span)],
            "last": range(*sequence.outputs[-1]),
            "outputs": [place for span in sequence.outputs for place in range(*span)],
            "all": range(1, len(ids)),
        }[loss_on]
        nll += [-float(log_p[place - 1, ids[place]]) for place in places]
    return sum(nll) / len(nll)


def assert_is_off(slot: LoraSlot, base_logits: torch.Tensor) -> None:
    assert torch.equal(logits_of(slot.model), base_logits)
    assert not any(parameter.requires_grad for parameter in slot.model.module.parameters())


def logits_of(model: TransformersModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.module(input_ids=torch.tensor([model.encode(ROW_TASK).ids])).logits
    return logits


# The loss


def test_the_loss_counts_exactly_the_outputs_after_the_first_and_the_query_s(model: TransformersModel) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]

    with torch.no_grad():
        together = float(training_loss(model, sequences))

    assert len({len(sequence.ids) for sequence in sequences}) == 3
    assert together == pytest.approx(loss_by_hand(model, sequences), abs=1e-4)
    for sequence in sequences:
        with torch.no_grad():
            assert float(training_loss(model, [sequence])) == pytest.approx(loss_by_hand(model, [sequence]), abs=1e-4)


@pytest.mark.parametrize("loss_on", get_args(LossOn))
def test_the_loss_counts_what_is_chosen(model: TransformersModel, loss_on: LossOn) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]

    with torch.no_grad():
        together = float(training_loss(model, sequences, loss_on))

    assert together == pytest.approx(loss_by_hand(model, sequences, loss_on), abs=1e-4)


def test_where_there_is_one_output_it_counts(model: TransformersModel) -> None:
    bare = model.encode(TEXT_TASK.replace(demonstrations=()), "größer")
    (scores,) = model.score([(TEXT_TASK.replace(demonstrations=()), "größer")])

    with torch.no_grad():
        loss = float(training_loss(model, [bare]))

    assert loss == pytest.approx(scores[0].nll_per_token, abs=1e-4)


def test_no_input_and_no_first_output_is_learned_from(model: TransformersModel) -> None:
    sequence = model.encode(ROW_TASK, ANSWERS[0])
    embedding = model.module.get_input_embeddings()
    inputs = embedding(torch.tensor([sequence.ids])).detach().requires_grad_()
    logits = model.module(
        inputs_embeds=inputs, position_ids=model.encoding.positions(torch.tensor([sequence.ids]), torch.ones(1))
    ).logits[0]
    logits.retain_grad()
    wanted = [place for start, stop in sequence.outputs[1:] for place in range(start, stop)]
    ids = torch.tensor(sequence.ids)
    torch.nn.functional.cross_entropy(logits[[place - 1 for place in wanted]], ids[wanted]).backward()
    assert logits.grad is not None

    assert (logits.grad.abs().sum(-1) > 0).nonzero()[:, 0].tolist() == [place - 1 for place in wanted]


# The run


def test_training_lowers_the_loss_of_a_simple_task(slot: LoraSlot, training: TrainingSettings) -> None:
    ((*_, before),) = slot.model.score([(CONSTANT_TASK, CONSTANT)])
    run = train(slot, CONSTANT_TASK, training, seed=0)
    with slot.active():
        ((*_, after),) = slot.model.score([(CONSTANT_TASK, CONSTANT)])

    assert len(run.losses) == training.steps
    assert 0 < run.losses[-1] < 0.3 * run.losses[0]
    assert after.exact
    assert after.nll < 0.2 * before.nll
    assert run.tokens > training.steps * training.batch_size * len(CONSTANT_TASK.demonstrations)
    assert run.seconds > 0


@pytest.mark.parametrize(
    "chosen",
    [
        TrainingSettings(data="leave_two_out", augmentation="order"),
        TrainingSettings(data="shuffles", augmentation="none", loss_on="outputs"),
        TrainingSettings(data="direct", augmentation="paper", loss_on="all"),
        TrainingSettings(augmentation="visual", loss_on="last", max_sequences=4),
    ],
    ids=lambda chosen: f"{chosen.data}-{chosen.augmentation}-{chosen.loss_on}",
)
def test_every_choice_trains_and_trains_something_else(slot: LoraSlot, chosen: TrainingSettings) -> None:
    runs = [train(slot, CONSTANT_TASK, replace(chosen, steps=3), seed=0).losses for _ in range(2)]

    assert runs[0] == runs[1]
    assert runs[0] != train(slot, CONSTANT_TASK, TrainingSettings(steps=3), seed=0).losses


def test_one_demonstration_trains_directly(slot: LoraSlot) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])

    assert len(train(slot, single, TrainingSettings(steps=2, data="direct"), seed=0).losses) == 2


def test_the_budget_is_of_the_sequences_as_they_are_chosen(slot: LoraSlot) -> None:
    grid = [[1, 2, 3, 4]] * 5
    task = Task.from_pairs([(grid, grid)] * 3, [[1]])
    in_context = TrainingSettings(steps=40, batch_size=2, token_budget=3000)
    whole = train(slot, task, in_context, seed=0)
    direct = train(slot, task, replace(in_context, data="direct"), seed=0)
    larger = train(slot, task, replace(in_context, data="direct", augmentation="paper"), seed=0)

    assert len(whole.losses) < len(larger.losses) < len(direct.losses)
    assert all(1500 < run.tokens < 3600 for run in (whole, larger, direct))


def test_no_step_leaves_an_adapter_that_changes_nothing(slot: LoraSlot) -> None:
    before = logits_of(slot.model)
    run = train(slot, CONSTANT_TASK, TrainingSettings(steps=0), seed=0)

    assert (run.losses, run.tokens) == ((), 0)
    for merged in (True, False):
        with slot.active(merged=merged):
            assert torch.equal(logits_of(slot.model), before)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(slot: LoraSlot, training: TrainingSettings) -> None:
    short = replace(training, steps=3)
    runs = []
    for task, seed in ((CONSTANT_TASK, 1), (TEXT_TASK, 7), (CONSTANT_TASK, 1), (CONSTANT_TASK, 2)):
        run = train(slot, task, short, seed=seed)
        runs.append((save(slot.tensors()), run.losses))

    assert runs[0] == runs[2]
    assert runs[0] != runs[3]


def test_what_was_answered_between_does_not_change_what_is_learned(slot: LoraSlot, training: TrainingSettings) -> None:
    short = replace(training, steps=2)
    train(slot, CONSTANT_TASK, short, seed=1)
    first = save(slot.tensors())
    with slot.active():
        slot.model.generate(TASKS)
    slot.model.score(list(zip(TASKS, ANSWERS, strict=True)))
    train(slot, CONSTANT_TASK, short, seed=1)

    assert save(slot.tensors()) == first


def test_progress_is_told_after_every_step(slot: LoraSlot, training: TrainingSettings) -> None:
    told: list[tuple[int, int, float]] = []
    run = train(
        slot, ROW_TASK, replace(training, steps=3), seed=0, progress=lambda *of: told.append((of[0], of[1], of[2]))
    )

    assert told == [(1, 3, run.losses[0]), (2, 3, run.losses[1]), (3, 3, run.losses[2])]


def test_one_demonstration_is_too_few(slot: LoraSlot, training: TrainingSettings) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])

    with pytest.raises(TooFewDemonstrations):
        train(slot, single, training, seed=0)


# What stops it


@pytest.mark.parametrize("rate", [1e30, float("inf")])
def test_a_loss_that_explodes_stops_training(slot: LoraSlot, training: TrainingSettings, rate: float) -> None:
    before = logits_of(slot.model)

    with pytest.raises(TrainingFailed, match=r"loss became|not finite") as stopped:
        train(slot, CONSTANT_TASK, replace(training, learning_rate=rate), seed=0)

    assert stopped.value.task_id == CONSTANT_TASK.id
    assert_is_off(slot, before)


def test_a_poisoned_model_stops_training_at_the_first_step(slot: LoraSlot, training: TrainingSettings) -> None:
    with torch.no_grad():
        slot.model.module.model.norm.weight[0] = float("nan")

    with pytest.raises(TrainingFailed, match="nan at step 1"):
        train(slot, CONSTANT_TASK, training, seed=0)


def test_a_weight_that_is_not_finite_after_the_last_step_is_noticed(slot: LoraSlot, training: TrainingSettings) -> None:
    with pytest.raises(TrainingFailed, match="not finite"):
        train(slot, CONSTANT_TASK, replace(training, steps=1, learning_rate=float("inf")), seed=0)


def test_a_deadline_that_is_past_stops_before_the_first_step(slot: LoraSlot, training: TrainingSettings) -> None:
    with pytest.raises(TrainingFailed, match="deadline reached after 0 of 20 steps"):
        train(slot, CONSTANT_TASK, training, seed=0, deadline=time.monotonic() - 1)


def test_a_deadline_is_looked_at_before_every_step(slot: LoraSlot, training: TrainingSettings) -> None:
    deadline = time.monotonic() + 1.0

    with pytest.raises(TrainingFailed, match="deadline reached after 1 of 20 steps"):
        train(slot, CONSTANT_TASK, training, seed=0, deadline=deadline, progress=lambda *_: time.sleep(1.0))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(NO_MEMORY)])
def test_running_out_of_memory_stops_training(
    slot: LoraSlot, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def step(*_: object) -> None:
        raise error

    before = logits_of(slot.model)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)

    with pytest.raises(TrainingFailed, match="out of memory"):
        train(slot, CONSTANT_TASK, training, seed=0)

    assert_is_off(slot, before)


def test_any_other_fault_is_passed_on_with_the_adapter_off(slot: LoraSlot, training: TrainingSettings) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = logits_of(slot.model)

    with pytest.raises(KeyboardInterrupt):
        train(slot, CONSTANT_TASK, training, seed=0, progress=interrupted)

    assert_is_off(slot, before)


def test_demonstrations_that_do_not_fit_the_context_stop_training(slot: LoraSlot, training: TrainingSettings) -> None:
    long = Task.from_pairs([("a", "b" * 200), ("c", "d" * 400)], "e", id="long")

    with pytest.raises(TrainingFailed, match="longer than the context") as stopped:
        train(slot, long, training, seed=0)

    assert stopped.value.task_id == "long"
