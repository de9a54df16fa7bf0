"""What the last layer says of the places that are asked for is what it says of them among all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer

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
from ttt_engine import training as loop
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.last_layer import last_layer_at
from ttt_engine.training import TrainingJob, TrainingRun, train_many

IDS = torch.tensor([[7, 1, 4, 9, 2, 6], [3, 3, 8, 5, 1, 2], [2, 9, 9, 4, 4, 7]])
WANTED = torch.tensor([[0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]]).bool()  # 3, 1 and 2 places


FORMS = {
    "lora": LoraSettings(4, 8.0),
    "output head": LoraSettings(4, 8.0, output_head=True),
    "frozen A": LoraSettings(4, 8.0, frozen_a=True),
    "top layer": LoraSettings(4, 8.0, top_layers=1),
    "full": LoraSettings(method="full"),
}
MODULES: dict[str, Callable[[Path], Any]] = {
    "embedded": lambda folder: tiny_model().module,
    "llama": lambda folder: load_model(str(save_tiny_llama(folder)), device="cpu").module,
    "mistral": lambda folder: load_model(str(save_tiny_mistral(folder, sliding_window=4)), device="cpu").module,
    "qwen2": lambda folder: load_model(str(save_tiny_qwen2(folder)), device="cpu").module,
    "qwen3": lambda folder: load_model(str(save_tiny_qwen(folder)), device="cpu").module,
}


@pytest.fixture(params=sorted(MODULES))
def module(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    torch.manual_seed(0)
    return MODULES[request.param](tmp_path).eval()


@pytest.fixture(autouse=True)
def _the_global_generator_is_as_it_was() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


@contextmanager
def all_places(module: Any, wanted: torch.Tensor) -> Iterator[torch.Tensor]:
    yield wanted


def test_logits_and_gradients_of_the_places_are_those_among_all(module: Any) -> None:
    weights = [weight.requires_grad_() for name, weight in module.named_parameters() if "layers." in name]
    found = []
    for narrowing in (last_layer_at, all_places):
        with narrowing(module, WANTED) as kept:
            logits = module(input_ids=IDS, logits_to_keep=kept, use_cache=False).logits
        found.append((logits, torch.autograd.grad(logits.float().logsumexp(-1).sum(), weights)))
    (narrow, of_narrow), (whole, of_whole) = found

    assert narrow.shape == whole.shape == (6, module.config.vocab_size)
    assert torch.allclose(narrow, whole, atol=1e-4)
    assert all(torch.allclose(*both, rtol=1e-3, atol=1e-4) for both in zip(of_narrow, of_whole, strict=True))


def test_the_last_mlp_reads_no_more_than_the_most_places_of_a_row(module: Any) -> None:
    read: list[tuple[int, ...]] = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, given: read.append(tuple(given[0].shape[:2])))
        for layer in module.model.layers
    ]
    with last_layer_at(module, WANTED) as kept:
        module(input_ids=IDS, logits_to_keep=kept, use_cache=False)
    for hook in hooks:
        hook.remove()

    assert read == [(3, 6)] * (len(module.model.layers) - 1) + [(3, 3)]
    assert kept.tolist() == [[True, True, True], [True, False, False], [True, True, False]]


def test_the_layer_is_as_it_was_afterwards_and_after_a_fault(module: Any) -> None:
    layer = module.model.layers[-1]
    for fault in (False, True):
        try:
            with last_layer_at(module, WANTED):
                if fault:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass

        assert "forward" not in vars(layer)
        assert not layer.self_attn.o_proj._forward_pre_hooks


def test_a_layer_that_is_not_known_is_left_alone() -> None:
    unknown: Any = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2))
    with last_layer_at(unknown, WANTED) as kept:
        assert kept is WANTED


@pytest.mark.parametrize("of_attention", [True, False])
@pytest.mark.parametrize("on_the_class", [True, False])
def test_a_layer_with_a_forward_of_somebody_else_s_is_left_alone(
    of_attention: bool, on_the_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = tiny_model().module
    layer = module.model.layers[-1]
    given = layer.self_attn if of_attention else layer
    original = type(given).forward
    if on_the_class:
        monkeypatch.setattr(
            LlamaAttention if of_attention else LlamaDecoderLayer, "forward", lambda *a, **named: original(*a, **named)
        )
    else:
        given.forward = given.forward
    with last_layer_at(module, WANTED) as kept:
        assert kept is WANTED
    assert ("forward" in vars(given)) == (not on_the_class)


def test_the_last_layer_is_the_last_that_is_computed() -> None:
    module: Any = tiny_model().module
    module.config.num_hidden_layers = 1
    whole = module(input_ids=IDS, logits_to_keep=WANTED, use_cache=False).logits
    with last_layer_at(module, WANTED) as kept:
        assert torch.allclose(module(input_ids=IDS, logits_to_keep=kept, use_cache=False).logits, whole, atol=1e-4)


@pytest.mark.parametrize("lora", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("takes_mask", [True, False])
def test_training_goes_as_it_goes_with_all_places(
    lora: LoraSettings, takes_mask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_takes_mask", lambda module: takes_mask)

    def trained(model: TransformersModel) -> list[TrainingRun]:
        jobs = [TrainingJob(task, TrainingSettings(3), seed) for seed, task in enumerate((CONSTANT_TASK, ROW_TASK))]
        runs = [run for run in train_many(model, lora, jobs, pass_tokens=100_000) if isinstance(run, TrainingRun)]
        assert len(runs) == len(jobs)
        return runs

    narrow = trained(tiny_model())
    monkeypatch.setattr(loop, "last_layer_at", all_places)

    for run, expected in zip(narrow, trained(tiny_model()), strict=True):
        assert run.losses == pytest.approx(expected.losses, rel=1e-4)
        for name, tensor in run.tensors.items():
            assert float((tensor - expected.tensors[name]).norm()) <= 1e-4 * float(expected.tensors[name].norm())
