"""A few short lives: improvements are found, and nothing harmful is promoted where there is nothing to find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated_lives import LifeSettings, World, live, summary, synthetic_matrix

SETTINGS = LifeSettings(n_tasks=3000, block=400, first_p_min=0.3, patience=2000)


@pytest.fixture(scope="module")
def world() -> World:
    return World(synthetic_matrix(2000), SETTINGS)


def test_a_poor_champion_is_replaced_by_a_better_policy(world: World) -> None:
    lives = [live(world, "stale", seed) for seed in range(3)]

    assert not any(life.harmful for life in lives)
    assert sum(life.improved for life in lives) >= 2
    assert "harmful promotion in 0 of 3 lives" in summary(lives)


@pytest.mark.parametrize("kind", ["sabotage", "poisoned"])
def test_nothing_harmful_is_promoted_however_bad_the_candidates(world: World, kind: str) -> None:
    assert not any(live(world, kind, seed).harmful for seed in range(3))


def test_the_same_seed_is_the_same_life(world: World) -> None:
    assert live(world, "stale", 7) == live(world, "stale", 7)


def test_the_truth_of_a_promotion_is_read_from_the_matrix() -> None:
    matrix = synthetic_matrix(500)
    world = World(replace(matrix, quality=np.tile([0.0, 1.0], (500, 1))), SETTINGS)
    always, never = np.array([0.0, 1.0]), np.array([1.0, 0.0])

    found = world.truth(
        lambda features: np.tile(always, (len(features), 1)), lambda features: np.tile(never, (len(features), 1))
    )

    assert found == pytest.approx(1.0 - 0.1 * float(np.mean(world.cost[:, 1] - world.cost[:, 0])))
