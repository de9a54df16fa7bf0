"""No source counts for more than its share, and one that runs against all others counts for nothing."""

from __future__ import annotations

import numpy as np

from policies.feedback_sources import contradicting, within_share


def test_a_loud_source_counts_for_its_share_and_the_rest_for_all_they_said() -> None:
    sources = ["loud"] * 500 + [f"user_{i % 20}" for i in range(500)]
    kept = within_share(sources, 0.1)

    assert (kept[:500].sum(), kept[500:].sum()) == (100, 500)


def test_a_trusted_or_an_only_source_is_not_capped() -> None:
    assert within_share(["solution"] * 90 + ["user"] * 10, 0.1, trusted=["solution"]).all()
    assert within_share(["user"] * 50, 0.1).all()


def test_a_source_that_flips_its_reports_is_found_and_no_honest_one_is() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=2000)
    quality = (rng.random(2000) < 1 / (1 + np.exp(-2 * score))).astype(float)
    sources = [f"user_{i % 10}" for i in range(2000)]
    flipped = np.array([source in ("user_3", "user_7") for source in sources])
    quality[flipped] = 1 - quality[flipped]
    quality[::5] = np.nan

    assert contradicting(sources, score[:, None], quality) == ("user_3", "user_7")
