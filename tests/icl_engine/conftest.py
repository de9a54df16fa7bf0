from __future__ import annotations

import pytest
from hypothesis import settings

from icl_engine.transformers_model import TransformersModel
from tests.models import taught_model, tiny_model

# a busy machine is no fault of the code: how long a test may take is pytest's timeout
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def taught() -> TransformersModel:
    """Knows a few tasks by heart; to be asked, never changed."""
    return taught_model()


@pytest.fixture(scope="session")
def tiny() -> TransformersModel:
    """Random weights; to be asked, never changed."""
    return tiny_model()
