"""Signs of sureness are plain statistics, and a projected state keeps what can be kept of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from icl_engine.language_model import Generation
from icl_engine.signals import N_HIDDEN, agreement, projected, sureness_of


def said(entropies: tuple[float, ...] = (), margins: tuple[float, ...] = ()) -> Generation:
    return Generation("x", (-0.1,) * len(entropies), 5, (), entropies, margins)


def test_sureness_is_over_all_tokens_of_all_answers() -> None:
    found = sureness_of([said((0.0, 0.3), (4.0, 1.0)), said((0.6,), (0.5,))])

    assert found is not None
    assert found.entropy == pytest.approx(0.3)
    assert found.margin == pytest.approx(5.5 / 3)
    assert found.least_margin == 0.5


def test_a_model_that_does_not_tell_is_neither_sure_nor_unsure() -> None:
    assert sureness_of([said()]) is None
    assert sureness_of([]) is None


def test_agreement_is_the_share_that_says_the_same() -> None:
    assert agreement("a", ["a", "b", "a", None]) == 0.5
    assert agreement("a", []) is None


def test_no_value_agrees_with_nothing() -> None:
    assert agreement(None, [None, "a"]) == 0.0


def test_a_projection_hangs_on_the_direction_alone() -> None:
    state = np.random.default_rng(0).standard_normal(32).tolist()
    scaled, opposite = [3 * x for x in state], [-x for x in state]

    assert len(projected(state)) == N_HIDDEN
    assert projected(scaled) == pytest.approx(projected(state))
    assert projected(opposite) == pytest.approx([-x for x in projected(state)])


def test_projections_have_unit_size_and_keep_what_is_like_near_and_what_is_unlike_apart() -> None:
    rng = np.random.default_rng(1)
    states = rng.standard_normal((200, 64))
    near = states + 0.05 * rng.standard_normal(states.shape)
    points, beside = (np.array([projected(state.tolist()) for state in each]) for each in (states, near))

    assert 0.8 < float((points**2).mean()) < 1.2
    moved = np.linalg.norm(points - beside, axis=1)
    apart = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1)
    assert moved.max() < apart.mean() / 2


@pytest.mark.parametrize("broken", [(0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_a_state_without_a_direction_is_projected_to_nothing(broken: tuple[float, ...]) -> None:
    assert projected(broken) == (0.0,) * N_HIDDEN
    assert projected(()) == ()
