"""Each harness of the cache passes in its short form, and fails where a bug is planted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from router.router import Router
from router.solution import Solution
from tests.adapters import adapter_of, signer
from tests.faults import (
    cache_black_hole,
    cache_disk_full,
    cache_forgeries,
    cache_machine,
    cache_pressure,
    cache_redis_kills,
    cache_single_flight,
    cache_tenants,
)
from tests.faults.envelope_forgeries import FORGERIES, blob_of
from tests.faults.harness import Figure, Harness
from ttt_engine.adapter import Adapter
from ttt_engine.stores import AdapterStore, LocalAdapterStore, MemoryAdapterStore, Signer
from ttt_engine.stores.envelope import Head, open_sealed, seal
from ttt_engine.stores.redis import RedisAdapterStore

HARNESSES = [
    cache_black_hole.HARNESS,
    cache_disk_full.HARNESS,
    cache_forgeries.HARNESS,
    cache_machine.HARNESS,
    cache_pressure.HARNESS,
    cache_redis_kills.HARNESS,
    cache_single_flight.HARNESS,
    cache_tenants.HARNESS,
]


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda harness: harness.name)
def test_the_short_form_finds_nothing(harness: Harness) -> None:
    figures: Sequence[Figure] = harness.run(False)

    assert [figure for figure in figures if not figure.met] == []
    assert figures


class Gullible(Signer):
    """The planted bug: every signature is right."""

    def accepts(self, signature: bytes | memoryview, *parts: bytes | memoryview) -> bool:
        return True


def gullible(blob: bytes, key: str) -> Adapter:
    return open_sealed(blob, key, Gullible(("a secret for tests which is long enough",), "default"))


def test_without_the_signature_flips_and_forgeries_are_accepted() -> None:
    adapter = adapter_of()
    flips = cache_forgeries.tried(cache_forgeries.flipped(blob_of(adapter), 1000), adapter.key, gullible)
    forged = cache_forgeries.tried((make(adapter).blob for make in FORGERIES.values()), adapter.key, gullible)

    assert flips.n_accepted > 0
    assert forged.n_accepted > 0
    assert flips.untyped == forged.untyped == []  # the inner checks hold, for what they see


def test_something_that_is_unpickled_is_seen() -> None:
    import pickle

    with cache_forgeries.no_pickle() as seen, pytest.raises(RuntimeError, match="unpickled"):
        pickle.loads(pickle.dumps(os.path.join))

    assert len(seen) == 1


class OneForAll(MemoryAdapterStore):
    """The planted bug: the tenant is no part of where a task's adapter is kept."""

    shared: dict[str, Adapter]

    def get(self, key: str) -> Adapter | None:
        return next((each for each in self.shared.values() if each.key == key), None)

    def put(self, adapter: Adapter) -> None:
        self.shared[adapter.key] = adapter


def test_a_store_that_ignores_tenants_is_found_out() -> None:
    shared: dict[str, Adapter] = {}
    stores: dict[str, AdapterStore] = {}
    for tenant in cache_tenants.TENANTS:
        store = OneForAll()
        store.shared = shared
        stores[tenant] = store

    assert cache_tenants.reads(stores, 400)[1] > 0


class InPlace(LocalAdapterStore):
    """The planted bug: written where it will be found, not beside it."""

    def put(self, adapter: Adapter) -> None:
        sealed = seal(adapter, self._signer)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(adapter.key).write_bytes(sealed.head + bytes(sealed.weights))


def test_a_store_that_writes_in_place_is_found_out_when_the_disk_is_full(tmp_path: Path) -> None:
    untyped, left, _ = cache_disk_full.fills(InPlace(tmp_path, signer()), 4)

    assert untyped > 0
    assert left > 0


def test_the_machine_finds_a_store_that_does_not_look_at_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Head, "check_piece", lambda *_: None)

    with pytest.raises(AssertionError):
        cache_machine.played(cache_machine.CacheMachine, 100, 30, shrink=False)


class HeadFirst(RedisAdapterStore):
    """The planted bug: the head is written before the pieces it speaks of."""

    def put(self, adapter: Adapter) -> None:
        sealed = seal(adapter, self._signer)
        head = Head.read(sealed.head, adapter.key, self._signer)

        def write(client: Any) -> None:
            client.set(self._name(adapter.key, "head"), sealed.head)
            for i, piece in enumerate(sealed.pieces()):
                client.set(self._piece(adapter.key, head, i), piece)

        self._redis.call(write, "written")


def test_a_head_that_is_written_first_is_found_half_there() -> None:
    seen = cache_pressure.cut_while_writing(HeadFirst, 5)

    assert seen["half"] > 0


def test_without_a_lease_several_processes_train(tmp_path: Path) -> None:
    trained, wrong = cache_single_flight.processes("local:", [str(tmp_path)] * 3, 2, use_leases=False)

    assert trained > 2
    assert wrong == 0


class Mistaken(cache_redis_kills.Watched):
    """The planted bug: whatever was put last is found under every key."""

    last: Adapter | None = None

    def get(self, key: str) -> Adapter | None:
        self.n_found += self.last is not None
        self.n_wrong += self.last is not None and self.last.sha256 != self.first.get(key)
        return self.last

    def put(self, adapter: Adapter) -> None:
        super().put(adapter)
        self.last = adapter


def test_wrong_adapters_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_redis_kills, "Watched", Mistaken)

    assert cache_redis_kills.under_load(1)["wrong"] > 0


def test_a_solve_that_ends_in_an_error_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, turns = Router.solve, iter(range(10**9))

    def fragile(*args: Any, **more: Any) -> Solution:
        if next(turns) == cache_redis_kills.N_TASKS + 1:
            raise RuntimeError("the store is not what it was")
        return solve(*args, **more)

    monkeypatch.setattr(Router, "solve", fragile)

    assert cache_redis_kills.under_load(1)["unanswered"] == 1


def test_without_a_breaker_every_solve_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttt_engine.stores.breaker.Breaker.failed", lambda *_: None)
    monkeypatch.setattr(cache_black_hole, "N_SHORT", 3)
    figures = cache_black_hole.run(False)

    assert not figures[1].met
