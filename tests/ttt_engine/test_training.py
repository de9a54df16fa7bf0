"""The loop lowers the loss on outputs alone, gives the same bits for the same seed, and stops where it should."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import replace
from typing import get_args

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save

from icl_engine.embedded.vocabulary import VOCABULARY_SIZE
from icl_engine.encoding import Encoded
from icl_engine.errors import TooFewDemonstrations
from icl_engine.inference_settings import Precision
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from tests.models import ANSWERS, CONSTANT, CONSTANT_TASK, ROW_TASK, TASKS, TEXT_TASK, tiny_module
from ttt_engine.config import LoraSettings, LossOn, SoftmaxOver, TrainingSettings
from ttt_engine.errors import AdapterRefused, TrainingFailed
from ttt_engine.lora import LoraStack
from ttt_engine.loss import target_spans
from ttt_engine.optimizer import StackedAdamW
from ttt_engine.training import Learned, TrainingJob, TrainingRun, losses_of, train, train_many
from ttt_engine.training_data import in_turn, training_batches

NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte."
)


def learned(sequences: list[Encoded], loss_on: LossOn = "after_first") -> list[Learned]:
    return [(sequence, target_spans(sequence, loss_on)) for sequence in sequences]


def loss_by_hand(model: TransformersModel, sequences: list[Encoded], loss_on: LossOn = "after_first") -> float:
    """The mean over every token that is learned, one plain pass a sequence."""
    nll: list[float] = []
    for sequence in sequences:
        ids = torch.tensor(sequence.ids)
        with torch.no_grad():
            log_p = model.module(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        for start, stop in target_spans(sequence, loss_on):
            nll += [-float(log_p[place - 1, ids[place]]) for place in range(start, stop)]
    return sum(nll) / len(nll)


def assert_is_off(model: TransformersModel, base_logits: torch.Tensor) -> None:
    assert torch.equal(logits_of(model), base_logits)
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def logits_of(model: TransformersModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.module(input_ids=torch.tensor([model.encode(ROW_TASK).ids])).logits
    return logits


# The loss


def test_the_loss_counts_exactly_the_outputs_after_the_first_and_the_query_s(model: TransformersModel) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]

    with torch.no_grad():
        together = float(losses_of(model, learned(sequences)))

    assert len({len(sequence.ids) for sequence in sequences}) == 3
    assert together == pytest.approx(loss_by_hand(model, sequences), abs=1e-4)
    for sequence in sequences:
        with torch.no_grad():
            assert float(losses_of(model, learned([sequence]))) == pytest.approx(
                loss_by_hand(model, [sequence]), abs=1e-4
            )


def test_where_there_is_one_output_it_counts(model: TransformersModel) -> None:
    bare = model.encode(TEXT_TASK.replace(demonstrations=()), "größer")
    (score,) = model.score([(TEXT_TASK.replace(demonstrations=()), "größer")])

    with torch.no_grad():
        loss = float(losses_of(model, learned([bare])))

    assert loss == pytest.approx(score.nll_per_token, abs=1e-4)


def test_the_head_is_asked_for_what_is_learned_alone(model: TransformersModel) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]
    asked: list[int] = []
    head = model.module.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, given, output: asked.append(output.shape[:-1].numel()))

    with torch.no_grad():
        losses_of(model, learned(sequences))
    hook.remove()

    assert asked == [sum(stop - start for each in sequences for start, stop in each.outputs[1:])]


@pytest.mark.parametrize("loss_on", get_args(LossOn))
def test_the_loss_counts_what_is_chosen(model: TransformersModel, loss_on: LossOn) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]

    with torch.no_grad():
        together = float(losses_of(model, learned(sequences, loss_on)))

    assert together == pytest.approx(loss_by_hand(model, sequences, loss_on), abs=1e-4)


def test_each_group_has_its_own_mean(model: TransformersModel) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]

    with torch.no_grad():
        losses = losses_of(model, learned(sequences), 3).tolist()

    assert losses == pytest.approx([loss_by_hand(model, [sequence]) for sequence in sequences], abs=1e-4)


def test_told_apart_from_what_answers_are_made_of_the_loss_is_that_of_those_logits(model: TransformersModel) -> None:
    sequences = [model.encode(task, answer) for task, answer in zip(TASKS[:2], ANSWERS[:2], strict=True)]
    among = model.encoding.answer_tokens("grid")
    assert among is not None
    nll = []
    for sequence in sequences:
        ids = torch.tensor(sequence.ids)
        with torch.no_grad():
            log_p = model.module(input_ids=ids[None], use_cache=False).logits[0][:, among].log_softmax(-1)
        of_token = {int(token): log_p[:, place] for place, token in enumerate(among)}
        nll += [
            -float(of_token[int(ids[place])][place - 1])
            for start, stop in sequence.outputs[1:]
            for place in range(start, stop)
        ]

    with torch.no_grad():
        loss = float(losses_of(model, learned(sequences), among=among))

    assert loss == pytest.approx(sum(nll) / len(nll), abs=1e-4)
    assert loss < float(losses_of(model, learned(sequences))) - 1e-3


@pytest.mark.parametrize("lora", [LoraSettings(4, 8.0), LoraSettings(4, 8.0, output_head=True)], ids=["plain", "head"])
def test_the_head_computes_the_tokens_of_answers_alone_unless_it_is_adapted(
    model: TransformersModel, lora: LoraSettings
) -> None:
    asked: list[int] = []
    head = model.module.get_output_embeddings()
    real = head.forward
    settings = TrainingSettings(3, batch_size=2, learning_rate=1e-2, softmax_over="answers")
    hook = model.module.register_forward_hook(lambda module, given, output: asked.append(output.logits.shape[-1]))
    run = train(model, lora, TrainingJob(CONSTANT_TASK, settings, 0))
    hook.remove()

    assert asked == [VOCABULARY_SIZE if lora.output_head else 12] * 3
    assert head.forward == real
    assert run.losses[-1] < run.losses[0]


def test_grids_and_texts_that_are_trained_together_are_each_told_apart_from_their_own(
    model: TransformersModel, lora: LoraSettings
) -> None:
    settings = TrainingSettings(2, batch_size=1, softmax_over="answers")
    jobs = [TrainingJob(task, settings, 0) for task in (ROW_TASK, TEXT_TASK)]
    together = train_many(model, lora, jobs, pass_tokens=100_000)
    alone = [train(model, lora, job) for job in jobs]

    for run, known in zip(together, alone, strict=True):
        assert isinstance(run, TrainingRun)
        assert run.losses == pytest.approx(known.losses, rel=1e-4)


def test_a_family_of_grids_and_texts_is_told_apart_from_the_whole_vocabulary(
    model: TransformersModel, lora: LoraSettings
) -> None:
    runs = [
        train(
            model, lora, TrainingJob(ROW_TASK, TrainingSettings(4, softmax_over=softmax_over), 0, family=(TEXT_TASK,))
        )
        for softmax_over in get_args(SoftmaxOver)
    ]

    assert runs[0].losses == runs[1].losses


def test_a_learned_token_that_is_not_among_the_others_is_refused(model: TransformersModel) -> None:
    with pytest.raises(ValueError, match="a learned token is not among"):
        losses_of(model, learned([model.encode(TASKS[2], ANSWERS[2])]), among=model.encoding.answer_tokens("grid"))


# The run


def test_training_lowers_the_loss_of_a_simple_task(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    (before,) = model.score([(CONSTANT_TASK, CONSTANT)])
    run = train(model, lora, TrainingJob(CONSTANT_TASK, training, 0))
    stack = LoraStack(model, lora)
    stack.fill(run.tensors)
    with stack.merged():
        (after,) = model.score([(CONSTANT_TASK, CONSTANT)])

    assert len(run.losses) == training.steps
    assert 0 < run.losses[-1] < 0.3 * run.losses[0]
    assert after.exact
    assert after.nll < 0.25 * before.nll  # 32 numbers tell the fixed rows of 1,824 tokens apart only so well
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
def test_every_choice_trains_and_trains_something_else(
    model: TransformersModel, lora: LoraSettings, chosen: TrainingSettings
) -> None:
    job = TrainingJob(CONSTANT_TASK, replace(chosen, steps=3), 0)
    losses = train(model, lora, job).losses

    assert losses == train(model, lora, job).losses
    assert losses != train(model, lora, TrainingJob(CONSTANT_TASK, TrainingSettings(steps=3), 0)).losses


def test_one_demonstration_trains_directly(model: TransformersModel, lora: LoraSettings) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])
    run = train(model, lora, TrainingJob(single, TrainingSettings(steps=2, data="direct"), 0))

    assert len(run.losses) == 2


def test_the_budget_is_of_the_sequences_as_they_are_chosen(model: TransformersModel, lora: LoraSettings) -> None:
    grid = [[1, 2, 3, 4]] * 5
    task = Task.from_pairs([(grid, grid)] * 3, [[1]])
    in_context = TrainingSettings(steps=40, batch_size=2, token_budget=3000)
    chosen = (in_context, replace(in_context, data="direct", augmentation="paper"), replace(in_context, data="direct"))
    whole, larger, direct = (train(model, lora, TrainingJob(task, settings, 0)) for settings in chosen)

    assert len(whole.losses) < len(larger.losses) < len(direct.losses)
    assert all(1500 < run.tokens < 3600 for run in (whole, larger, direct))


def test_no_step_leaves_an_adapter_that_changes_nothing(model: TransformersModel, lora: LoraSettings) -> None:
    before = logits_of(model)
    run = train(model, lora, TrainingJob(CONSTANT_TASK, TrainingSettings(steps=0), 0))
    stack = LoraStack(model, lora)
    stack.fill(run.tensors)

    assert (run.losses, run.tokens) == ((), 0)
    for on in (stack.merged(), stack.active()):
        with on:
            assert torch.equal(logits_of(model), before)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    short = replace(training, steps=3)
    runs = []
    for task, seed in ((CONSTANT_TASK, 1), (TEXT_TASK, 7), (CONSTANT_TASK, 1), (CONSTANT_TASK, 2)):
        run = train(model, lora, TrainingJob(task, short, seed))
        runs.append((save(dict(run.tensors)), run.losses))

    assert runs[0] == runs[2]
    assert runs[0] != runs[3]


def test_what_was_answered_between_does_not_change_what_is_learned(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    job = TrainingJob(CONSTANT_TASK, replace(training, steps=2), 1)
    first = train(model, lora, job)
    stack = LoraStack(model, lora)
    stack.fill(first.tensors)
    with stack.merged():
        model.generate(TASKS)
    model.score(list(zip(TASKS, ANSWERS, strict=True)))

    assert save(dict(train(model, lora, job).tensors)) == save(dict(first.tensors))


def test_progress_is_told_after_every_step(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    told: list[tuple[int, int, float]] = []
    run = train(
        model,
        lora,
        TrainingJob(
            ROW_TASK, replace(training, steps=3), 0, progress=lambda done, of, loss: told.append((done, of, loss))
        ),
    )

    assert told == [(1, 3, run.losses[0]), (2, 3, run.losses[1]), (3, 3, run.losses[2])]


def test_one_demonstration_is_too_few(model: TransformersModel, lora: LoraSettings, training: TrainingSettings) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])

    with pytest.raises(TooFewDemonstrations):
        train(model, lora, TrainingJob(single, training, 0))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers an old question
def test_a_run_goes_as_it_goes_with_peft_and_torch_s_own_adamw(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    run = train(model, lora, TrainingJob(CONSTANT_TASK, training, 3))
    start = LoraStack(model, lora)
    start.reset(3)
    config = LoraConfig(r=lora.rank, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        theirs = get_peft_model(tiny_module(), config)
    set_peft_model_state_dict(theirs, start.tensors())
    parameters = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    losses = []
    batches = training_batches(CONSTANT_TASK, steps=training.steps, batch_size=training.batch_size, seed=3)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = training.learning_rate * (1.0 - step / training.steps)
        sequences = [model.encode(task, answer) for task, answer in batch]
        nll = torch.stack([nll_by_hand(theirs, each) for each in sequences]).sum()
        loss = nll / sum(n_learned(each) for each in sequences)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.max_norm)
        optimizer.step()

    assert run.losses == pytest.approx(losses, rel=1e-4)
    expected = get_peft_model_state_dict(theirs)
    for name, tensor in run.tensors.items():
        assert relative_difference(tensor, expected[name]) < 1e-4


def nll_by_hand(module: torch.nn.Module, sequence: Encoded) -> torch.Tensor:
    ids = torch.tensor(sequence.ids)
    log_p: torch.Tensor = module(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
    places = [place for start, stop in sequence.outputs[1:] for place in range(start, stop)]
    return -log_p[[place - 1 for place in places], ids[places]].sum()


def n_learned(sequence: Encoded) -> int:
    return sum(stop - start for start, stop in sequence.outputs[1:])


def relative_difference(some: torch.Tensor, other: torch.Tensor) -> float:
    return float((some - other).norm() / other.norm().clamp(min=1e-12))


# Many at once


@pytest.mark.parametrize("pass_tokens", [1, 400, 100_000])
def test_every_task_of_many_goes_as_it_goes_alone(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, pass_tokens: int
) -> None:
    jobs = [
        TrainingJob(CONSTANT_TASK, replace(training, steps=6), 1),
        TrainingJob(TEXT_TASK, replace(training, steps=3, learning_rate=1e-2), 2),
        TrainingJob(ROW_TASK, replace(training, steps=9, max_norm=0.1), 3),
        TrainingJob(CONSTANT_TASK, replace(training, steps=0), 4),
        TrainingJob(ROW_TASK, replace(training, batch_size=3, steps=2), 5),
        TrainingJob(CONSTANT_TASK, replace(training, steps=2), 6),
    ]
    alone = [train(model, lora, job) for job in jobs]

    together = train_many(model, lora, jobs, pass_tokens=pass_tokens)

    for run, expected in zip(together, alone, strict=True):
        assert isinstance(run, TrainingRun)
        assert run.losses == pytest.approx(expected.losses, rel=1e-4)
        assert run.tokens == expected.tokens
        assert run.tensors.keys() == expected.tensors.keys()
        for name, tensor in run.tensors.items():
            assert relative_difference(tensor, expected.tensors[name]) < 1e-4


def test_products_in_bfloat16_learn_as_much(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    jobs = [TrainingJob(CONSTANT_TASK, replace(training, precision=precision), 0) for precision in get_args(Precision)]

    full, half = train_many(model, lora, jobs)

    assert isinstance(full, TrainingRun)
    assert isinstance(half, TrainingRun)
    assert half.losses != full.losses
    assert half.losses[-1] < 0.3 * half.losses[0]
    assert all(tensor.dtype == torch.float32 for tensor in half.tensors.values())


def test_an_adapter_to_begin_with_reaches_its_own_slot(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    start = train(model, lora, TrainingJob(CONSTANT_TASK, training, 0)).tensors
    jobs = [
        TrainingJob(CONSTANT_TASK, replace(training, steps=1), 0),
        TrainingJob(CONSTANT_TASK, replace(training, steps=1), 0, start),
    ]

    afresh, on = train_many(model, lora, jobs)

    assert isinstance(afresh, TrainingRun)
    assert isinstance(on, TrainingRun)
    assert on.losses[0] < 0.3 * afresh.losses[0]


def test_an_adapter_that_cannot_be_begun_with_keeps_the_others_from_nothing(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    short = replace(training, steps=1)
    fine = TrainingJob(CONSTANT_TASK, short, 1)
    wrong = replace(fine, start={"no": torch.zeros(1)})

    refused, run = train_many(model, lora, [wrong, fine])

    assert isinstance(refused, AdapterRefused)
    assert isinstance(run, TrainingRun)
    with pytest.raises(AdapterRefused):
        train(model, lora, wrong)


def test_what_stops_one_task_does_not_touch_the_others(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    short = replace(training, steps=4)
    fine = TrainingJob(CONSTANT_TASK, short, 1)
    jobs = [
        TrainingJob(CONSTANT_TASK, replace(short, learning_rate=float("inf")), 2),
        TrainingJob(ROW_TASK, short, 3, deadline=time.monotonic() - 1),
        fine,
        TrainingJob(Task.from_pairs([("a", "b" * 200), ("c", "d" * 400)], "e", id="long"), short, 4),
        TrainingJob(ROW_TASK, replace(short, learning_rate=1e30), 5),
    ]
    alone = train(model, lora, fine)

    exploded, late, run, long, wild = train_many(model, lora, jobs, pass_tokens=100_000)

    assert isinstance(run, TrainingRun)
    assert run.losses == pytest.approx(alone.losses, rel=1e-4)
    for failed, reason in ((exploded, "loss became"), (late, "deadline"), (long, "context"), (wild, "loss became")):
        assert isinstance(failed, TrainingFailed)
        assert reason in failed.reason


def test_no_job_is_no_work(model: TransformersModel, lora: LoraSettings) -> None:
    assert train_many(model, lora, []) == []


# A family


def test_one_task_in_turn_is_that_task_s_own_batches() -> None:
    batches, own = (training_batches(CONSTANT_TASK, steps=3, batch_size=4, seed=0) for _ in range(2))

    assert list(in_turn([batches], 3)) == list(own)


def test_the_tasks_of_a_family_are_trained_on_in_turn_each_by_its_own_batches() -> None:
    tasks = (CONSTANT_TASK, TEXT_TASK, ROW_TASK)
    own = [list(training_batches(task, steps=2, batch_size=2, seed=5)) for task in tasks]

    turns = list(in_turn([training_batches(task, steps=5, batch_size=2, seed=5) for task in tasks], 5))

    assert turns == [own[0][0], own[1][0], own[2][0], own[0][1], own[1][1]]


def test_one_adapter_is_trained_on_a_whole_family(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    job = TrainingJob(CONSTANT_TASK, replace(training, steps=40), 0, family=(TEXT_TASK,))
    run = train(model, lora, job)
    stack = LoraStack(model, lora)
    stack.fill(run.tensors)
    before = model.generate([CONSTANT_TASK, TEXT_TASK], score_demonstrations=True)
    with stack.merged():
        after = model.generate([CONSTANT_TASK, TEXT_TASK], score_demonstrations=True)

    assert run.losses == train(model, lora, job).losses
    for one, other in zip(before, after, strict=True):
        nll, nll_before = (sum(score.nll for score in said.demonstrations) for said in (other, one))
        assert nll < 0.8 * nll_before


def test_a_family_is_trained_to_the_end_without_looks_at_one_of_its_tasks(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    looking = replace(training, steps=6, check_every=2)
    plain = train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, steps=6), 0, family=(TEXT_TASK,)))
    run = train(model, lora, TrainingJob(CONSTANT_TASK, looking, 0, family=(TEXT_TASK,)))

    assert (run.losses, run.checks, run.verdict) == (plain.losses, (), "")


def test_every_task_of_a_family_has_a_step_however_few_there_are(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    family = (TEXT_TASK, ROW_TASK)
    few, none = (replace(training, steps=steps) for steps in (2, 0))

    assert len(train(model, lora, TrainingJob(CONSTANT_TASK, few, 0, family=family)).losses) == 3
    assert train(model, lora, TrainingJob(CONSTANT_TASK, none, 0, family=family)).losses == ()


def test_every_task_of_a_family_needs_demonstrations_enough(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])

    with pytest.raises(TooFewDemonstrations):
        train(model, lora, TrainingJob(CONSTANT_TASK, training, 0, family=(single,)))


# What stops it


@pytest.mark.parametrize("rate", [1e30, float("inf")])
def test_a_loss_that_explodes_stops_training(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, rate: float
) -> None:
    before = logits_of(model)

    with pytest.raises(TrainingFailed, match=r"loss became|not finite") as stopped:
        train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, learning_rate=rate), 0))

    assert stopped.value.task_id == CONSTANT_TASK.id
    assert_is_off(model, before)


def test_a_poisoned_model_stops_training_at_the_first_step(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    with torch.no_grad():
        model.module.model.norm.weight[0] = float("nan")

    with pytest.raises(TrainingFailed, match="nan at step 1") as stopped:
        train(model, lora, TrainingJob(CONSTANT_TASK, training, 0))

    assert not stopped.value.gave_up


def test_a_weight_that_is_not_finite_after_the_last_step_is_noticed(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    with pytest.raises(TrainingFailed, match="not finite"):
        train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, steps=1, learning_rate=float("inf")), 0))


def test_a_deadline_that_is_past_stops_before_the_first_step(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    with pytest.raises(TrainingFailed, match="deadline reached after 0 of 20 steps") as stopped:
        train(model, lora, TrainingJob(CONSTANT_TASK, training, 0, deadline=time.monotonic() - 1))

    assert stopped.value.gave_up


def test_a_deadline_is_looked_at_before_every_step(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    deadline = time.monotonic() + 1.0
    job = TrainingJob(CONSTANT_TASK, training, 0, deadline=deadline, progress=lambda *_: time.sleep(1.0))

    with pytest.raises(TrainingFailed, match="deadline reached after 1 of 20 steps"):
        train(model, lora, job)


def test_training_that_nobody_wants_any_more_stops_before_its_next_step_and_the_others_go_on(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    unwanted = threading.Event()
    job = TrainingJob(CONSTANT_TASK, training, 0)
    given_up = replace(
        job, cancelled=unwanted.is_set, progress=lambda step, of, loss: unwanted.set() if step == 3 else None
    )

    gone, finished = train_many(model, lora, [given_up, job])

    assert isinstance(gone, TrainingFailed)
    assert gone.reason == "cancelled after 3 of 20 steps"
    assert gone.gave_up
    assert isinstance(finished, TrainingRun)
    assert len(finished.losses) == 20


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(NO_MEMORY)])
def test_running_out_of_memory_stops_training(
    model: TransformersModel,
    lora: LoraSettings,
    training: TrainingSettings,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def step(*_: object) -> None:
        raise error

    before = logits_of(model)
    monkeypatch.setattr(StackedAdamW, "step", step)

    with pytest.raises(TrainingFailed, match="out of memory"):
        train(model, lora, TrainingJob(CONSTANT_TASK, training, 0))

    assert_is_off(model, before)


def test_where_memory_does_not_hold_tasks_side_by_side_fewer_are_trained_at_a_time(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(training, steps=3)
    jobs = [TrainingJob(task, short, seed) for task, seed in ((CONSTANT_TASK, 1), (CONSTANT_TASK, 2), (ROW_TASK, 3))]
    alone = [train(model, lora, job) for job in jobs]
    step, asked = StackedAdamW.step, []

    def small(self: StackedAdamW, gradients: torch.Tensor, *more: torch.Tensor) -> None:
        asked.append(len(gradients))
        if len(gradients) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        step(self, gradients, *more)

    monkeypatch.setattr(StackedAdamW, "step", small)
    together = train_many(model, lora, jobs, pass_tokens=100_000)

    assert max(asked) > 1
    for run, expected in zip(together, alone, strict=True):
        assert isinstance(run, TrainingRun)
        assert run.losses == pytest.approx(expected.losses, rel=1e-4)


def test_a_task_that_memory_does_not_hold_alone_keeps_the_others_from_nothing(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(training, steps=2)
    step = StackedAdamW.step

    def small(self: StackedAdamW, gradients: torch.Tensor, rates: torch.Tensor, max_norms: torch.Tensor) -> None:
        if len(rates) > 1 or float(rates) > 1.0:  # stands for a task that is too large
            raise torch.OutOfMemoryError("CUDA out of memory.")
        step(self, gradients, rates, max_norms)

    monkeypatch.setattr(StackedAdamW, "step", small)
    jobs = [TrainingJob(CONSTANT_TASK, replace(short, learning_rate=rate), 0) for rate in (1e-2, 2.0, 1e-2)]
    first, large, last = train_many(model, lora, jobs, pass_tokens=100_000)

    assert isinstance(first, TrainingRun)
    assert isinstance(last, TrainingRun)
    assert isinstance(large, TrainingFailed)
    assert large.reason == "out of memory"


def test_one_task_of_too_few_demonstrations_keeps_the_others_from_nothing(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    single = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:1])
    refused, run = train_many(
        model, lora, [TrainingJob(task, replace(training, steps=2), 0) for task in (single, ROW_TASK)]
    )

    assert isinstance(refused, TooFewDemonstrations)
    assert isinstance(run, TrainingRun)


def test_a_sign_of_life_is_given_for_every_task_at_every_step(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    signs: list[int] = []
    jobs = [
        TrainingJob(ROW_TASK, replace(training, steps=3), i, alive=functools.partial(signs.append, i)) for i in range(2)
    ]
    train_many(model, lora, jobs, pass_tokens=1)

    assert signs == [0, 1] * 6


def test_a_layer_that_takes_no_part_in_the_pass_stays_as_it_was(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    with torch.random.fork_rng(devices=[]):
        model.module.unused = torch.nn.Linear(4, 4, bias=False)
    run = train(model, lora, TrainingJob(CONSTANT_TASK, replace(training, steps=3), 0))

    assert not run.tensors["base_model.model.unused.lora_B.weight"].any()
    assert run.losses[-1] < run.losses[0]


def test_models_that_take_no_mask_of_places_are_trained_alike(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [TrainingJob(task, replace(training, steps=3), 0) for task in (CONSTANT_TASK, ROW_TASK)]
    expected = train_many(model, lora, jobs)
    monkeypatch.setattr("ttt_engine.training._takes_mask", lambda module: False)

    for run, other in zip(train_many(model, lora, jobs), expected, strict=True):
        assert isinstance(run, TrainingRun)
        assert isinstance(other, TrainingRun)
        assert run.losses == pytest.approx(other.losses, rel=1e-5)


def test_any_other_fault_is_passed_on_with_the_adapter_off(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = logits_of(model)

    with pytest.raises(KeyboardInterrupt):
        train(model, lora, TrainingJob(CONSTANT_TASK, training, 0, progress=interrupted))

    assert_is_off(model, before)


def test_demonstrations_that_do_not_fit_the_context_stop_training(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    long = Task.from_pairs([("a", "b" * 200), ("c", "d" * 400)], "e", id="long")

    with pytest.raises(TrainingFailed, match="longer than the context") as stopped:
        train(model, lora, TrainingJob(long, training, 0))

    assert stopped.value.task_id == "long"
