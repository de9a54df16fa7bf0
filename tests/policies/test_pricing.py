"""Costs in units of `ttt`, from predictions where there are any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.errors import PolicySettingRefused
from policies.feature_values import NamedFeatures
from policies.pricing import Pricing
from tests.policies.policy_fakes import ARMS, PRICING, named, outcome_matrix


def test_what_is_predicted_counts_before_what_is_usual() -> None:
    features = named((("ttt", 4.0),))

    assert PRICING.costs(features, ARMS).tolist() == [0.0, 0.5 / 8.0, 2.0 / 8.0, 4.0 / 8.0]


def test_the_answer_in_context_has_been_paid_for() -> None:
    assert PRICING.costs(named((("icl", 5.0),)), ("icl",)).tolist() == [0.0]


def test_an_arm_of_which_nothing_is_known_is_as_dear_as_training() -> None:
    assert PRICING.costs(named(), ("program_synthesis",)).tolist() == [1.0]


def test_a_prediction_that_is_no_time_does_not_count() -> None:
    assert PRICING.costs(named((("ttt", float("nan")), ("ttt_short", -1.0))), ("ttt", "ttt_short")).tolist() == [
        1.0,
        0.25,
    ]


BY_WORK = replace(PRICING, typical_tokens=200.0)
CHOICE = ("icl", "icl_vote", "ttt_short", "ttt")


def prompted(tokens: float | None, *predicted: tuple[str, float], cached: float = 0.0) -> NamedFeatures:
    return NamedFeatures(("prompt_tokens", "adapter_cached"), (tokens, cached), predicted)


def test_before_anything_was_measured_here_a_longer_prompt_is_dearer_whatever_the_device() -> None:
    typical, long = (BY_WORK.costs(prompted(tokens), CHOICE).tolist() for tokens in (200.0, 600.0))

    assert typical == [0.0, 0.5 / 8.0, 2.0 / 8.0, 1.0]
    assert long == pytest.approx([3 * cost for cost in typical])
    assert BY_WORK.costs(prompted(600.0, ("ttt", 0.001), ("icl_vote", 99.0)), CHOICE).tolist() == long


def test_without_a_length_the_prompt_is_typical() -> None:
    assert BY_WORK.costs(prompted(None), CHOICE).tolist() == BY_WORK.costs(prompted(200.0), CHOICE).tolist()


def test_an_adapter_at_hand_makes_training_a_vote() -> None:
    assert BY_WORK.costs(prompted(400.0, cached=1.0), CHOICE).tolist() == [0.0, 1.0 / 8.0, 4.0 / 8.0, 1.0 / 8.0]


def test_a_matrix_is_priced_by_work_as_its_tasks_are() -> None:
    matrix = outcome_matrix(2)
    known = replace(
        matrix,
        feature_names=(*matrix.feature_names, "prompt_tokens", "predicted_cost_s.ttt"),
        features=np.column_stack([matrix.features, [[400.0, 1.0], [np.nan, 1.0]]]),
    )

    costs = BY_WORK.matrix_costs(known)

    assert costs[:, matrix.column("ttt")].tolist() == [2.0, 1.0]
    assert costs[:, matrix.column("ttt_short")].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("tokens", [0.0, -5.0, float("nan"), float("inf")])
def test_a_typical_prompt_has_tokens(tokens: float) -> None:
    with pytest.raises(PolicySettingRefused, match="typical_tokens"):
        replace(PRICING, typical_tokens=tokens)


def test_means_are_those_that_were_measured() -> None:
    matrix = outcome_matrix(ttt_missing=10)
    means = dict(Pricing.of(matrix, 0.1).mean_cost_s)

    assert means["ttt"] == pytest.approx(np.nanmean(matrix.cost_s[:, matrix.column("ttt")]))


def test_a_matrix_is_priced_by_what_was_predicted_never_by_what_was_measured() -> None:
    matrix = outcome_matrix(5)
    predicted = np.array([4.0, np.nan, 8.0, 16.0, 0.0])
    known = replace(
        matrix,
        feature_names=(*matrix.feature_names, "predicted_cost_s.ttt"),
        features=np.column_stack([matrix.features, predicted]),
    )

    assert PRICING.matrix_costs(matrix)[:, matrix.column("ttt")].tolist() == [1.0] * 5
    assert PRICING.matrix_costs(known)[:, matrix.column("ttt")].tolist() == [0.5, 1.0, 1.0, 2.0, 0.0]


def test_other_prices_and_costs_are_described_otherwise() -> None:
    said = {each.described() for each in (PRICING, PRICING.at(0.2), Pricing(0.1, (("ttt", 8.0),)), BY_WORK)}

    assert len(said) == 4


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(PolicySettingRefused, match="price"):
        Pricing(price, (("ttt", 8.0),))


def test_without_the_cost_of_training_there_is_no_unit() -> None:
    with pytest.raises(PolicySettingRefused, match="mean_cost_s"):
        Pricing(0.1, (("icl_vote", 1.0),))
