"""P(icl correct) before anything has been learned."""

from __future__ import annotations

import pytest

from policies import p_icl_correct
from tests.policies.fakes import features_with


def test_the_answer_counts_as_one_more_held_out_demonstration() -> None:
    assert p_icl_correct(features_with((True, False, False), confidence=0.6)) == pytest.approx(1.6 / 4)


def test_without_leave_one_out_the_confidence_is_all_there_is() -> None:
    assert p_icl_correct(features_with((), n_demonstrations=1, confidence=0.7)) == pytest.approx(0.7)


def test_more_demonstrations_answered_never_lower_the_estimate() -> None:
    estimates = [p_icl_correct(features_with((True,) * k + (False,) * (5 - k))) for k in range(6)]

    assert estimates == sorted(estimates)
    assert 0.0 <= estimates[0] <= estimates[-1] <= 1.0
