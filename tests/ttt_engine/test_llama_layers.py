"""Layers of a Llama that are written out compute what transformers' do, and leave to it what they are not made for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaMLP

from icl_engine.inference_settings import Precision
from icl_engine.language_model import load_model
from icl_engine.transformers_model import TransformersModel
from tests.models import (
    CONSTANT_TASK,
    ROW_TASK,
    save_tiny_llama,
    save_tiny_mistral,
    save_tiny_qwen,
    save_tiny_qwen2,
    tiny_model,
)
from ttt_engine import llama_layers
from ttt_engine.adaptation import adaptation_of
from ttt_engine.attention import n_kept
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.last_layer import last_layer_at
from ttt_engine.llama_layers import LlamaLayers
from ttt_engine.lora import LoraStack
from ttt_engine.precision import computing_in
from ttt_engine.training import ComputedAt, TrainingJob, TrainingRun, losses_of, train, train_many

FORMS = {
    "lora": LoraSettings(4, 8.0),
    "some matrices": LoraSettings(4, 8.0, target_modules=("q_proj", "v_proj", "up_proj")),
    "attention's output and the mlp's": LoraSettings(4, 8.0, target_modules=("o_proj", "down_proj")),
    "output head": LoraSettings(4, 8.0, output_head=True),
    "frozen A": LoraSettings(4, 8.0, frozen_a=True),
    "top layer": LoraSettings(4, 8.0, top_layers=1),
    "task token": LoraSettings(4, 8.0, task_token=True),
    "task token alone": LoraSettings(0, 8.0, task_token=True),
}
N_ROWS, N_TOKENS = 4, 11
SLOTS = (0, 0, 2, 2)  # of four: one that is not at work between them, as after a task that is done
ROUNDING = 0.05  # of bfloat16 in the gradient of one matrix, relative, in the norm


@pytest.fixture(params=["embedded", "llama"])
def llama(request: pytest.FixtureRequest, tmp_path: Path) -> TransformersModel:
    """The second with two heads to each key and value, of a width that no head would have by default."""
    if request.param == "embedded":
        found: Any = tiny_model()
    else:
        saved = save_tiny_llama(tmp_path, num_attention_heads=4, num_key_value_heads=2, head_dim=12)
        found = load_model(str(saved), device="cpu", dtype="float32")
    assert isinstance(found, TransformersModel)
    drawn = torch.Generator().manual_seed(0)
    for name, weight in found.module.named_parameters():
        if "norm" in name:
            weight.data.uniform_(0.5, 1.5, generator=drawn)
    return found


def _stack(model: TransformersModel, lora: LoraSettings) -> LoraStack:
    """Four slots with updates of their own."""
    stack = LoraStack(model, lora, 4)
    stack.weights.normal_(0.0, 0.05, generator=torch.Generator().manual_seed(0))
    for slot in range(4):
        if lora.frozen_a:
            stack.reset(slot, slot)  # draws A, and makes B zero
            stack.weights[slot].normal_(0.0, 0.05, generator=torch.Generator().manual_seed(slot))
    return stack


def _logits_and_gradients(
    model: TransformersModel, stack: LoraStack, computed_at: ComputedAt, precision: Precision = "full"
) -> tuple[torch.Tensor, torch.Tensor]:
    stack.use(SLOTS)
    with stack.training():
        with computing_in(precision, model.device, attending=False):
            logits = _logits(model, computed_at).float()
        return logits.detach(), stack.gradients(_unlike(logits))


def _logits(model: TransformersModel, computed_at: ComputedAt) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(1)
    ids = torch.randint(1, model.module.config.vocab_size - 1, (N_ROWS, N_TOKENS), generator=drawn)
    with computed_at(torch.rand(N_ROWS, N_TOKENS, generator=drawn) > 0.6) as kept:
        logits: torch.Tensor = model.module(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            position_ids=model.encoding.positions(ids, torch.ones_like(ids)),
            use_cache=False,
            logits_to_keep=kept,
        ).logits
    return logits


def _apart(found: torch.Tensor, known: torch.Tensor) -> float:
    return float((found - known).norm() / known.norm())


def _unlike(logits: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient is another at every place."""
    return (logits * torch.linspace(-1.0, 1.0, logits.numel()).view_as(logits)).logsumexp(-1).sum()


@pytest.mark.parametrize("n_queries", [4, 5, 192])  # in a block: several, with and without a rest, and one
@pytest.mark.parametrize("lora", FORMS.values(), ids=FORMS)
def test_logits_and_gradients_are_those_of_transformers(
    llama: TransformersModel, lora: LoraSettings, n_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_layers, "_QUERIES", n_queries)
    stack = _stack(llama, lora)
    written_out = LlamaLayers(llama, stack, torch.float32)
    logits, gradients = _logits_and_gradients(llama, stack, written_out.at)
    known, of_known = _logits_and_gradients(llama, stack, functools.partial(last_layer_at, llama.module))

    assert _apart(logits, known) < 1e-5
    for slot in {*SLOTS}:
        assert _apart(gradients[slot], of_known[slot]) < 1e-5
    assert not gradients[[1, 3]].any()


@pytest.mark.parametrize("n_queries", [4, 192])
@pytest.mark.parametrize("lora", FORMS.values(), ids=FORMS)
def test_in_bfloat16_each_matrix_has_its_gradient_but_for_the_rounding(
    llama: TransformersModel, lora: LoraSettings, n_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_layers, "_QUERIES", n_queries)
    for weight in llama.module.parameters():
        weight.data.mul_(0.3 if weight.dim() == 2 else 1.0)  # less sharp, so that rounding does not choose
    stack = _stack(llama, lora)
    written_out = LlamaLayers.of(llama, stack, "bf16")
    assert written_out is not None
    _, gradients = _logits_and_gradients(llama, stack, written_out.at, "bf16")
    _, of_known = _logits_and_gradients(llama, stack, functools.partial(last_layer_at, llama.module))

    sizes = [matrix[0].numel() for matrix in stack.parameters()]
    for slot in {*SLOTS}:
        for found, known in zip(gradients[slot].split(sizes), of_known[slot].split(sizes), strict=True):
            assert _apart(found, known) < ROUNDING


def test_a_slot_learns_of_its_own_rows_alone(llama: TransformersModel) -> None:
    stack = _stack(llama, FORMS["lora"])
    stack.use(SLOTS)
    written_out = LlamaLayers(llama, stack, torch.float32)
    assert written_out.take(N_ROWS, N_TOKENS)
    with stack.training():
        ids = torch.arange(1, 1 + N_ROWS * N_TOKENS).view(N_ROWS, N_TOKENS)
        with written_out.at(torch.ones_like(ids, dtype=torch.bool)):
            positions = llama.encoding.positions(ids, torch.ones_like(ids))
            logits = llama.module(input_ids=ids, position_ids=positions, use_cache=False).logits
        gradients = stack.gradients(_unlike(logits[:2]))

    assert gradients[0].any()
    assert not gradients[1:].any()


def test_what_comes_later_changes_nothing(llama: TransformersModel) -> None:
    written_out = LlamaLayers(llama, _stack(llama, FORMS["lora"]))
    ids = torch.arange(1, 1 + N_TOKENS)[None]
    other = torch.cat([ids[:, :7], ids[:, 7:].flip(1)], dim=1)
    said = []
    for each in (ids, other):
        wanted = torch.ones_like(each, dtype=torch.bool)
        with torch.no_grad(), computing_in("bf16", ids.device, attending=False), written_out.at(wanted):
            positions = torch.arange(N_TOKENS).expand(llama.encoding.positions(ids, torch.ones_like(ids)).shape)
            said.append(llama.module(input_ids=each, position_ids=positions, use_cache=False).logits)

    assert torch.equal(said[0][:, :7], said[1][:, :7])
    assert not torch.equal(said[0][:, 7:], said[1][:, 7:])


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of the passes whose layers were written out."""
    found: list[int] = []
    real = LlamaLayers._computed

    def noted(self: LlamaLayers, ids: torch.Tensor, *given: Any) -> torch.Tensor:
        found.append(len(ids))
        return real(self, ids, *given)

    monkeypatch.setattr(LlamaLayers, "_computed", noted)
    return found


@pytest.mark.parametrize("lora", FORMS.values(), ids=FORMS)
def test_training_in_bfloat16_goes_as_it_goes_in_full_precision(
    llama: TransformersModel, lora: LoraSettings, computed: list[int]
) -> None:
    losses: dict[Precision, list[float]] = {}
    for precision in ("full", "bf16"):
        training = TrainingSettings(3, batch_size=2, learning_rate=1e-3, precision=precision)
        jobs = [TrainingJob(task, training, seed) for seed, task in enumerate((CONSTANT_TASK, ROW_TASK))]
        runs = [run for run in train_many(llama, lora, jobs, pass_tokens=100_000) if isinstance(run, TrainingRun)]
        assert len(runs) == len(jobs)
        losses[precision] = [loss for run in runs for loss in run.losses]

    assert sum(computed) == 2 * 2 * 3  # two rows of each of two tasks in each step, in one pass or in one each
    assert losses["bf16"] == pytest.approx(losses["full"], rel=0.03)


def test_what_is_trained_so_is_learned(model: TransformersModel, lora: LoraSettings, computed: list[int]) -> None:
    settings = TrainingSettings(20, batch_size=2, learning_rate=3e-2)
    known, run = (
        train(model, lora, TrainingJob(CONSTANT_TASK, replace(settings, precision=precision), 0))
        for precision in get_args(Precision)
    )

    assert len(computed) == 20
    assert run.losses == pytest.approx(known.losses, rel=0.05)
    assert known.losses[-1] < 0.3 * known.losses[0]


@pytest.mark.parametrize("top_layers", [1, None])
def test_what_layers_below_say_of_a_sequence_that_comes_again_is_kept(
    llama: TransformersModel, top_layers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    below: list[int] = []
    real = LlamaLayers._through

    def noted(self: LlamaLayers, layers: Any, states: torch.Tensor, *given: Any) -> torch.Tensor:
        if len(given) == 1 and layers:  # not to the last layer's places
            below.append(len(states))
        return real(self, layers, states, *given)

    monkeypatch.setattr(LlamaLayers, "_through", noted)
    lora = LoraSettings(4, 8.0, top_layers=top_layers)
    settings = TrainingSettings(6, batch_size=2, learning_rate=1e-2, precision="bf16", max_sequences=5)
    jobs = [TrainingJob(task, settings, seed) for seed, task in enumerate((CONSTANT_TASK, CONSTANT_TASK, ROW_TASK))]
    found = train_many(llama, lora, jobs, pass_tokens=100_000)
    n_below = sum(below)
    below.clear()
    monkeypatch.setattr(LlamaLayers, "_below", functools.partialmethod(_as_it_is, LlamaLayers._below))
    known = train_many(llama, lora, jobs, pass_tokens=100_000)

    assert not below  # in one go where nothing comes again
    assert 0 < n_below <= 3 * 5 if top_layers else n_below == 0
    for run, other in zip(found, known, strict=True):
        assert isinstance(run, TrainingRun)
        assert isinstance(other, TrainingRun)
        assert run.losses == pytest.approx(other.losses, rel=1e-3)


def _as_it_is(self: LlamaLayers, real: Any, ids: torch.Tensor, position_ids: torch.Tensor, recurring: Any) -> Any:
    return real(self, ids, position_ids, ())


@pytest.fixture
def kept_below(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is kept of recurring sequences after each pass."""
    found: list[int] = []
    real = LlamaLayers._below

    def noted(self: LlamaLayers, *given: Any) -> tuple[torch.Tensor, int]:
        below = real(self, *given)
        found.append(self.n_kept)
        return below

    monkeypatch.setattr(LlamaLayers, "_below", noted)
    return found


def test_no_more_is_kept_of_recurring_sequences_than_there_is_room_for(
    model: TransformersModel, kept_below: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainingSettings(8, batch_size=2, learning_rate=1e-2, precision="bf16", max_sequences=8)
    job = TrainingJob(CONSTANT_TASK, settings, 0)
    known = train(model, LoraSettings(4, 8.0, top_layers=1), job)
    most, of_a_pass = max(kept_below), kept_below[0]
    kept_below.clear()
    monkeypatch.setattr(llama_layers, "_MOST_STATES", most // 3)
    run = train(model, LoraSettings(4, 8.0, top_layers=1), job)

    assert 0 < max(kept_below) < most // 3 + 2 * of_a_pass < most
    assert run.losses == pytest.approx(known.losses, rel=1e-3)


def test_nothing_is_kept_of_a_task_that_is_done(model: TransformersModel, kept_below: list[int]) -> None:
    settings = TrainingSettings(4, batch_size=2, learning_rate=1e-2, precision="bf16", max_sequences=2)
    jobs = [TrainingJob(CONSTANT_TASK, settings, seed) for seed in range(3)]
    train_many(model, LoraSettings(4, 8.0, top_layers=1), jobs, pass_tokens=1)  # one after the other

    width = model.module.config.hidden_size
    longest = max(len(model.encode(CONSTANT_TASK, ((0, 0),)).ids) for _ in jobs) + 4
    assert len(kept_below) == 3 * 4
    assert 0 < max(kept_below) <= 2 * longest * width


@pytest.mark.parametrize(
    ("lora", "max_sequences"),
    [
        (LoraSettings(4, 8.0, top_layers=1), None),
        (LoraSettings(4, 8.0, top_layers=1), 8),  # as many as are learned
        (LoraSettings(4, 8.0, top_layers=1, task_token=True), 2),
        (LoraSettings(4, 8.0), 2),
    ],
    ids=["each drawn anew", "none again", "a task token below", "all layers"],
)
def test_nothing_is_kept_where_nothing_would_be_spared_or_something_changes(
    model: TransformersModel, kept_below: list[int], lora: LoraSettings, max_sequences: int | None
) -> None:
    settings = TrainingSettings(4, batch_size=2, learning_rate=1e-2, precision="bf16", max_sequences=max_sequences)
    run = train(model, lora, TrainingJob(CONSTANT_TASK, settings, 0))
    known = train(model, lora, TrainingJob(CONSTANT_TASK, replace(settings, precision="full"), 0))

    assert kept_below == [0] * 4
    assert run.losses == pytest.approx(known.losses, rel=0.03)


def test_a_pass_whose_probabilities_are_too_many_to_keep_is_transformers_own(
    model: TransformersModel, lora: LoraSettings, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainingJob(CONSTANT_TASK, TrainingSettings(2, batch_size=2, precision="bf16"), 0)
    longest = len(model.encode(CONSTANT_TASK, ((0, 0),)).ids)
    heads = model.module.config.num_attention_heads
    kept = train(model, lora, job)
    assert computed == [2, 2]
    monkeypatch.setattr(llama_layers, "MOST_KEPT", heads * n_kept(longest) // 2)
    run = train(model, lora, job)

    assert computed == [2, 2]
    assert run.losses == pytest.approx(kept.losses, rel=0.03)


def test_rows_of_slots_that_have_unlike_many_are_transformers_own(model: TransformersModel, lora: LoraSettings) -> None:
    stack = LoraStack(model, lora, 2)
    written_out = LlamaLayers(model, stack)
    stack.use([0, 1, 1])

    assert not written_out.take(3, N_TOKENS)


def test_the_model_is_as_it_was_afterwards_and_after_a_fault(llama: TransformersModel) -> None:
    written_out = LlamaLayers(llama, _stack(llama, FORMS["lora"]))
    before = {name: weight.clone() for name, weight in llama.module.state_dict().items()}
    wanted = torch.ones(1, 3, dtype=torch.bool)
    with written_out.at(wanted):
        pass
    assert "forward" not in vars(llama.module.model)
    with pytest.raises(ZeroDivisionError), written_out.at(wanted):
        raise ZeroDivisionError

    assert "forward" not in vars(llama.module.model)
    assert all(torch.equal(weight, before[name]) for name, weight in llama.module.state_dict().items())


@pytest.mark.parametrize(
    "lora", [LoraSettings(4, 8.0, dropout=0.1), LoraSettings(method="full")], ids=["dropout", "all weights"]
)
def test_forms_that_it_does_not_know_are_transformers_own(model: TransformersModel, lora: LoraSettings) -> None:
    assert LlamaLayers.of(model, adaptation_of(model, lora), "bf16") is None


def test_full_precision_is_transformers_own(model: TransformersModel, lora: LoraSettings) -> None:
    stack = LoraStack(model, lora)

    assert LlamaLayers.of(model, stack, "full") is None
    assert LlamaLayers.of(model, stack, "bf16") is not None


SAVED: dict[str, Callable[[Path], Path]] = {
    "mistral": lambda folder: save_tiny_mistral(folder, sliding_window=4),
    "qwen2": save_tiny_qwen2,
    "qwen3": save_tiny_qwen,
}


@pytest.mark.parametrize("name", SAVED)
def test_other_architectures_are_transformers_own(name: str, tmp_path: Path, lora: LoraSettings) -> None:
    model = load_model(str(SAVED[name](tmp_path)), device="cpu", dtype="float32")
    assert isinstance(model, TransformersModel)

    assert LlamaLayers.of(model, LoraStack(model, lora), "bf16") is None


def _hooked(layer: Any) -> None:
    layer.mlp.register_forward_hook(lambda *given: None)


def _with_a_forward_of_its_own(layer: Any) -> None:
    layer.self_attn.forward = layer.self_attn.forward


def _biased(layer: Any) -> None:
    layer.mlp.up_proj.bias = torch.nn.Parameter(torch.zeros(layer.mlp.up_proj.out_features))


def _with_another_linear_layer(layer: Any) -> None:
    class Other(torch.nn.Linear):
        pass

    layer.mlp.up_proj.__class__ = Other


def _in_half_precision(layer: Any) -> None:
    layer.mlp.half()


def _with_another_gate(layer: Any) -> None:
    layer.mlp.act_fn = torch.nn.GELU()


def _with_a_linear_layer_s_forward_changed(layer: Any) -> None:
    layer.mlp.up_proj.forward = layer.mlp.up_proj.forward


def _with_a_hook_on_gradients(layer: Any) -> None:
    layer.mlp.register_full_backward_hook(lambda *given: None)


def _scaled_otherwise(layer: Any) -> None:
    layer.self_attn.scaling = 0.5


@pytest.mark.parametrize(
    "changed",
    [
        _hooked,
        _with_a_forward_of_its_own,
        _biased,
        _with_another_linear_layer,
        _in_half_precision,
        _with_another_gate,
        _with_a_linear_layer_s_forward_changed,
        _with_a_hook_on_gradients,
        _scaled_otherwise,
    ],
)
def test_a_llama_that_somebody_has_changed_is_transformers_own(
    changed: Callable[[Any], None], model: TransformersModel, lora: LoraSettings
) -> None:
    stack = LoraStack(model, lora)
    assert LlamaLayers.of(model, stack, "bf16") is not None
    changed(model.module.model.layers[-1])

    assert LlamaLayers.of(model, stack, "bf16") is None


@pytest.mark.parametrize(
    "changed",
    [
        lambda module: module.train(),
        lambda module: module.bfloat16(),
        lambda module: module.to("meta"),
        lambda module: setattr(module.config, "is_causal", False),
        lambda module: setattr(module.config, "_attn_implementation", "flex_attention"),
        lambda module: setattr(module.model, "forward", module.model.forward),
        lambda module: module.model.norm.register_forward_hook(lambda *given: None),
    ],
    ids=["in training mode", "weights in bfloat16", "elsewhere", "not causal", "attention", "forward", "norm"],
)
def test_a_model_that_somebody_has_changed_is_transformers_own(
    changed: Callable[[Any], None], model: TransformersModel, lora: LoraSettings
) -> None:
    stack = LoraStack(model, lora)
    changed(model.module)

    assert LlamaLayers.of(model, stack, "bf16") is None


def test_nothing_is_copied_before_a_pass_is_taken(model: TransformersModel, lora: LoraSettings) -> None:
    written_out = LlamaLayers(model, LoraStack(model, lora))
    written_out.take(1, 100_000)

    assert "_layers" not in vars(written_out)


def test_a_class_that_somebody_has_changed_is_transformers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Any = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda *given: original(*given))

    model = tiny_model()

    assert LlamaLayers.of(model, LoraStack(model, LoraSettings(4, 8.0)), "bf16") is None


def test_no_layer_beyond_those_that_are_computed_takes_part(model: TransformersModel) -> None:
    model.module.config.num_hidden_layers = 1
    stack = LoraStack(model, LoraSettings(4, 8.0))
    sequence = model.encode(CONSTANT_TASK, ((0, 0),))
    learned = [(sequence, sequence.outputs)]
    stack.use([0])
    with torch.no_grad():
        found = float(losses_of(model, learned, computed_at=LlamaLayers(model, stack, torch.float32).at))

        assert found == pytest.approx(float(losses_of(model, learned)), rel=1e-5)
