"""That what is compared with this process is as many raylets as is said."""

from __future__ import annotations

import os

import pytest

ray = pytest.importorskip("ray")

from benchmarks.executors import raylets


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_each_worker_has_a_raylet_of_its_own_with_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ)
    with raylets(2):
        cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]

    assert sorted(cores) == [0, 1, 1]
