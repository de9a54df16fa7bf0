"""The embedded kind of model is an ordinary transformers model: it saves, loads and generates like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from icl_engine.decoding import decode
from icl_engine.embedded.grid_llama import GridLlamaConfig, GridLlamaForCausalLM
from icl_engine.embedded.pretraining import save_weights
from icl_engine.embedded.vocabulary import END, PAD, VOCABULARY_SIZE
from icl_engine.language_model import load_model
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from tests.models import ANSWERS, TASKS, TEXT_TASK, Anything, taught_model, tiny_module


def logits_of(module: GridLlamaForCausalLM, model: TransformersModel) -> list[torch.Tensor]:
    with torch.no_grad():
        return [module(input_ids=torch.tensor([model.encode(task).ids])).logits for task in TASKS]


def test_saved_and_loaded_it_gives_the_same_logits(tiny: TransformersModel, tmp_path: Path) -> None:
    module = tiny_module()
    module.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)

    assert isinstance(loaded, GridLlamaForCausalLM)
    for before, after in zip(logits_of(module, tiny), logits_of(loaded, tiny), strict=True):
        assert torch.equal(before, after)


def test_shipped_in_half_precision_it_still_answers_as_taught(tmp_path: Path) -> None:
    taught = taught_model()

    loaded = load_model(str(save_weights(taught.module, tmp_path / "model")), device="cpu")

    assert loaded.module.dtype == torch.float32
    assert tuple(answer.value for answer in loaded.generate(TASKS)) == ANSWERS


def test_positions_are_the_model_s_own_where_none_are_given(tiny: TransformersModel) -> None:
    ids = torch.tensor([tiny.encode(TEXT_TASK).ids])
    with torch.no_grad():
        given = tiny.module(input_ids=ids, position_ids=tiny.encoding.positions(ids, torch.ones_like(ids))).logits
        own = tiny.module(input_ids=ids).logits
        flat = tiny.module(input_ids=ids, position_ids=torch.zeros(3, *ids.shape, dtype=torch.long)).logits

    assert torch.equal(given, own)
    assert not torch.allclose(given, flat)


def test_later_tokens_need_positions_because_earlier_ones_are_no_longer_there(tiny: TransformersModel) -> None:
    ids = torch.tensor([tiny.encode(TEXT_TASK).ids])
    with torch.no_grad():
        cache = tiny.module(input_ids=ids, use_cache=True).past_key_values

        with pytest.raises(ValueError, match="position_ids"):
            tiny.module(input_ids=ids[:, -1:], past_key_values=cache)


def test_rotary_pairs_must_fill_a_head() -> None:
    config = GridLlamaConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1, axis_pairs=(2, 3, 4))

    with pytest.raises(ValueError, match="axis_pairs"):
        GridLlamaForCausalLM(config)


@pytest.mark.parametrize("task", TASKS, ids=["row", "grid", "text"])
@pytest.mark.parametrize("seed", [0, 1])
def test_generate_of_transformers_writes_what_our_loop_writes(tiny: TransformersModel, task: Task, seed: int) -> None:
    module = tiny_module(seed).train(False)
    prompt = tiny.encode(task).ids
    ids = torch.tensor([prompt])
    theirs = module.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)

    (ours,), _ = decode(
        module,
        [prompt],
        max_new_tokens=[16],
        end_ids=frozenset({END}),
        pad_id=PAD,
        positions=tiny.encoding.positions,
        constraint=Anything(1, VOCABULARY_SIZE),
    )

    assert list(ours.ids) == [token for token in theirs[0, len(prompt) :].tolist() if token != END]


def test_generate_of_transformers_answers_as_our_engine_where_the_grammar_agrees(taught: TransformersModel) -> None:
    for task, answer in zip(TASKS, ANSWERS, strict=True):
        ids = torch.tensor([taught.encode(task).ids])
        written = taught.module.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        new = written[0, ids.shape[1] :].tolist()

        assert new[-1] == END
        assert taught.encoding.decode(task, new[:-1]) == answer


def test_generate_of_transformers_does_not_mind_padding_on_the_left(taught: TransformersModel) -> None:
    prompt = taught.encode(TEXT_TASK).ids
    ids = torch.tensor([[PAD] * 5 + list(prompt)])
    mask = torch.tensor([[0] * 5 + [1] * len(prompt)])

    new = taught.module.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]

    assert taught.encoding.decode(TEXT_TASK, new.tolist()[:-1]) == ANSWERS[-1]
