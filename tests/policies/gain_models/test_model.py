"""What a fitted model says of a task hangs together: bounds, sums of contributions, and tasks like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.gain_models import LearnedGainModel, nearest
from policies.gain_models.scaling import Scaler
from tests.policies.gain_models.matrices import ARMS, drawn
from tests.policies.gain_models.priors import fitted, two_signals

N_FEATURES = 6
DRAWN = drawn(1_200, missing=0.05)
MODELS = {
    "prior": two_signals().model(ARMS),
    "logistic": fitted("logistic", DRAWN.matrix),
    "trees": fitted("trees", DRAWN.matrix),
}
# half from their own heads, half as a difference
MODELS["mixed"] = replace(MODELS["logistic"], direct_weight=np.full(3, 0.5))

numbers = st.floats(-1e6, 1e6) | st.floats(-2.0, 2.0) | st.just(np.nan)
rows_of_features = arrays(np.float64, (3, N_FEATURES), elements=numbers)


def rows_for(model: LearnedGainModel, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rows[:, : len(model.feature_names)]


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=30, deadline=None)
@given(rows=rows_of_features)
def test_estimates_are_chances_and_gains_within_bounds(kind: str, rows: npt.NDArray[np.float64]) -> None:
    model = MODELS[kind]

    said = model.estimate(rows_for(model, rows))

    assert said.p_correct.shape == said.gain.shape == said.gain_std.shape == (3, 3)
    assert np.all((said.p_correct >= 0.0) & (said.p_correct <= 1.0))
    assert np.all(np.abs(said.gain) <= 1.0 + 1e-12)
    assert np.all(np.isfinite(said.gain_std) & (said.gain_std >= 0.0))
    assert not said.gain[:, 0].any()
    assert not said.gain_std[:, 0].any()


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=30, deadline=None)
@given(rows=rows_of_features, arm=st.sampled_from(ARMS))
def test_contributions_and_the_average_gain_add_up_to_the_gain(
    kind: str, rows: npt.NDArray[np.float64], arm: str
) -> None:
    model = MODELS[kind]
    row = rows_for(model, rows)[0]

    explained = model.explain(row, arm)

    gain = model.estimate(row[None]).gain[0, ARMS.index(arm)]
    assert sum(each.gain for each in explained) + model.average_gain(arm) == pytest.approx(gain, abs=1e-9)
    assert sorted(each.feature for each in explained) == sorted(model.feature_names)
    assert np.all(np.diff([abs(each.gain) for each in explained]) <= 0.0)


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_the_feature_that_decides_is_named_first(kind: str) -> None:
    row = np.array([1.0, 0.5, 0.0, 0.0, 0.0, 0.0])

    first = MODELS[kind].explain(row, "ttt")[0]

    assert first.feature == "loo_exact_share"
    assert first.value == 1.0
    assert first.gain < -0.05
    assert first.typical == pytest.approx(0.5, abs=0.05)


def test_a_task_far_from_any_is_estimated_less_surely() -> None:
    model = MODELS["logistic"]
    usual = model.scaler.center
    far = usual + np.array([0.0, 0.0, 4.0, 4.0, 4.0, 4.0]) * model.scaler.scale

    std = model.estimate(np.array([usual, far])).gain_std[:, 2]

    assert std[1] > 2.0 * std[0]


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="loo_exact_share"):
        MODELS["logistic"].estimate(np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_a_task_that_was_kept_is_nearest_to_itself_and_shows_what_came_of_it(kind: str) -> None:
    model = MODELS[kind]

    found = model.nearest(model.past.rows[7], k=3)

    assert found[0].task == model.past.tasks[7]
    assert found[0].distance == 0.0
    assert dict(found[0].quality) == dict(zip(ARMS, model.past.quality[7], strict=True))
    assert found[0].distance <= found[1].distance <= found[2].distance


def test_distance_is_in_standard_deviations_and_a_gap_counts_as_one() -> None:
    scaler = Scaler(np.zeros(2), np.array([1.0, 10.0]), np.zeros(2))
    rows = np.array([[0.0, 20.0], [np.nan, 0.0], [0.0, 0.0]])

    order, distances = nearest(np.zeros(2), rows, 3, scaler)

    assert order.tolist() == [2, 1, 0]
    np.testing.assert_allclose(distances, [0.0, np.sqrt(0.5), np.sqrt(2.0)])


def test_the_sample_of_past_tasks_is_bounded() -> None:
    assert len(MODELS["logistic"].past.tasks) == 256
