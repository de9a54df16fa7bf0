from __future__ import annotations

import pytest

from icl_engine.transformers_model import TransformersModel
from tests.models import taught_model, tiny_model


@pytest.fixture(scope="session")
def taught() -> TransformersModel:
    """Knows a few tasks by heart; to be asked, never changed."""
    return taught_model()


@pytest.fixture(scope="session")
def tiny() -> TransformersModel:
    """Random weights; to be asked, never changed."""
    return tiny_model()
