"""Predicted cost grows with the work an arm does, and comes closer to what was measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from policies.costs import CostModel, Work
from policies.decision import Arm

ARMS = tuple(Arm)


@pytest.fixture
def costs() -> CostModel:
    return CostModel(n_views=8, training_sequences=320)


def test_every_known_arm_has_a_price_and_no_other(costs: CostModel) -> None:
    assert costs.predict(ARMS, work=Work(0.1), cached=False).keys() == set(ARMS)
    assert costs.predict(("icl", "psychic"), work=Work(0.1), cached=False).keys() == {"icl"}
    assert costs.predict((), work=Work(0.1), cached=False) == {}


def test_an_arm_that_does_more_costs_more(costs: CostModel) -> None:
    predicted = costs.predict(ARMS, work=Work(0.1), cached=False)

    assert sorted(ARMS, key=lambda arm: predicted[arm]) == list(ARMS)
    assert len(set(predicted.values())) == len(ARMS)


def test_a_prompt_in_context_costs_a_prompt_and_each_further_view_a_part_of_one(costs: CostModel) -> None:
    predicted = costs.predict(ARMS, work=Work(0.25), cached=False)
    single = CostModel(n_views=1, training_sequences=160).predict(ARMS, work=Work(0.25), cached=False)

    assert predicted["icl"] == single["icl"] == single["icl_vote"] == 0.25
    assert 0.25 < predicted["icl_vote"] < 8 * 0.25


def test_costs_are_in_proportion_to_what_a_prompt_takes(costs: CostModel) -> None:
    slow, fast = (costs.predict(ARMS, work=Work(prompt_s), cached=False) for prompt_s in (0.3, 0.1))

    assert slow == pytest.approx({arm: 3 * seconds for arm, seconds in fast.items()})


def test_a_cached_adapter_costs_no_training_and_is_that_of_ttt_alone(costs: CostModel) -> None:
    trained, cached = (costs.predict(ARMS, work=Work(0.1), cached=cached) for cached in (False, True))

    assert cached["ttt"] == trained["icl_vote"]
    assert {arm: s for arm, s in cached.items() if arm != "ttt"} == {
        arm: s for arm, s in trained.items() if arm != "ttt"
    }


def test_each_query_is_asked_and_training_is_for_all_of_them(costs: CostModel) -> None:
    one, three = (costs.predict(ARMS, work=Work(0.1, n_queries=n), cached=False) for n in (1, 3))

    assert three["icl"] == pytest.approx(3 * one["icl"])
    assert three["icl_vote"] == pytest.approx(3 * one["icl_vote"])
    assert three["ttt"] - one["ttt"] == pytest.approx(2 * one["icl_vote"])


def test_a_text_is_trained_on_by_its_own_settings_and_corrected_by_itself() -> None:
    costs = CostModel(n_views=8, training_sequences=160, text_sequences=40)
    grid, text = Work(0.1), Work(0.1, kind="text")
    before = costs.predict(["ttt"], work=grid, cached=False)

    assert (
        costs.predict(["ttt"], work=text, cached=False)["ttt"] < costs.predict(["ttt"], work=grid, cached=False)["ttt"]
    )
    for _ in range(50):
        costs.measured("ttt", 5.0, work=text, cached=False)

    assert costs.predict(["ttt"], work=text, cached=False)["ttt"] == pytest.approx(5.0, rel=1e-3)
    assert costs.predict(["ttt"], work=grid, cached=False)["ttt"] == before["ttt"]


def test_a_first_measurement_counts_as_any_other_for_it_may_be_of_a_machine_that_was_warming_up(
    costs: CostModel,
) -> None:
    before = costs.predict(["ttt"], work=Work(0.1), cached=False)["ttt"]
    costs.measured("ttt", 60.0, work=Work(0.1), cached=False)
    after = 0.8 * before + 0.2 * 60.0

    assert costs.predict(["ttt"], work=Work(0.1), cached=False)["ttt"] == pytest.approx(after)
    assert costs.predict(["ttt"], work=Work(0.2), cached=False)["ttt"] == pytest.approx(2 * after)
    assert costs.predict(["icl"], work=Work(0.1), cached=False)["icl"] == 0.1


def test_predictions_come_closer_to_a_cost_that_has_changed(costs: CostModel) -> None:
    for _ in range(50):
        costs.measured("ttt", 60.0, work=Work(0.1), cached=False)
    errors = []
    for _ in range(10):
        costs.measured("ttt", 30.0, work=Work(0.1), cached=False)
        errors.append(costs.predict(["ttt"], work=Work(0.1), cached=False)["ttt"] - 30.0)

    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.2 * errors[0]


def test_what_is_unlearned_knows_the_work_and_leaves_what_was_learned_alone(costs: CostModel) -> None:
    before = costs.predict(ARMS, work=Work(0.1), cached=False)
    costs.measured("ttt", 60.0, work=Work(0.1), cached=False)
    learned, fresh = costs.predict(ARMS, work=Work(0.1), cached=False), costs.unlearned()
    fresh.measured("icl_vote", 99.0, work=Work(0.1), cached=False)

    assert costs.unlearned().predict(ARMS, work=Work(0.1), cached=False) == before
    assert costs.predict(ARMS, work=Work(0.1), cached=False) == learned


@pytest.mark.parametrize(
    ("arm", "prompt_s", "cached"), [("ttt", 0.1, True), ("ttt", 0.0, False), ("psychic", 0.1, False)]
)
def test_what_says_nothing_of_an_arm_s_work_is_not_learned_from(
    costs: CostModel, arm: str, prompt_s: float, cached: bool
) -> None:
    before = costs.predict(ARMS, work=Work(0.1), cached=False)
    costs.measured(arm, 99.0, work=Work(prompt_s), cached=cached)

    assert costs.predict(ARMS, work=Work(0.1), cached=False) == before


def test_training_of_no_step_costs_its_views() -> None:
    costs = CostModel(n_views=4, training_sequences=0)
    predicted = costs.predict(["ttt", "icl_vote"], work=Work(0.5), cached=False)

    assert predicted["ttt"] == predicted["icl_vote"] > 0.0


def test_measurements_from_several_threads_all_count(costs: CostModel) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: costs.measured("icl", 5.0, work=Work(1.0), cached=False), range(200)))

    assert costs.predict(["icl"], work=Work(1.0), cached=False)["icl"] == pytest.approx(5.0)
