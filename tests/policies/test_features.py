"""Features are finite, named, and made of nothing but the task and its probe."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from icl_engine.task import Task
from policies import FEATURES, SCHEMA_HASH, Features, features_of
from policies.features import MAX_NATS_PER_TOKEN
from tests.policies.fakes import FakeAnswer, FakeProbe, grid_task


def features_of_probe(probe: FakeProbe) -> Features:
    return features_of(grid_task(), probe, adapter_cached=False, predicted_cost_s={})


def test_the_table_names_every_field_once_and_in_order() -> None:
    assert [feature.name for feature in FEATURES] == [field.name for field in dataclasses.fields(Features)]
    assert all(feature.unit and feature.meaning for feature in FEATURES)


def test_the_schema_hash_is_short_hexadecimal() -> None:
    assert len(SCHEMA_HASH) == 16
    assert set(SCHEMA_HASH) <= set("0123456789abcdef")


def test_sizes_and_shapes_of_a_grid_task() -> None:
    task = Task.from_pairs([([[1, 2, 3]], [[1, 2, 3]]), ([[1, 2, 3, 4, 5]], [[1], [2]])], [[1, 2, 3, 4]])

    features = features_of(task, FakeProbe(), adapter_cached=True, predicted_cost_s={"ttt": 9.0, "icl": 0.5})

    assert features.kind == "grid"
    assert (features.n_demonstrations, features.n_queries) == (2, 1)
    assert (features.input_size, features.output_size, features.query_size) == (4.0, 2.5, 4.0)
    assert features.same_shape_share == 0.5
    assert features.adapter_cached
    assert features.predicted_cost_s == (("icl", 0.5), ("ttt", 9.0))


def test_text_is_measured_in_characters() -> None:
    task = Task.from_pairs([("abcd", "ef"), ("gh", "ij")], "klm")

    features = features_of(task, FakeProbe(), adapter_cached=False, predicted_cost_s={})

    assert features.kind == "text"
    assert (features.input_size, features.output_size, features.query_size) == (3.0, 2.0, 3.0)
    assert features.same_shape_share == 0.5


def test_leave_one_out_becomes_share_mean_and_worst() -> None:
    features = features_of_probe(FakeProbe(loo_exact=(True, True, False), loo_nll=(0.1, 0.2, 0.6)))

    assert (features.n_held_out, features.n_held_out_exact) == (3, 2)
    assert features.loo_exact_share == pytest.approx(2 / 3)
    assert features.loo_nll_mean == pytest.approx(0.3)
    assert features.loo_nll_worst == 0.6


def test_leave_one_out_that_was_not_run_is_missing_not_zero() -> None:
    features = features_of_probe(FakeProbe(loo_exact=(), loo_nll=()))

    assert features.n_held_out == 0
    assert (features.loo_exact_share, features.loo_nll_mean, features.loo_nll_worst) == (None, None, None)


def test_the_answers_surprise_is_per_token() -> None:
    assert features_of_probe(FakeProbe(answer_log_probability=-6.0, answer_tokens=4)).answer_nll == 1.5
    assert features_of_probe(FakeProbe(answer_log_probability=0.0, answer_tokens=0)).answer_nll == 0.0


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_every_feature_is_finite_whatever_the_model_says(broken: float) -> None:
    features = features_of_probe(FakeProbe(FakeAnswer(0.0), broken, 4, loo_nll=(-broken, 0.1, 0.1)))

    assert features.answer_nll == MAX_NATS_PER_TOKEN
    assert features.loo_nll_worst == MAX_NATS_PER_TOKEN
    assert json.loads(features.as_json())["answer_nll"] == MAX_NATS_PER_TOKEN


def test_json_holds_every_feature_and_does_not_depend_on_the_order_of_costs() -> None:
    one = features_of(grid_task(), FakeProbe(), adapter_cached=False, predicted_cost_s={"icl": 1.0, "ttt": 2.0})
    other = features_of(grid_task(), FakeProbe(), adapter_cached=False, predicted_cost_s={"ttt": 2.0, "icl": 1.0})

    assert one.as_json() == other.as_json()
    assert set(json.loads(one.as_json())) == {feature.name for feature in FEATURES}
