"""Features are finite, named, and made of nothing but the task and its probe."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as testing
from hypothesis import strategies as st

from icl_engine.loaders import load_tasks
from icl_engine.probe import Prober
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies import FEATURE_NAMES, FEATURES, SCHEMA_HASH, Features, Stage, features_of
from policies.feature_values import FeatureValues, NamedFeatures, feature_row
from policies.features import LEAST_FOR_A_TRIAL, MAX_NATS_PER_TOKEN, stage_wanted
from tests.policies.fakes import FakeAnswer, FakeProbe, grid_task
from ttt_engine.checks import LEAST_DEMONSTRATIONS


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

    assert (features.n_held_out, features.n_held_out_exact) == (None, None)
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


# By name


def test_every_name_is_a_number_and_kind_is_one_too() -> None:
    features: FeatureValues = features_of_probe(FakeProbe())
    text = features_of(Task.from_pairs([("a", "b")], "c"), FakeProbe(), adapter_cached=True, predicted_cost_s={})

    assert features.value("is_text") == 0.0
    assert text.value("is_text") == 1.0
    assert text.value("adapter_cached") == 1.0
    assert features.value("n_demonstrations") == 3.0
    assert all(isinstance(features.value(name), float | None) for name in FEATURE_NAMES)
    assert feature_row(features, FEATURE_NAMES).shape == (len(FEATURE_NAMES),)


@pytest.mark.parametrize("name", ["kind", "predicted_cost_s", "value", "as_json", "solution", ""])
def test_what_is_no_number_is_not_known_by_name(name: str) -> None:
    assert features_of_probe(FakeProbe()).value(name) is None


def test_names_are_those_of_the_table_but_for_kind_and_costs() -> None:
    assert FEATURE_NAMES[0] == "is_text"
    assert set(FEATURE_NAMES) - {"is_text"} == {feature.name for feature in FEATURES} - {"kind", "predicted_cost_s"}
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_json_is_read_back_as_it_was() -> None:
    features = features_of(
        grid_task(), FakeProbe(hidden=(0.5,) * 8, vote_agreement=0.5), adapter_cached=True,
        predicted_cost_s={"ttt": 2.0, "icl": 1.0}, nearest_adapter_distance=0.25,
    )  # fmt: skip

    assert Features.read(features.as_json()) == features


# Stages


@dataclass(frozen=True, slots=True)
class FakeTrial:
    untrained_nll: float = 2.0
    trained_nll: float = 0.5


def test_what_no_stage_found_is_not_known() -> None:
    features = features_of_probe(FakeProbe(loo_exact=(), loo_nll=()))
    later = [feature.name for feature in FEATURES if feature.stage > Stage.PROBE]

    assert later[-3:] == ["vote_agreement", "trial_nll", "trial_nll_change"]
    assert len(later) == 9
    assert [features.value(name) for name in later] == [None] * 9
    assert features.value("nearest_adapter_distance") is None


def test_later_stages_fill_in_their_own_and_change_nothing_else() -> None:
    before = features_of_probe(FakeProbe())
    probe = FakeProbe(vote_agreement=0.75)
    after = features_of(grid_task(), probe, adapter_cached=False, predicted_cost_s={}, trial=FakeTrial())

    assert (after.vote_agreement, after.trial_nll, after.trial_nll_change) == (0.75, 0.5, -1.5)
    assert after == dataclasses.replace(before, vote_agreement=0.75, trial_nll=0.5, trial_nll_change=-1.5)


def test_the_later_the_stage_the_more_it_costs_and_structure_costs_nothing() -> None:
    dearest = {stage: max(feature.prompts for feature in FEATURES if feature.stage == stage) for stage in Stage}

    assert dearest[Stage.STRUCTURE] == dearest[Stage.PROBE] == 0  # the answer in context is needed anyway
    assert dearest[Stage.PROBE] < dearest[Stage.HELD_OUT] <= dearest[Stage.VOTES] < dearest[Stage.TRIAL]
    assert all((feature.per == "task") == (feature.prompts == 0) for feature in FEATURES)


# Signs of the probe


def test_the_spread_of_equal_surprises_is_nothing() -> None:
    equal, unequal = (features_of_probe(FakeProbe(loo_nll=nll)) for nll in ((0.4, 0.4, 0.4), (0.1, 0.4, 0.7)))

    assert equal.loo_nll_spread == pytest.approx(0.0, abs=1e-12)
    assert unequal.loo_nll_spread == pytest.approx((0.18 / 3) ** 0.5)


def test_a_line_of_surprises_has_its_own_slope_from_the_second_demonstration_on() -> None:
    features = features_of_probe(FakeProbe(demonstration_nll=(9.0, 4.0, 3.5, 3.0, 2.5)))

    assert features.loo_nll_slope == pytest.approx(-0.5)
    assert features.shown_nll_change == pytest.approx(-6.5)


def test_too_few_demonstrations_have_no_slope() -> None:
    two = features_of_probe(FakeProbe(demonstration_nll=(2.0, 1.0), demonstration_exact=(False, True)))
    one = features_of_probe(FakeProbe(demonstration_nll=(2.0,), demonstration_exact=(False,)))

    assert (two.loo_nll_slope, two.shown_nll_change, two.shown_exact_share) == (None, -1.0, 1.0)
    assert (one.loo_nll_slope, one.shown_nll_change, one.shown_exact_share) == (None, None, None)


def test_a_broken_model_is_unsure() -> None:
    features = features_of_probe(
        FakeProbe(answer_entropy=math.nan, answer_margin=math.nan, answer_least_margin=-math.inf)
    )

    assert features.answer_entropy == MAX_NATS_PER_TOKEN
    assert (features.answer_margin, features.answer_least_margin) == (0.0, 0.0)


# Structure


def structure(task: Task) -> Features:
    return features_of(task, FakeProbe(), adapter_cached=False, predicted_cost_s={})


def test_colours_and_cells_of_a_grid_task() -> None:
    features = structure(Task.from_pairs([([[1, 0]], [[1, 2]]), ([[0, 0, 3, 3]], [[3]])], [[4, 0], [1, 9]]))

    assert features.same_cell_share == 0.5  # of the first demonstration's two cells
    assert features.n_symbols == 2.5
    assert features.symbols_kept_share == 0.75
    assert features.query_new_symbol_share == 0.5  # 4 and 9 of 0, 1, 4, 9
    assert features.size_ratio == pytest.approx(1.5 / 3)
    assert features.query_size_ratio == pytest.approx(4 / 3)
    assert (features.n_words, features.n_output_words) == (None, None)


def test_words_and_characters_of_a_text_task() -> None:
    features = structure(Task.from_pairs([("ab ba", "b"), ("a", "a b c")], "a b", instruction="Say it."))

    assert (features.n_words, features.n_output_words) == (1.5, 2.0)
    assert features.has_instruction
    assert features.same_cell_share is None
    assert features.query_new_symbol_share == 0.0


# No solution


GRIDS = st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=1, max_size=3)


def features_in_file(folder: Path, content: object) -> list[Features]:
    path = folder / "tasks.json"
    path.write_text(json.dumps(content))
    prober = Prober(ScriptedModel(lambda task: task.query), n_views=2)
    return [
        features_of(labelled.task, prober.probe(labelled.task), adapter_cached=False, predicted_cost_s={"icl": 1.0})
        for labelled in load_tasks(path, shots=2)
    ]


@testing(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(solutions=st.lists(GRIDS, min_size=2, max_size=2, unique_by=str))
def test_another_solution_of_a_grid_task_changes_no_feature(tmp_path: Path, solutions: list[list[list[int]]]) -> None:
    train = [{"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3, 4]], "output": [[4, 3]]}]
    one, other = (
        features_in_file(tmp_path, {"train": train, "test": [{"input": [[5, 6]], "output": solution}]})
        for solution in solutions
    )

    assert one == other


@testing(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    targets=st.lists(st.text("aBc 1", min_size=1, max_size=5).filter(str.strip), min_size=2, max_size=2, unique=True)
)
def test_another_solution_of_a_text_task_changes_no_feature(tmp_path: Path, targets: list[str]) -> None:
    shots = [{"input": "a", "target": "A"}, {"input": "b", "target": "B"}]
    one, other = (
        features_in_file(tmp_path, {"examples": [*shots, {"input": "c", "target": target}]}) for target in targets
    )

    assert one == other


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (("loo_exact_share",), None),
        (("loo_exact_share", "vote_agreement"), Stage.VOTES),
        (("loo_nll_mean", "vote_agreement"), Stage.HELD_OUT),
        (("n_held_out",), Stage.HELD_OUT),
        (("vote_agreement", "trial_nll"), Stage.VOTES),
        (("trial_nll",), Stage.TRIAL),
        (("a column of somebody's logs",), None),
    ],
)
def test_the_stage_to_ask_for_is_the_cheapest_that_gives_a_feature_that_is_read(
    read: tuple[str, ...], wanted: Stage | None
) -> None:
    assert stage_wanted(read, NamedFeatures(("loo_exact_share",), (0.5,))) == wanted


def test_where_nothing_can_be_held_out_nobody_asks_for_it() -> None:
    single = NamedFeatures(("n_demonstrations", "n_held_out"), (1.0, 0.0))

    assert stage_wanted(("n_held_out", "loo_exact_share"), single) is None
    assert stage_wanted(("loo_exact_share", "vote_agreement"), single) is Stage.VOTES


@pytest.mark.parametrize(
    ("is_text", "n", "stages"),
    [
        (0.0, 1.0, {Stage.VOTES}),
        (1.0, 1.0, set()),
        (1.0, 2.0, {Stage.HELD_OUT, Stage.VOTES}),
        (0.0, 3.0, {Stage.HELD_OUT, Stage.VOTES, Stage.TRIAL}),
    ],
)
def test_nobody_asks_for_a_stage_that_so_few_demonstrations_leave_nothing_to_find_out_by(
    is_text: float, n: float, stages: set[Stage]
) -> None:
    known = NamedFeatures(("is_text", "n_demonstrations"), (is_text, n))
    reads = ("n_held_out", "vote_agreement", "trial_nll")

    assert {stage for name in reads if (stage := stage_wanted((name,), known)) is not None} == stages
    assert LEAST_FOR_A_TRIAL == LEAST_DEMONSTRATIONS


def test_a_confidence_that_is_no_number_is_no_confidence() -> None:
    found = [
        features_of_probe(dataclasses.replace(FakeProbe(), answer=FakeAnswer(confidence)))
        for confidence in (math.nan, math.inf, -1.0, 0.25)
    ]

    assert [features.answer_confidence for features in found] == [0.0, 1.0, 0.0, 0.25]
    assert all(Features.read(features.as_json()) == features for features in found)


def test_no_stage_is_asked_for_once_its_features_are_known() -> None:
    assert stage_wanted(("vote_agreement",), NamedFeatures(("vote_agreement",), (0.5,))) is None
