"""A LoRA comes and goes; the base stays what it was, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load

from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.transformers_model import TransformersModel
from tests.models import CONSTANT, CONSTANT_TASK, ROW_TASK, TEXT_TASK, tiny_model, tiny_module
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import TttEngine
from ttt_engine.errors import AdapterRefused
from ttt_engine.export import export_adapter
from ttt_engine.lora import LoraStack, in_top_layers
from ttt_engine.stores import MemoryAdapterStore
from ttt_engine.training import TrainingJob, train

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def stack(model: TransformersModel, lora: LoraSettings) -> LoraStack:
    return LoraStack(model, lora)


@pytest.fixture
def trained(stack: LoraStack, training: TrainingSettings) -> LoraStack:
    stack.fill(train(stack.model, stack.settings, TrainingJob(CONSTANT_TASK, training, 0)).tensors)
    return stack


def on(stack: LoraStack, *, merged: bool) -> AbstractContextManager[None]:
    return stack.merged() if merged else stack.active()


def base_weights(model: TransformersModel) -> Tensors:
    """Copies of the base model's own weights, under their own names."""
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(some: Tensors, others: Tensors) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def logits_of(module: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = module(input_ids=torch.tensor([EmbeddedEncoding().encode(CONSTANT_TASK).ids])).logits
    return logits


# The base


def test_putting_a_lora_on_changes_no_answer(model: TransformersModel, lora: LoraSettings) -> None:
    before, weights, n_parameters = logits_of(model.module), base_weights(model), model.n_parameters
    stack = LoraStack(model, lora)
    stack.reset(0)
    with stack.active():
        assert torch.equal(logits_of(model.module), before)

    assert torch.equal(logits_of(model.module), before)
    assert same(base_weights(model), weights)
    assert model.n_parameters == n_parameters


def test_the_base_is_the_same_to_the_bit_after_training_and_answering(
    stack: LoraStack, training: TrainingSettings
) -> None:
    model = stack.model
    before, logits = base_weights(model), logits_of(model.module)
    for task, seed in ((CONSTANT_TASK, 0), (TEXT_TASK, 1)):
        stack.fill(train(model, stack.settings, TrainingJob(task, training, seed)).tensors)
        for merged in (True, False):
            with on(stack, merged=merged):
                model.generate([task])

    assert same(base_weights(model), before)
    assert torch.equal(logits_of(model.module), logits)
    assert same(before, base_weights(tiny_model()))


@pytest.mark.parametrize("merged", [True, False])
def test_the_base_is_back_after_a_fault_while_the_adapter_was_on(trained: LoraStack, merged: bool) -> None:
    def fail_while_on() -> None:
        with on(trained, merged=merged):
            assert not torch.equal(logits_of(trained.model.module), logits)
            raise ZeroDivisionError

    before, logits = base_weights(trained.model), logits_of(trained.model.module)

    with pytest.raises(ZeroDivisionError):
        fail_while_on()

    assert same(base_weights(trained.model), before)
    assert torch.equal(logits_of(trained.model.module), logits)
    assert not any(parameter.requires_grad for parameter in trained.model.module.parameters())


def test_merging_does_not_copy_the_base_back_but_puts_the_very_tensors_back(trained: LoraStack) -> None:
    before = {name: parameter.data_ptr() for name, parameter in trained.model.module.named_parameters()}
    with trained.merged():
        pass

    assert {name: parameter.data_ptr() for name, parameter in trained.model.module.named_parameters()} == before


# The adapter


def test_merged_or_not_the_model_says_the_same(trained: LoraStack) -> None:
    base = logits_of(trained.model.module)
    with trained.merged():
        merged = logits_of(trained.model.module)
        (answer,) = trained.model.generate([CONSTANT_TASK])
    with trained.active():
        beside = logits_of(trained.model.module)
        (same_answer,) = trained.model.generate([CONSTANT_TASK])

    assert torch.allclose(merged, beside, atol=1e-4)
    assert not torch.allclose(merged, base, atol=1e-1)
    assert answer.value == same_answer.value == CONSTANT


def test_what_is_read_out_and_filled_in_again_answers_alike(trained: LoraStack) -> None:
    with trained.active():
        before = logits_of(trained.model.module)
    tensors = trained.tensors()
    trained.reset(1)
    trained.fill(tensors)
    with trained.active():
        after = logits_of(trained.model.module)

    assert torch.equal(before, after)
    assert same(trained.tensors(), tensors)


def test_every_matrix_of_attention_and_mlp_is_adapted_and_the_head_is_not(stack: LoraStack) -> None:
    tensors = stack.tensors()
    n_layers = stack.model.module.config.num_hidden_layers

    assert len(tensors) == 2 * 7 * n_layers
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert not any("lm_head" in name or "embed" in name for name in tensors)


def test_stacks_of_other_settings_live_side_by_side(trained: LoraStack) -> None:
    model = trained.model
    with trained.active():
        before = logits_of(model.module)
    base = logits_of(model.module)
    others = [LoraStack(model, LoraSettings(2, 4.0)), LoraStack(model, LoraSettings(4, 8.0, ("q_proj", "v_proj")))]
    for other in others:
        other.fill(train(model, other.settings, TrainingJob(ROW_TASK, TrainingSettings(2, 2), 0)).tensors)
    with trained.active():
        after = logits_of(model.module)

    assert torch.equal(before, after)
    assert torch.equal(logits_of(model.module), base)
    assert [len(other.tensors()) for other in others] == [28, 8]
    assert {tensor.shape[0] for name, tensor in others[0].tensors().items() if "lora_A" in name} == {2}


def test_a_model_without_the_named_layers_is_refused(model: TransformersModel) -> None:
    with pytest.raises(AdapterRefused, match="query_key_value"):
        LoraStack(model, LoraSettings(target_modules=("query_key_value",)))
    with pytest.raises(AdapterRefused, match=r"query_key_value.* top_layers=1 leaves\. Name others, or leave more"):
        LoraStack(model, LoraSettings(target_modules=("query_key_value",), top_layers=1, output_head=True))


def test_only_the_top_layers_are_adapted_and_no_gradient_goes_further_down(
    model: TransformersModel, lora: LoraSettings
) -> None:
    stack = LoraStack(model, replace(lora, top_layers=1))
    first, second = model.module.model.layers
    needs_gradient = []
    hooks = [
        layer.register_forward_hook(lambda module, given, output: needs_gradient.append(output.requires_grad))
        for layer in (first, second)
    ]
    with stack.training():
        logits = model.module(input_ids=torch.tensor([EmbeddedEncoding().encode(CONSTANT_TASK).ids])).logits
    for hook in hooks:
        hook.remove()

    assert {name.split("layers.")[1][0] for name in stack.tensors()} == {"1"}
    assert len(stack.tensors()) == 2 * 7
    assert needs_gradient == [False, True]
    assert logits.requires_grad


def test_as_many_top_layers_as_there_are_is_all_of_them(model: TransformersModel, lora: LoraSettings) -> None:
    job = TrainingJob(CONSTANT_TASK, TrainingSettings(3), 0)

    for more in (2, 3):
        top = train(model, replace(lora, top_layers=more), job)
        assert same(dict(top.tensors), dict(train(model, lora, job).tensors))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.layers.9.up", "model.layers.10.up", "lm_head", "connector"], {"model.layers.10.up"}),
        (["h.0.mlp.experts.7.w", "h.1.mlp.experts.0.w"], {"h.1.mlp.experts.0.w"}),
        (["tower.layers.5.q", "model.layers.1.q", "model.layers.0.q"], {"tower.layers.5.q", "model.layers.1.q"}),
    ],
)
def test_top_layers_are_the_last_of_each_stack(names: list[str], expected: set[str]) -> None:
    assert in_top_layers(names, 1) == expected


# Several slots


@pytest.mark.parametrize("slots", [[0, 1, 2], [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2], [1], [0, 2, 2], [2, 2]])
@pytest.mark.parametrize("trained", [False, True])
def test_every_row_is_answered_with_the_adapter_of_its_own_slot(
    model: TransformersModel, slots: list[int], trained: bool
) -> None:
    stack, alone = LoraStack(model, LoraSettings(4, 8.0), 3), LoraStack(model, LoraSettings(4, 8.0))
    for slot in range(3):
        stack.fill(noise(alone, seed=slot), slot)
    ids = torch.tensor([EmbeddedEncoding().encode(CONSTANT_TASK).ids]).expand(len(slots), -1)
    stack.use(slots)
    with stack.training() if trained else stack.active():
        together = model.module(input_ids=ids).logits.detach()
    for row, slot in enumerate(slots):
        alone.fill(stack.tensors(slot))
        with alone.active():
            expected = logits_of(model.module)[0]
        assert torch.allclose(together[row], expected, atol=1e-3)

    assert not torch.allclose(logits_of(model.module)[0], together[0], atol=1e-1)


def test_rows_of_a_slot_that_stand_apart_are_refused(model: TransformersModel, lora: LoraSettings) -> None:
    with pytest.raises(ValueError, match="stand together"):
        LoraStack(model, lora, 2).use([0, 1, 0])


def test_filling_and_starting_a_slot_leaves_the_others_alone(model: TransformersModel, lora: LoraSettings) -> None:
    stack = LoraStack(model, lora, 3)
    stack.fill(noise(stack, seed=1), 0)
    before = stack.tensors(0)
    stack.fill(noise(stack, seed=2), 1)
    stack.reset(3, 2)

    assert same(stack.tensors(0), before)
    assert not same(stack.tensors(1), before)


def noise(stack: LoraStack, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) * 0.3 for name, tensor in stack.tensors().items()}


def _renamed(tensors: Tensors) -> Tensors:
    name = sorted(tensors)[0]
    return {**{other: tensor for other, tensor in tensors.items() if other != name}, f"x.{name}": tensors[name]}


def _first_changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    def changed(tensors: Tensors) -> Tensors:
        name = sorted(tensors)[-1]  # the last, so that something was read before it
        return {**tensors, name: change(tensors[name])}

    return changed


def _poisoned(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def poisoned(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[0, 0] = value
        return tensor

    return poisoned


ODD: dict[str, Callable[[Tensors], Tensors]] = {
    "none": lambda tensors: {},
    "one missing": lambda tensors: dict(sorted(tensors.items())[1:]),
    "one more": lambda tensors: {**tensors, "more": torch.zeros(1)},
    "one renamed": _renamed,
    "another shape": _first_changed(lambda tensor: tensor[:, :-1].contiguous()),
    "turned": _first_changed(lambda tensor: tensor.T.contiguous()),
    "another type": _first_changed(lambda tensor: tensor.half()),
    "not a number": _first_changed(_poisoned(float("nan"))),
    "infinite": _first_changed(_poisoned(float("inf"))),
}


@pytest.mark.parametrize("what", sorted(ODD))
def test_an_adapter_that_does_not_fit_is_refused_whole(trained: LoraStack, what: str) -> None:
    before = trained.tensors()
    given = ODD[what]({name: tensor + 1 for name, tensor in before.items()})

    with pytest.raises(AdapterRefused, match="anew"):
        trained.fill(given)

    assert same(trained.tensors(), before)


def test_half_precision_of_the_base_is_kept_and_the_adapter_is_full(lora: LoraSettings) -> None:
    model = TransformersModel(tiny_module().to(torch.bfloat16), EmbeddedEncoding(), "half")  # type: ignore[arg-type]
    stack = LoraStack(model, lora)
    before = base_weights(model)
    run = train(model, lora, TrainingJob(CONSTANT_TASK, TrainingSettings(8, 4, 3e-2), 0))
    stack.fill(run.tensors)
    with stack.merged():
        merged = logits_of(model.module)

    assert run.losses[-1] < run.losses[0]
    assert merged.dtype == torch.bfloat16
    assert all(tensor.dtype == torch.float32 for tensor in stack.tensors().values())
    assert same(base_weights(model), before)


# Abroad


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers an old question
def test_peft_loads_an_exported_adapter_as_one_of_its_own(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, tmp_path: Path
) -> None:
    engine = TttEngine(model, MemoryAdapterStore(), lora)
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    stack = LoraStack(model, lora)
    stack.fill(load(bytes(adapter.weights)))
    with stack.active():
        ours = logits_of(model.module)

    with torch.random.fork_rng(devices=[]):
        theirs = PeftModel.from_pretrained(tiny_module(), export_adapter(adapter, tmp_path / "exported"))

    assert torch.allclose(logits_of(theirs), ours, atol=1e-5)
    assert json.loads((tmp_path / "exported" / "adapter_config.json").read_text())["r"] == lora.rank
