"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE_THE_PROJECT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public task sets; without it the tests that need it are skipped."""
    folder = Path(os.environ.get("TTT_ROUTER_DATA") or BESIDE_THE_PROJECT)
    if not folder.is_dir():
        pytest.skip(f"no task sets at {folder}; set TTT_ROUTER_DATA to the folder that holds arc-agi-1, 1d-arc and bbh")
    return folder
