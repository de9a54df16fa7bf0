"""The prior that ships is made from frozen outcomes by one command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.gain_models.prior import PRIOR_FEATURES, prior_of
from policies.outcome_files import write_outcomes
from router.cli import main
from tests.router.bench.matrices import known_matrix


def test_a_prior_made_from_outcomes_believes_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = known_matrix(200, 1, seed=3)
    write_outcomes(matrix, tmp_path / "outcomes.csv")

    assert main(["bench", "prior", str(tmp_path / "outcomes.csv"), "--out", str(tmp_path / "prior.json")]) == 0
    prior = prior_of((tmp_path / "prior.json").read_text(encoding="utf-8"), "prior.json")
    believed = prior.model().estimate(
        np.column_stack(
            [matrix.feature(name) if name in matrix.feature_names else np.full(len(matrix), np.nan)
             for name in PRIOR_FEATURES]
        )
    )  # fmt: skip

    np.testing.assert_allclose(believed.p_correct.mean(axis=0), matrix.quality.mean(axis=0), atol=0.1)
    assert matrix.digest[:16] in prior.source
    assert "prior.json" in capsys.readouterr().out
