"""The prior means the same over any features and scales, says so in JSON, and takes no nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from policies import Arm, PolicyFileDamaged
from policies.gain_models.fitting import make_prior
from policies.gain_models.heads import heads_of
from policies.gain_models.prior import PRIOR_FEATURES, PSEUDO_TASKS, Prior, prior_of, shipped_prior
from policies.gain_models.scaling import Scaler
from tests.policies.gain_models.matrices import SIGNALS, drawn
from tests.policies.gain_models.priors import two_signals


def random_prior(rng: np.random.Generator, n: int = 3) -> Prior:
    arms = ("icl", "ttt")
    scaler = Scaler(rng.uniform(-1.0, 1.0, n), rng.exponential(size=n) + 0.5, rng.random(n))
    names = tuple(f"x{i}" for i in range(n))
    return Prior(names, arms, scaler, rng.normal(size=(len(heads_of(arms)), 1 + 2 * n)), "drawn")


@pytest.mark.parametrize("seed", range(10))
def test_on_another_scale_it_says_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior = random_prior(rng)
    rows = rng.uniform(-1.0, 1.0, size=(50, 5))  # a clipped value would be clipped elsewhere
    rows[rng.random(rows.shape) < 0.3] = np.nan
    other = Scaler(rng.uniform(-1.0, 1.0, 5), rng.exponential(size=5) + 1.0, rng.random(5))

    moved = prior.coef_for(("x2", "new", "x0", "x1", "newer"), prior.arms, other)

    ours = prior.scaler.design(rows[:, [2, 3, 0]]) @ prior.coef.T
    np.testing.assert_allclose(other.design(rows) @ moved.T, ours, atol=1e-9)


def test_a_feature_it_reads_cannot_be_left_out() -> None:
    prior = two_signals()

    with pytest.raises(ValueError, match="answer_confidence"):
        prior.coef_for(("loo_exact_share",), prior.arms, Scaler.neutral(1))


def test_it_is_worth_its_pseudo_tasks_for_features_it_knows_and_nothing_for_others() -> None:
    scaler, worth = two_signals().scaler_for(("answer_confidence", "new"))

    assert worth.tolist() == [PSEUDO_TASKS, 0.0]
    assert (scaler.center[0], scaler.scale[1]) == (0.6, 1.0)


def test_there_is_least_to_gain_where_leave_one_out_did_best_and_most_in_between() -> None:
    model = two_signals().model()
    rows = np.column_stack([np.linspace(0.0, 1.0, 5), np.full(5, 0.6)])

    said = model.estimate(rows)

    ttt = said.arms.index(Arm.TTT)
    assert model.name == "prior"
    assert said.gain[-1, ttt] < said.gain[0, ttt] < said.gain[1, ttt]
    assert np.all(np.diff(said.gain[1:, ttt]) < 0.0)
    assert np.all(np.diff(said.p_correct, axis=0) > 0.0)
    assert 0.0 < said.gain_std[0, ttt] < 0.3


def test_an_arm_it_has_not_heard_of_gains_nothing_for_sure() -> None:
    said = two_signals().model(("icl", "bigger_model")).estimate(np.array([[0.2, 0.4]]))

    assert said.gain.tolist() == [[0.0, 0.0]]
    assert said.gain_std[0, 1] > 0.05
    assert said.p_correct[0, 1] == said.p_correct[0, 0]


def test_it_comes_back_from_json_the_same() -> None:
    prior = random_prior(np.random.default_rng(0))

    back = prior_of(prior.as_json(), "here")

    np.testing.assert_array_equal(back.coef, prior.coef)
    assert back.as_json() == prior.as_json()


def test_the_one_that_ships_knows_what_the_probe_and_the_votes_tell() -> None:
    prior = shipped_prior()

    assert prior.feature_names == PRIOR_FEATURES
    assert {"icl", "icl_vote", "ttt_short", "ttt"} <= set(prior.arms)


def test_another_file_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    path.write_text(random_prior(np.random.default_rng(0)).as_json())

    assert shipped_prior(path).source == "drawn"


def _no_icl(found: dict[str, object]) -> None:
    found["arms"] = ["ttt", "icl_vote"]


def _zero_scale(found: dict[str, object]) -> None:
    found["features"] = [{"name": f"x{i}", "center": 0, "scale": 0, "missing_share": 0} for i in range(3)]


def _text_for_a_number(found: dict[str, object]) -> None:
    found["heads"] = dict.fromkeys(("correct:icl", "correct:ttt", "only:ttt", "only_icl:ttt"), "high")


def _another_schema(found: dict[str, object]) -> None:
    found["schema"] = "gain model prior 2"


def _one_field_more(found: dict[str, object]) -> None:
    found["extra"] = 1


@pytest.mark.parametrize("spoil", [_no_icl, _zero_scale, _text_for_a_number, _another_schema, _one_field_more])
def test_what_is_no_prior_is_refused(spoil: Callable[[dict[str, object]], None]) -> None:
    found = json.loads(random_prior(np.random.default_rng(0)).as_json())
    spoil(found)

    with pytest.raises(PolicyFileDamaged, match="prior"):
        prior_of(json.dumps(found), "here/prior.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": NaN}', '{"schema": 1, "schema": 1}', "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(PolicyFileDamaged):
        prior_of(text, "here/prior.json")


def test_one_made_from_a_matrix_predicts_like_the_truth() -> None:
    seen, unseen = drawn(3_000), drawn(1_000, seed=1)

    model = make_prior(seen.matrix, SIGNALS, source="made up").model()

    said = model.estimate(unseen.matrix.features[:, :2])
    assert model.name == "prior"
    assert np.abs(said.p_correct - unseen.chances).mean() < 0.04
    assert np.corrcoef(said.gain[:, 2], unseen.gains[:, 2])[0, 1] > 0.9
