"""What is counted and measured, for Prometheus. Nothing in it tells tenants apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_REQUEST_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SOLVE_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 300)


class Metrics:
    """The families of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry, "namespace": "ttt_router"}
        self.requests = Counter("requests", "HTTP requests", ["route", "status"], **named)
        self.request_s = Histogram(
            "request_seconds", "Until the answer has gone", ["route"], buckets=_REQUEST_S, **named
        )
        self.solves = Counter("solves", "Tasks by what became of them", ["answered_by", "outcome"], **named)
        self.solve_s = Histogram(
            "solve_seconds", "Of one task, waiting included", ["answered_by"], buckets=_SOLVE_S, **named
        )
        self.refused = Counter("refused", "Requests that were not taken", ["code"], **named)
        self.degraded = Counter("degraded", "Tasks answered in spite of a fault", **named)
        self.compute_s = Counter("compute_seconds", "Of the model, all tenants", **named)
        self.tokens = Counter("tokens", "Read, written and trained on", **named)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Show what `value` says whenever it is asked for."""
        Gauge(name, about, registry=self.registry, namespace="ttt_router").set_function(value)

    def text(self) -> bytes:
        """Return all of it in Prometheus' own form."""
        return generate_latest(self.registry)
