"""Tiers: what is found below is put above, what fails is gone round and told of, and a URL names the tiers."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adapters import SECRET, adapter_of, signer, spec_of
from tests.redis_server import RedisServer
from ttt_engine.adapter import Adapter
from ttt_engine.errors import AdapterRejected, StoreMisconfigured, StoreUnavailable
from ttt_engine.stores import (
    LocalAdapterStore,
    MemoryAdapterStore,
    StoreSettings,
    TieredAdapterStore,
    load_secrets,
    open_store,
)
from ttt_engine.stores.redis import RedisAdapterStore

ADAPTER = adapter_of(sketch=(1, 2))
KEY = ADAPTER.key


class Down(MemoryAdapterStore):
    """A tier in which everything fails."""

    error: Exception = StoreUnavailable("it is away")

    def get(self, key: str) -> Adapter | None:
        raise self.error

    def put(self, adapter: Adapter) -> None:
        raise self.error

    def __contains__(self, key: str) -> bool:
        raise self.error

    def sketches(self, kin: str) -> dict[str, tuple[int, ...]]:
        raise self.error


def test_what_is_found_below_is_put_into_every_tier_above() -> None:
    tiers = [MemoryAdapterStore() for _ in range(3)]
    store = TieredAdapterStore(tiers)
    tiers[2].put(ADAPTER)

    assert KEY in store
    assert store.get(KEY) == ADAPTER
    assert all(KEY in tier for tier in tiers)


def test_a_tier_below_is_not_asked_for_what_is_above() -> None:
    store = TieredAdapterStore([MemoryAdapterStore(), Down()])
    store.keep(ADAPTER)

    assert KEY in store
    assert store.fetch(KEY).degraded == ()


def test_a_tier_that_fails_is_gone_round_and_told_of() -> None:
    last = MemoryAdapterStore()
    store = TieredAdapterStore([Down(), last])

    assert store.keep(ADAPTER) == ("it is away",)
    fetched = store.fetch(KEY)
    assert fetched.adapter == ADAPTER
    assert set(fetched.degraded) == {"it is away"}
    assert store.get(KEY) == ADAPTER
    assert KEY in store
    assert store.sketches(spec_of().kin) == {KEY: (1, 2)}


def test_where_nothing_is_found_the_fault_is_raised_or_told() -> None:
    store = TieredAdapterStore([MemoryAdapterStore(), Down()])

    assert store.fetch(KEY).degraded == ("it is away",)
    with pytest.raises(StoreUnavailable, match="away"):
        store.get(KEY)
    with pytest.raises(StoreUnavailable, match="away"):
        assert KEY in store
    store.put(ADAPTER)
    with pytest.raises(StoreUnavailable):
        TieredAdapterStore([Down()]).put(ADAPTER)


@pytest.mark.parametrize("error", [AdapterRejected("hash", "it is bad"), ZeroDivisionError("anybody's code")])
def test_whatever_a_tier_raises_is_told(error: Exception) -> None:
    tier = Down()
    tier.error = error

    (told,) = TieredAdapterStore([tier]).fetch(KEY).degraded
    assert str(error) in told


# From a URL


def test_a_url_names_the_tiers(tmp_path: Path, redis: RedisServer) -> None:
    def kinds(url: str) -> list[type]:
        store = open_store(url, tmp_path, secrets=SECRET)
        store.close()
        return [type(tier) for tier in store.tiers]

    assert kinds("memory:") == [MemoryAdapterStore]
    assert kinds("local:") == kinds(f"local:{tmp_path}/x") == [MemoryAdapterStore, LocalAdapterStore]
    for url in (redis.url, redis.tcp_url, redis.tcp_url.replace("redis:", "rediss:"), f"{redis.tcp_url}/1"):
        assert kinds(url) == [MemoryAdapterStore, LocalAdapterStore, RedisAdapterStore]
    with pytest.raises(StoreMisconfigured, match="no store 's3'"):
        open_store("s3://bucket", tmp_path, secrets=SECRET)


def test_what_one_machine_keeps_another_finds_through_redis(tmp_path: Path, redis: RedisServer) -> None:
    one, other = (open_store(redis.url, tmp_path / name, secrets=SECRET) for name in ("one", "other"))
    one.keep(ADAPTER)

    assert other.get(KEY) == ADAPTER
    assert all(KEY in tier for tier in other.tiers)
    for store in (one, other):
        store.close()


def test_how_much_is_kept_is_as_it_is_set(tmp_path: Path) -> None:
    store = open_store("local:", tmp_path, secrets=SECRET, settings=StoreSettings(memory_bytes=0, local_bytes=5000))

    assert store.keep(adapter_of(n_bytes=100_000)) != ()
    assert store.keep(ADAPTER) == ()
    assert [KEY in tier for tier in store.tiers] == [False, True]


@pytest.mark.parametrize("tenant", ["", "A", "a:b", "a/b", "..", "{x}", "a*", "x" * 65, "-a", "a-", "ä"])
def test_a_tenant_is_a_plain_name(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(StoreMisconfigured, match="tenant"):
        open_store("local:", tmp_path, tenant=tenant, secrets=SECRET)


# Secrets


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: load_secrets(tmp_path / "home"), range(16)))

    assert len(found) == 1
    assert len(next(iter(found))[0]) == 64
    path = tmp_path / "home" / "adapter-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_secret_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    load_secrets(tmp_path)
    os.chmod(tmp_path / "adapter-secret", 0o644)

    with pytest.raises(StoreMisconfigured) as refused:
        load_secrets(tmp_path)

    assert refused.value.remedy.startswith("chmod 600")


def test_secrets_are_given_or_lines_of_the_file_the_first_signs(tmp_path: Path) -> None:
    old = load_secrets(tmp_path)[0]
    store = open_store("local:", tmp_path)
    store.keep(ADAPTER)
    path = tmp_path / "adapter-secret"
    path.write_text(f"a new secret which is long enough\n\n{old}\n")

    assert load_secrets(tmp_path) == ("a new secret which is long enough", old)
    assert load_secrets(tmp_path, " one , two") == ("one", "two")
    assert open_store("local:", tmp_path).tiers[1].get(KEY) == ADAPTER
    path.write_text("a new secret which is long enough\n")
    with pytest.raises(AdapterRejected):
        open_store("local:", tmp_path).tiers[1].get(KEY)


@pytest.mark.parametrize("given", ["short", ",", "a secret which is long enough,short"])
def test_a_secret_has_some_length(tmp_path: Path, given: str) -> None:
    with pytest.raises(StoreMisconfigured, match="too short"):
        open_store("local:", tmp_path, secrets=given)


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(StoreUnavailable, match="cannot be made"):
        load_secrets(tmp_path / "home")


def test_no_secret_is_ever_in_a_name_or_a_message(tmp_path: Path, redis: RedisServer) -> None:
    store = open_store(redis.url, tmp_path, secrets=SECRET)
    store.keep(ADAPTER)
    store.close()
    with redis.client() as client:
        everything = b"".join(name + client.get(name) for name in client.keys("*") if client.type(name) == b"string")
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert SECRET.encode() not in everything + files
    assert SECRET not in repr(signer()) + repr(store)


def test_many_threads_on_one_store_find_what_was_put(tmp_path: Path, redis: RedisServer) -> None:
    store = open_store(redis.url, tmp_path, secrets=SECRET, settings=StoreSettings(memory_bytes=3000))
    adapters = [adapter_of(f"task {i}", n_bytes=2000) for i in range(8)]
    wrong: list[object] = []

    def work(turn: int) -> None:
        for i in range(20):
            adapter = adapters[(turn + i) % 8]
            if i % 3 == 0:
                wrong.extend(store.keep(adapter))
            found = store.fetch(adapter.key)
            wrong.extend(found.degraded)
            if found.adapter not in (None, adapter):
                wrong.append(found)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    store.close()

    assert wrong == []
