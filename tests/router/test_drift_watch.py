"""What is named beside a drift alarm is what came in, not what was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np

from router.drift_watch import _shifted
from router.learning_rows import Experience

NAMES = ("answer_nll", "loo_nll_mean", "vote_agreement", "trial_nll")


class Rows(SimpleNamespace):
    """What the watch reads of what is known."""

    def __len__(self) -> int:
        return len(self.rows.features)


def test_a_feature_that_was_not_asked_for_of_every_task_is_no_sign_of_drift() -> None:
    features = np.random.default_rng(0).normal(size=(400, len(NAMES)))
    features[200:, :2] += 5.0  # other tasks come in
    features[200:, 2] = np.nan  # and no votes are asked for any more
    features[::7, 3] = np.nan
    features[200:, 3] += 5.0
    known = Rows(rows=SimpleNamespace(feature_names=NAMES, features=features))

    assert set(_shifted(cast(Experience, known))) == {"answer_nll", "loo_nll_mean"}


def test_a_feature_of_the_probe_that_is_no_longer_known_has_shifted() -> None:
    features = np.random.default_rng(1).normal(size=(400, len(NAMES)))
    features[200:, 0] = np.nan
    known = Rows(rows=SimpleNamespace(feature_names=NAMES, features=features))

    assert set(_shifted(cast(Experience, known))) == {"answer_nll"}
