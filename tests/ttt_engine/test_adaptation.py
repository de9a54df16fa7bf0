"""Whatever is trained, the base stays what it was to the bit, and what is trained comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import linear

from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import load_model
from icl_engine.leave_one_out import leave_one_out
from icl_engine.transformers_model import TransformersModel
from tests.adapters import signer
from tests.models import CONSTANT, CONSTANT_TASK, ROW_TASK, TEXT_TASK, save_tiny_llama, tiny_model, tiny_module
from ttt_engine.adaptation import Adaptation, adaptation_of
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import AnswerRequest, TttEngine
from ttt_engine.errors import AdapterRefused
from ttt_engine.export import export_adapter
from ttt_engine.full import FullWeights
from ttt_engine.lora import LoraStack
from ttt_engine.loss import target_spans
from ttt_engine.stores import LocalAdapterStore, MemoryAdapterStore
from ttt_engine.training import TrainingJob, TrainingRun, losses_of, train, train_many
from ttt_engine.training_data import training_batches

Tensors = dict[str, torch.Tensor]

LORA = LoraSettings(rank=4, alpha=8.0)
STACKED = {
    "lora": LORA,
    "output head": replace(LORA, output_head=True),
    "frozen A": replace(LORA, frozen_a=True),
    "dropout": replace(LORA, dropout=0.2),
    "top layer": replace(LORA, top_layers=1),
    "task token": replace(LORA, task_token=True),
    "task token alone": replace(LORA, rank=0, task_token=True),
    "all but full": replace(LORA, output_head=True, frozen_a=True, task_token=True),
}
FULL = {"full": replace(LORA, method="full"), "full and token": replace(LORA, method="full", task_token=True)}
FORMS = STACKED | FULL


@pytest.fixture(params=sorted(FORMS))
def form(request: pytest.FixtureRequest) -> LoraSettings:
    return FORMS[request.param]


def rate_of(settings: LoraSettings) -> float:
    return 3e-3 if settings.method == "full" else 1e-1 if settings.rank == 0 else 3e-2


def training_for(settings: LoraSettings, steps: int = 10) -> TrainingSettings:
    return TrainingSettings(steps=steps, learning_rate=rate_of(settings))


def trained_on(model: TransformersModel, settings: LoraSettings) -> Adaptation:
    adaptation = adaptation_of(model, settings)
    adaptation.fill(train(model, settings, TrainingJob(CONSTANT_TASK, training_for(settings), 0)).tensors)
    return adaptation


def on(adaptation: Adaptation, *, merged: bool) -> AbstractContextManager[None]:
    return adaptation.merged() if merged else adaptation.active()


def logits_of(module: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = module(input_ids=torch.tensor([EmbeddedEncoding().encode(CONSTANT_TASK).ids])).logits
    return logits


def base_of(model: TransformersModel) -> tuple[Tensors, dict[str, int]]:
    """Copies of the base's weights, and where the weights lie."""
    named = dict(model.module.named_parameters())
    return {name: p.detach().clone() for name, p in named.items()}, {name: p.data_ptr() for name, p in named.items()}


def assert_is_base(model: TransformersModel, before: tuple[Tensors, dict[str, int]]) -> None:
    weights, places = base_of(model)

    assert places == before[1]
    assert same(weights, before[0])
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())


def same(some: Tensors, others: Tensors) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def noise(adaptation: Adaptation, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + torch.randn(tensor.shape, generator=generator) * 0.1
        for name, tensor in adaptation.tensors().items()
    }


def sevens(places: int) -> torch.Tensor:
    return torch.full((1, places), 7)


# What holds of every form


def test_training_lowers_the_loss_and_leaves_the_base_as_it_was(model: TransformersModel, form: LoraSettings) -> None:
    before = base_of(model)
    run = train(model, form, TrainingJob(CONSTANT_TASK, training_for(form, steps=15), 0))

    assert run.losses[-1] < 0.7 * run.losses[0]
    assert_is_base(model, before)


@pytest.mark.parametrize("merged", [True, False])
def test_without_training_the_model_answers_as_the_base(
    model: TransformersModel, form: LoraSettings, merged: bool
) -> None:
    base = logits_of(model.module)
    adaptation = adaptation_of(model, form)
    adaptation.fill(train(model, form, TrainingJob(CONSTANT_TASK, training_for(form, steps=0), 0)).tensors)
    with on(adaptation, merged=merged):
        assert torch.equal(logits_of(model.module), base)


def test_merged_or_not_the_model_says_the_same_and_the_base_comes_back(
    model: TransformersModel, form: LoraSettings
) -> None:
    adaptation = trained_on(model, form)
    before, base = base_of(model), logits_of(model.module)
    with adaptation.merged():
        merged = logits_of(model.module)
    with adaptation.active():
        beside = logits_of(model.module)

    assert torch.allclose(merged, beside, atol=1e-3)
    assert not torch.allclose(merged, base, atol=1e-1)
    assert_is_base(model, before)


@pytest.mark.parametrize("how", ["training", "active", "merged"])
def test_the_very_tensors_are_back_after_a_fault(model: TransformersModel, form: LoraSettings, how: str) -> None:
    adaptation = trained_on(model, form)
    before = base_of(model)
    contexts = {"training": adaptation.training, "active": adaptation.active, "merged": adaptation.merged}

    with pytest.raises(ZeroDivisionError), contexts[how]():
        raise ZeroDivisionError

    assert_is_base(model, before)


def test_the_very_tensors_are_back_after_a_fault_amid_training(model: TransformersModel, form: LoraSettings) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = base_of(model)

    with pytest.raises(KeyboardInterrupt):
        train(model, form, TrainingJob(CONSTANT_TASK, training_for(form), 0, progress=interrupted))

    assert_is_base(model, before)


def test_what_is_read_out_and_filled_in_again_is_the_same(model: TransformersModel, form: LoraSettings) -> None:
    adaptation, other = trained_on(model, form), adaptation_of(model, form)
    adaptation.fill(noise(adaptation, seed=1))
    other.fill(adaptation.tensors())
    with adaptation.active():
        expected = logits_of(model.module)
    with other.active():
        assert torch.equal(logits_of(model.module), expected)

    assert same(other.tensors(), adaptation.tensors())


@pytest.mark.parametrize("asked", sorted(FORMS))
def test_the_adapter_of_another_form_is_refused(model: TransformersModel, form: LoraSettings, asked: str) -> None:
    given, adaptation = adaptation_of(model, form), adaptation_of(model, FORMS[asked])
    if given.tensors().keys() == adaptation.tensors().keys():
        adaptation.fill(given.tensors())
        return

    with pytest.raises(AdapterRefused, match="names differ"):
        adaptation.fill(given.tensors())


def test_an_adapter_is_kept_found_again_and_answers(
    model: TransformersModel, form: LoraSettings, tmp_path: Path
) -> None:
    training = training_for(form)
    first = TttEngine(model, LocalAdapterStore(tmp_path, signer()), form).adapt(CONSTANT_TASK, training, seed=0)
    engine = TttEngine(tiny_model(), LocalAdapterStore(tmp_path, signer()), form)
    again = engine.adapt(CONSTANT_TASK, training, seed=0)
    merged, beside = (engine.answer(CONSTANT_TASK, again.adapter, n_views=2, merged=on) for on in (True, False))

    assert (again.cached, again.degraded) == (True, ())
    assert again.adapter.sha256 == first.adapter.sha256
    assert merged[0].values == beside[0].values


def test_training_can_begin_with_an_adapter_of_the_same_form(model: TransformersModel, form: LoraSettings) -> None:
    start = train(model, form, TrainingJob(CONSTANT_TASK, training_for(form), 0))
    on = train(model, form, TrainingJob(CONSTANT_TASK, training_for(form, steps=1), 0, start.tensors))

    assert on.losses[0] < 0.8 * start.losses[0]


def test_many_tasks_go_as_they_go_alone(model: TransformersModel, form: LoraSettings) -> None:
    jobs = [
        TrainingJob(task, training_for(form, steps), seed)
        for task, steps, seed in ((CONSTANT_TASK, 4, 1), (TEXT_TASK, 2, 2), (ROW_TASK, 3, 3))
    ]
    alone = [train(model, form, job) for job in jobs]

    for run, expected in zip(train_many(model, form, jobs, pass_tokens=100_000), alone, strict=True):
        assert isinstance(run, TrainingRun)
        assert run.losses == pytest.approx(expected.losses, rel=1e-4)
        for name, tensor in run.tensors.items():
            assert float((tensor - expected.tensors[name]).norm()) <= 1e-4 * float(expected.tensors[name].norm())


@pytest.mark.parametrize("mixed", [True, False])
def test_tasks_that_are_answered_together_are_answered_as_one_by_one(
    model: TransformersModel, form: LoraSettings, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttt_engine.engine.mixes_adapters", lambda device: mixed)
    engine, settings = TttEngine(model, MemoryAdapterStore(), form), InferenceSettings(n_views=2)
    requests = [
        AnswerRequest(task, engine.adapt(task, training_for(form), seed=0).adapter, settings)
        for task in (CONSTANT_TASK, ROW_TASK, CONSTANT_TASK.replace(queries=(((8, 2),),)))
    ]
    assert requests[0].adapter.key == requests[2].adapter.key
    one_by_one = [engine.answer(each.task, each.adapter, settings=settings) for each in requests]

    for answers, expected in zip(engine.answer_many(requests), one_by_one, strict=True):
        assert not isinstance(answers, Exception)
        assert [answer.values for answer in answers] == [answer.values for answer in expected]


@pytest.mark.parametrize("form", STACKED.values(), ids=STACKED)
@pytest.mark.parametrize("slots", [[0, 1, 2], [0, 1, 1, 1, 2], [2, 2]])
def test_every_row_is_answered_with_its_own_slot(
    model: TransformersModel, form: LoraSettings, slots: list[int]
) -> None:
    stack, alone = adaptation_of(model, form, 3), adaptation_of(model, form)
    for slot in range(3):
        stack.reset(slot, slot)
        alone.reset(slot)
        stack.fill(noise(alone, seed=slot), slot)
    ids = torch.tensor([EmbeddedEncoding().encode(CONSTANT_TASK).ids]).expand(len(slots), -1)
    stack.use(slots)
    with stack.active():
        together = model.module(input_ids=ids).logits

    for row, slot in enumerate(slots):
        with stack.merged(slot):
            assert torch.allclose(together[row], logits_of(model.module)[0], atol=1e-3)


# The output head


def test_a_head_that_is_tied_is_adapted_and_the_input_embedding_is_not(model: TransformersModel) -> None:
    stack = adaptation_of(model, FORMS["output head"])
    stack.fill(noise(stack, seed=0))
    embedding = model.module.get_input_embeddings()
    before = embedding(sevens(1))
    with stack.merged():
        merged = embedding(sevens(1))

    assert model.module.get_output_embeddings().weight is embedding.weight
    assert {"lm_head.lora_A.weight", "lm_head.lora_B.weight"} <= {
        name.removeprefix("base_model.model.") for name in stack.tensors()
    }
    assert torch.equal(merged, before)


def test_a_head_of_its_own_is_merged(tmp_path: Path) -> None:
    model = load_model(str(save_tiny_llama(tmp_path)), device="cpu")
    stack = adaptation_of(model, FORMS["output head"])
    stack.fill(noise(stack, seed=0))
    head = model.module.get_output_embeddings()
    before = head.weight.clone()
    with stack.active():
        beside = model.module(input_ids=sevens(3)).logits
    with stack.merged():
        merged = model.module(input_ids=sevens(3)).logits
        assert not torch.equal(head.weight, before)

    assert torch.allclose(merged, beside, atol=1e-4)
    assert torch.equal(head.weight, before)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers an old question
@pytest.mark.filterwarnings("ignore:Model (with|has) .tie_word_embeddings:UserWarning")  # of merging in peft
@pytest.mark.parametrize("name", ["output head", "frozen A", "dropout", "top layer"])
def test_peft_loads_it_as_one_of_its_own(model: TransformersModel, tmp_path: Path, name: str) -> None:
    engine = TttEngine(model, MemoryAdapterStore(), FORMS[name])
    adapter = engine.adapt(CONSTANT_TASK, training_for(FORMS[name]), seed=0).adapter
    with torch.random.fork_rng(devices=[]):
        theirs = PeftModel.from_pretrained(tiny_module(), export_adapter(adapter, tmp_path / "exported"))

    with trained_on(model, FORMS[name]).active():
        assert torch.allclose(logits_of(theirs), logits_of(model.module), atol=1e-4)


# Dropout


def test_dropout_hides_a_share_of_the_inputs_of_every_layer_and_makes_up_for_it(model: TransformersModel) -> None:
    stack = LoraStack(model, FORMS["dropout"])
    layer, other = stack._layers[:2]
    stack.use([0, 0], draws=[1_000, 2_000])

    first, again = (stack._thinned(layer, torch.ones(2, 50, 32)) for _ in range(2))
    elsewhere = stack._thinned(other, torch.ones(2, 50, 32))
    stack.use([0], draws=[1_000])
    alone_and_shorter = stack._thinned(layer, torch.ones(1, 30, 32))

    assert first.unique().tolist() == pytest.approx([0.0, 1.25])
    assert float(first.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(first, again)
    assert not torch.equal(first, elsewhere)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[:1, :30], alone_and_shorter)


def test_dropout_changes_what_is_learned_at_every_step_and_no_answer(model: TransformersModel) -> None:
    with_it, without = (
        train(model, settings, TrainingJob(CONSTANT_TASK, training_for(settings, 3), 0))
        for settings in (FORMS["dropout"], LORA)
    )
    assert with_it.losses[0] == pytest.approx(without.losses[0])  # B is 0 before the first step
    for some, other in zip(with_it.losses[1:], without.losses[1:], strict=True):
        assert some != pytest.approx(other, rel=1e-4)

    said = []
    for settings in (FORMS["dropout"], LORA):
        stack = LoraStack(model, settings)
        stack.fill(with_it.tensors)
        with stack.active():
            said.append(logits_of(model.module))
    assert torch.equal(*said)


def test_a_look_at_a_held_out_demonstration_is_without_dropout(model: TransformersModel) -> None:
    settings = FORMS["dropout"]
    run = train(model, settings, TrainingJob(CONSTANT_TASK, replace(training_for(settings, 5), check_every=5), 0))
    (check,) = run.checks
    stack = LoraStack(model, settings)
    stack.fill(run.tensors)
    with stack.active():
        asked = list(leave_one_out(CONSTANT_TASK))[check.demonstration]
        (held_out,) = model.score([asked])

    assert check.nll < 0.9 * check.untrained_nll  # so that there is something to be left out
    assert check.nll == pytest.approx(held_out.nll_per_token, rel=1e-4)


def test_every_step_row_and_seed_has_a_dropout_of_its_own(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    uses = LoraStack.use

    def noting(stack: LoraStack, slots: Sequence[int], draws: Sequence[int] = ()) -> None:
        drawn.extend(draws)
        uses(stack, slots, draws)

    monkeypatch.setattr(LoraStack, "use", noting)
    settings = FORMS["dropout"]
    training = training_for(settings, 3)
    for seed in (0, 1):
        train(model, settings, TrainingJob(CONSTANT_TASK, training, seed))

    assert len(set(drawn)) == len(drawn) == 2 * 3 * training.batch_size


# B alone


def test_a_frozen_a_stays_as_it_was_drawn_and_takes_no_room_in_the_optimiser(model: TransformersModel) -> None:
    frozen, whole = adaptation_of(model, FORMS["frozen A"]), adaptation_of(model, LORA)
    frozen.reset(0)
    drawn = frozen.tensors()
    trained = trained_on(model, FORMS["frozen A"]).tensors()

    for name, tensor in trained.items():
        assert torch.equal(tensor, drawn[name]) is ("lora_A" in name)
    assert frozen.weights.shape[1] == sum(tensor.numel() for name, tensor in drawn.items() if "lora_B" in name)
    whole.reset(0)
    assert same(whole.tensors(), drawn)


def test_the_gradients_of_b_are_those_of_a_lora_whole(model: TransformersModel) -> None:
    gradients = []
    for settings in (LORA, FORMS["frozen A"]):
        stack = LoraStack(model, settings)
        stack.reset(0)
        stack.fill(noise(stack, seed=0))
        with stack.training():
            loss = model.module(input_ids=torch.tensor([model.encode(ROW_TASK).ids])).logits.logsumexp(-1).mean()
            gradients.append(dict(zip(map(id, stack.parameters()), _split(stack, loss), strict=True)))
    whole, frozen = (list(each.values()) for each in gradients)

    assert len(whole) == 2 * len(frozen)
    for all_of_b, b in zip(whole[1::2], frozen, strict=True):
        assert torch.allclose(all_of_b, b, atol=1e-6)


def _split(stack: LoraStack, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(stack.gradients(loss).split([matrix[0].numel() for matrix in stack.parameters()], dim=1))


# The task token


def test_a_task_token_is_what_a_shifted_embedding_would_say(model: TransformersModel) -> None:
    stack = adaptation_of(model, FORMS["task token alone"])
    token = torch.randn(model.module.config.hidden_size, generator=torch.Generator().manual_seed(0))
    stack.fill({"task_token": token})
    ids = torch.tensor([EmbeddedEncoding().encode(CONSTANT_TASK).ids])
    shifted = model.module.get_input_embeddings()(ids) + token
    with torch.no_grad():
        positions = model.encoding.positions(ids, torch.ones_like(ids))
        expected = model.module(inputs_embeds=shifted, position_ids=positions).logits
    with stack.merged():
        assert torch.allclose(logits_of(model.module), expected, atol=1e-5)

    assert stack.weights.shape == (1, model.module.config.hidden_size)


@pytest.mark.parametrize("name", ["task token", "task token alone", "full and token"])
def test_a_task_token_is_not_left_out_of_an_export_but_refused(
    model: TransformersModel, tmp_path: Path, name: str
) -> None:
    training = training_for(FORMS[name], steps=1)
    adapter = TttEngine(model, MemoryAdapterStore(), FORMS[name]).adapt(CONSTANT_TASK, training, seed=0).adapter

    with pytest.raises(AdapterRefused, match="without task_token"):
        export_adapter(adapter, tmp_path / "exported")

    assert not (tmp_path / "exported").exists()


# All weights


def test_a_full_run_goes_as_it_goes_with_torch_s_own_adamw_on_a_model_of_its_own(model: TransformersModel) -> None:
    settings, training = FORMS["full"], training_for(FORMS["full"], steps=3)
    run = train(model, settings, TrainingJob(CONSTANT_TASK, training, 0))
    theirs = tiny_model()
    parameters = [parameter.requires_grad_(True) for parameter in theirs.module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(training_batches(CONSTANT_TASK, steps=3, batch_size=training.batch_size, seed=0)):
        optimizer.param_groups[0]["lr"] = training.learning_rate * (1.0 - step / 3)
        encoded = [theirs.encode(task, answer) for task, answer in batch]
        loss = losses_of(theirs, [(each, target_spans(each, training.loss_on)) for each in encoded])[0]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.max_norm)
        optimizer.step()

    assert run.losses == pytest.approx(losses, rel=1e-4)
    for name, parameter in theirs.module.named_parameters():
        assert torch.allclose(run.tensors[name], parameter, atol=1e-4)


def test_all_weights_are_trained_for_one_task_at_a_time(model: TransformersModel) -> None:
    full = adaptation_of(model, FORMS["full"], 8)

    assert full.n_slots == 1
    assert full.weights.shape == (1, model.n_parameters)
    with pytest.raises(ValueError, match="one slot"):
        full.use([0, 1])


def test_a_model_above_the_limit_is_not_trained_whole(model: TransformersModel) -> None:
    settings = replace(FORMS["full"], max_full_weights=model.n_parameters)
    adaptation_of(model, settings)

    with pytest.raises(AdapterRefused, match=r"max_full_weights=.*method='lora'"):
        adaptation_of(model, replace(settings, max_full_weights=model.n_parameters - 1))


def test_a_half_precise_base_is_trained_whole_in_full_precision_and_comes_back() -> None:
    model = TransformersModel(tiny_module().to(torch.bfloat16), EmbeddedEncoding(), "half")  # type: ignore[arg-type]
    before = base_of(model)
    full = trained_on(model, FORMS["full"])
    with full.merged():
        assert logits_of(model.module).dtype == torch.float32

    assert all(tensor.dtype == torch.float32 for tensor in full.tensors().values())
    assert logits_of(model.module).dtype == torch.bfloat16
    assert_is_base(model, before)


def test_a_model_trained_whole_is_exported_as_a_model(model: TransformersModel, tmp_path: Path) -> None:
    engine = TttEngine(model, MemoryAdapterStore(), FORMS["full"])
    adapter = engine.adapt(CONSTANT_TASK, training_for(FORMS["full"], steps=20), seed=0).adapter
    loaded = load_model(str(export_adapter(adapter, tmp_path / "exported")), device="cpu")
    full = FullWeights(model, FORMS["full"])
    full.fill(dict(loaded.module.named_parameters()))
    with full.active():
        expected = logits_of(model.module)

    assert torch.equal(logits_of(loaded.module), expected)
    assert [each.value for each in loaded.generate([CONSTANT_TASK])] == [CONSTANT]
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["model_type"] == "grid_llama"


# Quantised layers


class PackedLinear(torch.nn.Linear):
    """A layer whose weight is packed in bytes, as bitsandbytes packs 4 bits: here a byte a value."""

    def __init__(self, plain: torch.nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        matrix = plain.weight.detach()
        self.step = float(matrix.abs().max()) / 127
        packed = (matrix / self.step).round().to(torch.int8).reshape(-1, 1)
        self.weight = torch.nn.Parameter(packed, requires_grad=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear(input, self.weight.view(self.out_features, self.in_features).float() * self.step)


@pytest.fixture
def quantised() -> TransformersModel:
    """A tiny model, of which every MLP is quantised."""
    module = tiny_module()
    for layer in module.model.layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(layer.mlp, name, PackedLinear(getattr(layer.mlp, name)))
    return TransformersModel(module, EmbeddedEncoding(), "quantised")


@pytest.mark.parametrize("form", STACKED.values(), ids=STACKED)
def test_quantised_layers_are_trained_beside_and_left_alone_when_the_others_are_merged(
    quantised: TransformersModel, form: LoraSettings
) -> None:
    before, base = base_of(quantised), logits_of(quantised.module)
    stack = trained_on(quantised, form)
    packed = quantised.module.model.layers[0].mlp.up_proj
    with stack.active():
        beside = logits_of(quantised.module)
    with stack.merged():
        merged = logits_of(quantised.module)
        assert packed.weight.data_ptr() == before[1]["model.layers.0.mlp.up_proj.weight"]

    assert torch.allclose(merged, beside, atol=1e-3)
    assert not torch.allclose(merged, base, atol=1e-1)
    assert_is_base(quantised, before)


def test_quantised_weights_are_not_trained_whole(quantised: TransformersModel) -> None:
    with pytest.raises(AdapterRefused, match="quantised"):
        adaptation_of(quantised, FORMS["full"])
