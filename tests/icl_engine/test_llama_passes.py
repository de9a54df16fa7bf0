"""Passes of a Llama that are written out say what transformers' say, and leave to it what they are not made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from icl_engine import llama_passes
from icl_engine.answering import Asked, answer_by_vote, as_search, choose_answer
from icl_engine.augmentations import Augmentation
from icl_engine.inference_settings import InferenceSettings, Precision
from icl_engine.language_model import Generation, load_model
from icl_engine.llama_passes import written_out
from icl_engine.reading import Reading, left_padded
from icl_engine.transformers_model import TransformersModel
from tests.models import (
    ANSWERS,
    GRID_TASK,
    ROW_TASK,
    TASKS,
    save_tiny_llama,
    save_tiny_mistral,
    save_tiny_qwen,
    save_tiny_qwen2,
    tiny_model,
)
from ttt_engine.config import LoraSettings
from ttt_engine.lora import LoraStack

PROMPTS = ((3, 1, 4, 1, 5, 9, 2, 6), (5, 3, 5), (8, 9, 7, 9, 3))
ALIKE = ((3, 1, 4, 1), (5, 3, 5, 8))  # of one length: nothing is padded
BATCHES = {"padded": PROMPTS, "of one length": ALIKE, "one row": ALIKE[:1]}


@pytest.fixture(params=["embedded", "llama", "llama with biases"])
def llama(request: pytest.FixtureRequest, tmp_path: Path) -> TransformersModel:
    """The second and third with two heads to each key and value, of a width that no head would have by default."""
    if request.param == "embedded":
        found: Any = tiny_model(sharpness=3.0)
    else:
        biased = request.param != "llama"
        folder = save_tiny_llama(
            tmp_path, num_attention_heads=4, num_key_value_heads=2, head_dim=12, attention_bias=biased, mlp_bias=biased
        )
        found = load_model(str(folder), device="cpu", dtype="float32")
    assert isinstance(found, TransformersModel)
    drawn = torch.Generator().manual_seed(0)
    for name, weight in found.module.named_parameters():
        if "norm" in name or "bias" in name:
            weight.data.uniform_(0.5, 1.5, generator=drawn)
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what was read by passes that are written out."""
    shapes: list[tuple[int, ...]] = []
    real = llama_passes._Passes.read

    def noted(self: Any, input_ids: torch.Tensor, **given: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return real(self, input_ids, **given)

    monkeypatch.setattr(llama_passes._Passes, "read", noted)
    return shapes


@torch.inference_mode()
def _said(model: TransformersModel, prompts: tuple[tuple[int, ...], ...], places: list[int] | None) -> torch.Tensor:
    """Logits of a prompt at some places, of one token more, of several more, and after taking some back."""
    reading = Reading(model.module, len(prompts), pad_id=model.encoding.pad_id, positions=model.encoding.positions)
    ids, mask = left_padded(prompts, model.encoding.pad_id, model.device)
    said = [reading.read(ids, mask, places)]
    said.append(reading.read_token([7] * len(prompts))[:, None])
    more = torch.arange(1, 1 + 4 * len(prompts)).view(len(prompts), 4)
    said.append(reading.read(more, torch.ones_like(more), [1, 3]))
    reading.forget([i % 3 for i in range(len(prompts))])
    said.append(reading.read_token([4] * len(prompts))[:, None])
    reading.keep([len(prompts) - 1, 0])
    said.append(reading.read_token([2, 6])[:, None])
    shown = [each[torch.cat([mask, torch.ones(len(prompts), 0)], 1).bool()] for each in said[:1] if places is None]
    return torch.cat([each.flatten(0, -2) for each in (shown or said[:1]) + said[1:]])


def _apart(found: torch.Tensor, known: torch.Tensor) -> float:
    return float((found - known).norm() / known.norm())


@pytest.mark.parametrize("places", [None, [-1], [-3, -2, -1]], ids=["all", "the last", "three"])
@pytest.mark.parametrize("prompts", BATCHES.values(), ids=BATCHES)
def test_what_is_read_says_what_transformers_has_it_say(
    llama: TransformersModel,
    prompts: tuple[tuple[int, ...], ...],
    places: list[int] | None,
    read: list[tuple[int, ...]],
) -> None:
    width = max(map(len, prompts))
    places = None if places is None else [width + place for place in places]
    known = _said(llama, prompts, places)
    assert not read
    with written_out(llama.module):
        found = _said(llama, prompts, places)

    assert len(read) == 5
    torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_queries", [3, 192])  # in a block: with a rest, and one
@pytest.mark.parametrize("prompts", BATCHES.values(), ids=BATCHES)
def test_in_bfloat16_it_says_so_but_for_the_rounding(
    tmp_path: Path, prompts: tuple[tuple[int, ...], ...], n_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_passes, "_QUERIES", n_queries)
    folder = save_tiny_llama(tmp_path, num_attention_heads=4, num_key_value_heads=2, head_dim=12)
    for model in (tiny_model(sharpness=3.0), load_model(str(folder), device="cpu", dtype="float32")):
        for places in (None, [max(map(len, prompts)) - 1]):
            known = _said(model, prompts, places)
            with written_out(model.module, "bf16"):
                found = _said(model, prompts, places)

            assert 0.0 < _apart(found, known) < 0.02


@pytest.mark.parametrize("precision", get_args(Precision))
def test_what_pads_a_row_changes_nothing(llama: TransformersModel, precision: Precision) -> None:
    row, longest, shorter = PROMPTS[1], PROMPTS[0], (2, 2, 2, 2, 2)
    said = []
    for others in ((), (shorter,), (longest,)):
        width = max(map(len, (row, *others)))
        with written_out(llama.module, precision):
            said.append(_first(llama, (row, *others), width))

    for other in said[1:]:
        assert _apart(other, said[0]) < (1e-5 if precision == "full" else 0.02)
    with written_out(llama.module, precision):
        assert _apart(_first(llama, ((2, *row),), 1 + len(row)), said[0]) > 0.05  # as if it were read


@torch.inference_mode()
def _first(model: TransformersModel, prompts: tuple[tuple[int, ...], ...], width: int) -> torch.Tensor:
    """Logits at the end of the first prompt, and of a token after it."""
    reading = Reading(model.module, len(prompts), pad_id=model.encoding.pad_id, positions=model.encoding.positions)
    ids, mask = left_padded(prompts, model.encoding.pad_id, model.device)
    ends = reading.read(ids, mask, [width - 1])[0]
    return torch.cat([ends, reading.read_token([7] * len(prompts))[:1]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_half_precision_say_what_they_say_in_transformers(tmp_path: Path, dtype: str) -> None:
    folder = save_tiny_llama(tmp_path, num_attention_heads=4, num_key_value_heads=2, head_dim=12)
    model = load_model(str(folder), device="cpu", dtype=dtype)
    known = _said(model, PROMPTS, [7])
    with written_out(model.module, "bf16"):
        found = _said(model, PROMPTS, [7])

    assert found.dtype == known.dtype == model.module.dtype
    assert _apart(found.float(), known.float()) < 0.02


def test_no_layer_beyond_those_that_are_computed_takes_part() -> None:
    model = tiny_model(sharpness=3.0)
    model.module.config.num_hidden_layers = 1
    known = _said(model, PROMPTS, [7])
    with written_out(model.module):
        torch.testing.assert_close(_said(model, PROMPTS, [7]), known, rtol=1e-4, atol=1e-4)


def test_biases_are_not_left_out_in_bfloat16(tmp_path: Path, read: list[tuple[int, ...]]) -> None:
    folder = save_tiny_llama(tmp_path, attention_bias=True, mlp_bias=True)
    model = load_model(str(folder), device="cpu", dtype="float32")
    for name, weight in model.module.named_parameters():
        if "bias" in name:
            weight.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    known = _said(model, PROMPTS, [7])
    with written_out(model.module, "bf16"):
        assert _apart(_said(model, PROMPTS, [7]), known) < 0.02
    assert read


@pytest.mark.parametrize("precision", get_args(Precision))
def test_answers_scores_and_searches_are_transformers_own(
    precision: Precision, read: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    answered = list(zip(TASKS, ANSWERS, strict=True))

    def asked() -> tuple[Any, ...]:
        said = model.generate([*TASKS, ROW_TASK.replace(queries=(((1, 1),),))], score_demonstrations=True)
        found = model.search(TASKS, cut_off=0.2)
        return said, found, model.score(answered)

    with model.reading_in(precision):
        said, found, scores = asked()
    assert len(read) > 10
    n_read = len(read)
    monkeypatch.setattr("icl_engine.llama_passes.is_llama_around_linears", lambda module: False)
    known_said, known_found, known_scores = asked()

    assert len(read) == n_read
    exact = 1e-3 if precision == "full" else 0.3
    for one, known in zip(said, known_said, strict=True):
        if precision == "full":
            assert one.value == known.value
            assert one.token_log_probabilities == pytest.approx(known.token_log_probabilities, abs=exact)
        assert [each.nll for each in one.demonstrations] == pytest.approx(
            [each.nll for each in known.demonstrations], rel=exact, abs=exact
        )
        assert one.hidden == pytest.approx(known.hidden, abs=exact)
    if precision == "full":
        assert [each.tokens for each in found] == [each.tokens for each in known_found]
    assert [each.nll for each in scores] == pytest.approx([each.nll for each in known_scores], rel=exact)


@pytest.mark.parametrize("lora", [LoraSettings(4, 8.0), LoraSettings(4, 8.0, output_head=True, task_token=True)])
def test_what_is_added_beside_the_weights_counts(lora: LoraSettings, read: list[tuple[int, ...]]) -> None:
    model = tiny_model()
    stack = LoraStack(model, lora, 2)
    stack.weights.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    bare = model.score([(ROW_TASK, ANSWERS[0])])[0].nll
    said = []
    stack.use([0])
    for use in (stack.active, stack.merged):
        with model.lock, use():
            said.append(model.score([(ROW_TASK, ANSWERS[0])])[0].nll)

    assert len(read) == 3
    assert said[0] == pytest.approx(said[1], rel=1e-4)
    assert abs(said[0] - bare) > 0.01


def test_in_bfloat16_nothing_that_is_added_is_left_out(llama: TransformersModel) -> None:
    """Where an adapter is computed beside the weights, the weights' own precision is kept."""
    stack = LoraStack(llama, LoraSettings(4, 8.0))
    stack.weights.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    with llama.lock, stack.active():
        known = llama.score([(GRID_TASK, ANSWERS[1])])
        with llama.reading_in("bf16"):
            assert llama.score([(GRID_TASK, ANSWERS[1])]) == known


def test_an_adapter_in_the_weights_is_read_in_bfloat16_as_they_are_at_the_time() -> None:
    model = tiny_model(sharpness=3.0)
    stack = LoraStack(model, LoraSettings(4, 8.0), 2)
    stack.weights.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    said: dict[tuple[int, Precision], torch.Tensor] = {}
    for slot in (0, 1):
        for precision in get_args(Precision):
            with model.lock, stack.merged(slot), written_out(model.module, precision):
                said[slot, precision] = _said(model, PROMPTS, [7])

    between = _apart(said[0, "full"], said[1, "full"])
    assert all(0.0 < _apart(said[slot, "bf16"], said[slot, "full"]) < between / 4 for slot in (0, 1))


def test_the_model_is_as_it_was_afterwards_and_after_a_fault(llama: TransformersModel) -> None:
    with written_out(llama.module):
        assert "forward" in vars(llama.module)
    assert "forward" not in vars(llama.module)
    with pytest.raises(ZeroDivisionError), written_out(llama.module), llama.reading_in("bf16"):
        raise ZeroDivisionError

    assert "forward" not in vars(llama.module)
    assert llama._precision == "full"


SAVED: dict[str, Callable[[Path], Path]] = {
    "mistral": lambda folder: save_tiny_mistral(folder, sliding_window=4),
    "qwen2": save_tiny_qwen2,
    "qwen3": save_tiny_qwen,
}


@pytest.mark.parametrize("name", SAVED)
def test_other_architectures_are_transformers_own(name: str, tmp_path: Path) -> None:
    model = load_model(str(SAVED[name](tmp_path)), device="cpu", dtype="float32")
    with written_out(model.module, "bf16"):
        assert "forward" not in vars(model.module)


def _hooked(module: Any) -> None:
    module.model.layers[1].mlp.register_forward_hook(lambda *given: None)


def _norm_hooked(module: Any) -> None:
    module.model.norm.register_forward_pre_hook(lambda *given: None)


def _base_hooked(module: Any) -> None:
    module.model.register_forward_hook(lambda *given: None)


def _gate_hooked(module: Any) -> None:
    module.model.layers[0].mlp.act_fn.register_forward_hook(lambda *given: None)


def _with_a_forward_of_its_own(module: Any) -> None:
    module.model.layers[0].self_attn.forward = module.model.layers[0].self_attn.forward


def _with_a_base_s_forward_changed(module: Any) -> None:
    module.model.forward = module.model.forward


def _with_another_forward(module: Any) -> None:
    module.forward = module.forward


def _of_another_class(module: Any) -> None:
    class Other(type(module)):  # type: ignore[misc]
        pass

    module.__class__ = Other


def _with_another_gate(module: Any) -> None:
    module.model.layers[0].mlp.act_fn = torch.nn.GELU()


def _turned_otherwise(module: Any) -> None:
    class Other(torch.nn.Module):
        pass

    module.model.rotary_emb = Other()


def _scaled_otherwise(module: Any) -> None:
    module.model.layers[1].self_attn.scaling = 0.5


def _not_causal(module: Any) -> None:
    module.config.is_causal = False


def _attended_to_otherwise(module: Any) -> None:
    module.config._attn_implementation = "flex_attention"


def _in_training(module: Any) -> None:
    module.train()


@pytest.mark.parametrize(
    "change",
    [
        _hooked,
        _norm_hooked,
        _base_hooked,
        _gate_hooked,
        _with_a_forward_of_its_own,
        _with_a_base_s_forward_changed,
        _with_another_forward,
        _of_another_class,
        _with_another_gate,
        _turned_otherwise,
        _scaled_otherwise,
        _not_causal,
        _attended_to_otherwise,
        _in_training,
    ],
)
def test_a_llama_that_somebody_has_changed_is_left_to_its_modules(
    change: Callable[[Any], None], read: list[tuple[int, ...]]
) -> None:
    module = tiny_model().module
    change(module)
    with written_out(module):
        assert getattr(vars(module).get("forward"), "__func__", None) is not llama_passes._Passes.read


def test_views_are_read_in_the_precision_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Precision] = []
    real = written_out

    def noted(module: Any, precision: Precision) -> Any:
        asked.append(precision)
        return real(module, precision)

    monkeypatch.setattr("icl_engine.transformers_model.written_out", noted)
    model = tiny_model()
    settings = InferenceSettings(n_views=2, vote="scored", views_precision="bf16")
    values = (((1, 2), (3, 4)), ((0, 0), (1, 1)))
    said = tuple(as_search(Generation(value, (-1.0,), 10, ())) for value in values)
    for precision in ("bf16", "full"):
        answer_by_vote(model, GRID_TASK, settings=replace(settings, vote="flat", views_precision=precision))
        assert {*asked} == {precision}
        asked.clear()
        votes = Asked(GRID_TASK.for_query(0), (Augmentation(), Augmentation()), said)
        choose_answer(model, votes, replace(settings, views_precision=precision))
        assert {*asked} == {precision}
        asked.clear()
