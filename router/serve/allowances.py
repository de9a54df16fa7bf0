"""What a tenant may use: requests a second, and seconds of compute an hour. Kept in memory, safe between threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Bucket:
    """Fills up at a rate, to a brim; what is taken may, where nobody knew beforehand, leave it below empty.

    Args:
        rate: units a second.
        brim: units that it holds at most, and at first.
    """

    def __init__(self, rate: float, brim: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._brim, self._clock = rate, brim, clock
        self._level, self._at = brim, clock()
        self._lock = threading.RLock()

    def wait_s(self, units: float = 0.0) -> float:
        """Return seconds until so many can be taken, or until there is anything in it; 0: now."""
        with self._lock:
            now = self._clock()
            self._level = min(self._brim, self._level + (now - self._at) * self._rate)
            self._at = now
            lacking = units - self._level
        if lacking < 0 or (lacking == 0 and units > 0):
            return 0.0
        return max(lacking / self._rate, 1e-3)

    def take(self, units: float) -> None:
        """Take so many, whether they are there or not."""
        with self._lock:
            self.wait_s()
            self._level -= units


class Allowances:
    """The buckets of every tenant.

    Args:
        requests_per_s: twice as many may come at once.
        compute_s_per_h: None: no bound.
    """

    def __init__(self, requests_per_s: float, compute_s_per_h: float | None) -> None:
        self._requests_per_s = requests_per_s
        self._compute_s_per_h = compute_s_per_h
        self._requests: dict[str, Bucket] = {}
        self._compute: dict[str, Bucket] = {}

    def request(self, tenant: str) -> float:
        """Count a request; return 0, or the seconds after which it would be let in."""
        bucket = self._requests.setdefault(tenant, Bucket(self._requests_per_s, max(1.0, 2 * self._requests_per_s)))
        wait_s = bucket.wait_s(1.0)
        if not wait_s:
            bucket.take(1.0)
        return wait_s

    def compute_wait_s(self, tenant: str) -> float:
        """Return 0 where there is compute left, or seconds until there is."""
        bucket = self._compute_bucket(tenant)
        return 0.0 if bucket is None else bucket.wait_s()

    def computed(self, tenant: str, seconds: float) -> None:
        """Take off what was used: nobody knows beforehand what a task takes, so the last one may overdraw."""
        bucket = self._compute_bucket(tenant)
        if bucket is not None:
            bucket.take(seconds)

    def _compute_bucket(self, tenant: str) -> Bucket | None:
        per_h = self._compute_s_per_h
        return None if per_h is None else self._compute.setdefault(tenant, Bucket(per_h / 3600, per_h))
