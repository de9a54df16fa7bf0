from __future__ import annotations

import pytest
import torch

from icl_engine.transformers_model import TransformersModel
from tests.models import tiny_model
from ttt_engine.config import LoraSettings, TrainingSettings

LORA = LoraSettings(rank=4, alpha=8.0)
TRAINING = TrainingSettings(steps=20, batch_size=4, learning_rate=3e-2)


@pytest.fixture
def model() -> TransformersModel:
    """A tiny model with random weights, a test's own: an adapter is put on it."""
    return tiny_model()


@pytest.fixture
def lora() -> LoraSettings:
    return LORA


@pytest.fixture
def training() -> TrainingSettings:
    """Enough to learn the constant task."""
    return TRAINING


@pytest.fixture(autouse=True)
def _no_draw_from_the_global_generator() -> object:
    """Nothing in this package may draw from torch's global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), before)
