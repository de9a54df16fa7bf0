"""A variant of the recipe differs from it in what it names, and in nothing else."""

from __future__ import annotations

import pytest

from benchmarks.ablate_pretraining import RECIPE, adamw_of
from icl_engine.embedded.pretraining import optimizers_of
from tests.models import tiny_module


def test_adamw_in_place_of_muon_decays_the_matrices_alone_as_the_recipe_does() -> None:
    model = tiny_module()

    matrices, rest = adamw_of(optimizers_of(model, RECIPE)).param_groups

    assert (matrices["weight_decay"], rest["weight_decay"]) == (RECIPE.weight_decay, 0.0)
    assert matrices["betas"] == rest["betas"] == pytest.approx((0.9, 0.95))
    embedding = model.get_input_embeddings().weight
    assert any(each is embedding for each in rest["params"])
    assert len(matrices["params"]) + len(rest["params"]) == len(list(model.parameters()))
