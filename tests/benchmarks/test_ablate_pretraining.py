"""A variant of the recipe differs from it in what it names, and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from benchmarks.ablate_pretraining import (
    RECIPE,
    VARIANTS,
    Variant,
    adamw_of,
    corpus_of,
    last_output_only,
    plain_positions,
    train,
    turn_as_llama,
)
from icl_engine.embedded import grid_llama, pretraining
from icl_engine.embedded.corpus import Corpus, output_weights, task_ids
from icl_engine.embedded.pretraining import build_model, optimizers_of
from icl_engine.embedded.vocabulary import END
from icl_engine.families import Pair
from tests.models import TINY, tiny_module

PAIRS: list[Pair] = [([[1, 2]], [[2, 1]]), ([[3]], [[4]])]
EXTRA = {"1": [([[1]], [[2]])] * 8}


def test_adamw_in_place_of_muon_decays_the_matrices_alone_as_the_recipe_does() -> None:
    model = tiny_module()

    matrices, rest = adamw_of(optimizers_of(model, RECIPE)).param_groups

    assert (matrices["weight_decay"], rest["weight_decay"]) == (RECIPE.weight_decay, 0.0)
    assert matrices["betas"] == rest["betas"] == pytest.approx((0.9, 0.95))
    embedding = model.get_input_embeddings().weight
    assert any(each is embedding for each in rest["params"])
    assert len(matrices["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_the_loss_may_be_on_the_last_output_of_each_task_alone() -> None:
    ids = [*task_ids(PAIRS), *task_ids(PAIRS[:1])]
    rows = np.array([ids])

    kept = last_output_only(rows, output_weights(rows))[0]

    assert [token for token, weight in zip(ids[1:], kept, strict=True) if weight] == [4, 14, END, 2, 1, 14, END]


def test_plain_positions_turn_as_llama_s_do() -> None:
    config = replace(TINY, axis_pairs=(0, sum(TINY.axis_pairs), 0))
    model = build_model(config)
    turn_as_llama(model)
    place = torch.arange(7)
    positions = torch.stack((0 * place, place, 0 * place))[:, None]
    llama = LlamaRotaryEmbedding(LlamaConfig(hidden_size=config.hidden_size, num_attention_heads=config.heads))

    known = llama(torch.zeros(1), place[None])
    for found, of_llama in zip(model.model.rotary_emb(torch.zeros(1), positions), known, strict=True):
        torch.testing.assert_close(found, of_llama)


def test_plain_positions_are_places_in_the_task() -> None:
    ids = torch.tensor([[*task_ids(PAIRS), *task_ids(PAIRS[:1])]])
    first, second = len(task_ids(PAIRS)), len(task_ids(PAIRS[:1]))

    assert plain_positions(ids).tolist() == [[[*range(first), *range(second)]]] * 3


def test_families_and_pairs_may_be_left_out() -> None:
    whole = corpus_of(Variant("the recipe"), EXTRA)
    half = corpus_of(Variant("half", all_grid_families=False), EXTRA)

    assert whole == Corpus.of(extra=EXTRA)
    assert half.families["grid"] == whole.families["grid"][::2]
    assert {**half.families, "grid": ()} == {**whole.families, "grid": ()}
    assert corpus_of(Variant("none", extra=False), EXTRA).extra == {}


def test_variants_have_names_of_their_own_and_differ_from_the_recipe() -> None:
    recipe, *others = VARIANTS

    assert recipe == Variant(recipe.name)
    assert len({each.name for each in VARIANTS}) == len(VARIANTS)
    assert all(each != Variant(each.name) for each in others)


def test_a_variant_leaves_the_recipe_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(pretraining, "N_VALIDATION_TASKS", 1)
    before = vars(pretraining)["positions_of"], vars(grid_llama)["positions_of"]

    n_tokens, nats, right = train(Variant("plain", TINY, grid_positions=False), EXTRA, minutes=0.01)

    assert n_tokens > 0
    assert nats > 0
    assert set(right) == {"row", "grid", "text"}
    assert (vars(pretraining)["positions_of"], vars(grid_llama)["positions_of"]) == before
