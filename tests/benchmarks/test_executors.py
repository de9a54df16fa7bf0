"""That what is compared with this process is as many raylets as is said."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

import ray

from benchmarks.executors import raylets


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_each_worker_has_a_raylet_of_its_own_with_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
        monkeypatch.setenv(name, "0")  # and puts back what was there
    with raylets(2):
        cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]

    assert sorted(cores) == [0, 1, 1]
