"""P(icl correct) before anything has been learned."""

from __future__ import annotations

import pytest

from policies import p_icl_correct
from tests.policies.fakes import features_with
from tests.policies.policy_fakes import as_values, named


def test_the_answer_counts_as_one_more_held_out_demonstration() -> None:
    assert p_icl_correct(as_values(features_with((True, False, False), confidence=0.6))) == pytest.approx(1.6 / 4)


def test_without_leave_one_out_the_confidence_is_all_there_is() -> None:
    assert p_icl_correct(as_values(features_with((), n_demonstrations=1, confidence=0.7))) == pytest.approx(0.7)


def test_more_demonstrations_answered_never_lower_the_estimate() -> None:
    estimates = [p_icl_correct(as_values(features_with((True,) * k + (False,) * (5 - k)))) for k in range(6)]

    assert estimates == sorted(estimates)
    assert 0.0 <= estimates[0] <= estimates[-1] <= 1.0


def test_the_share_alone_counts_as_one_demonstration_answered_in_part() -> None:
    assert p_icl_correct(named(loo_exact_share=0.5, answer_confidence=0.9)) == pytest.approx((0.5 + 0.9) / 2)


def test_of_an_answer_that_nothing_is_known_of_either_is_as_likely() -> None:
    assert p_icl_correct(named()) == 0.5
