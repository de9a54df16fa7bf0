"""A real Ray cluster of several nodes on this machine, for tests: started on ports of its own, and ended."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import free_port

ROOT = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class RayCluster:
    """A head node, which computes nothing, and others."""

    cluster: Any
    nodes: list[Any]
    client_port: int  # for those who are no node of it

    def grow(self, *, num_cpus: int = 1) -> None:
        """Add a node."""
        self.nodes.append(self.cluster.add_node(num_cpus=num_cpus))

    def kill(self, node_id: str) -> None:
        """End a node as a power cut does, with all that runs on it."""
        node = next(each for each in self.nodes if each.node_id == node_id)
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def ray_cluster(*, n_workers: int) -> Iterator[RayCluster]:
    """Start a cluster for a with block, of a head and so many nodes of one CPU, and connect to it."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    port = free_port()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        patch.setenv("RAY_worker_niceness", "0")  # not behind what else this machine does
        warnings.simplefilter("ignore")  # Ray's own
        head = {"num_cpus": 0, "ray_client_server_port": port, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            made = RayCluster(cluster, [], port)
            for _ in range(n_workers):
                made.grow()
            ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
            yield made
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def head(client_port: int) -> Iterator[None]:
    """Start a cluster of one node of one CPU for a with block, for those who come through its client port."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        warnings.simplefilter("ignore")  # Ray's own
        head = {"num_cpus": 1, "ray_client_server_port": client_port}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            until = time.monotonic() + 60
            while not _listens(client_port):
                assert time.monotonic() < until
                time.sleep(0.1)
            yield
        finally:
            cluster.shutdown()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
