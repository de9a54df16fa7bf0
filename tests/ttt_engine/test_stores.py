"""A store may have lost an adapter at any time; it never hands out a wrong one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adapters import adapter_of, signer, spec_of
from tests.faults.envelope_forgeries import FORGERIES, blob_of
from tests.redis_server import RedisServer
from ttt_engine.errors import AdapterRefused, AdapterRejected, StoreUnavailable
from ttt_engine.stores import AdapterStore, LocalAdapterStore, MemoryAdapterStore
from ttt_engine.stores.envelope import PIECE_BYTES
from ttt_engine.stores.redis import RedisAdapterStore
from ttt_engine.stores.store import SketchedStore

ADAPTER = adapter_of()
KEY, OTHER_KEY = ADAPTER.key, spec_of("another task").key
KINDS = ("memory", "local", "redis")


@pytest.fixture
def make(tmp_path: Path, redis: RedisServer) -> Iterator[Callable[..., AdapterStore]]:
    made: list[RedisAdapterStore] = []

    def store(kind: str, tenant: str = "default") -> AdapterStore:
        if kind == "memory":
            return MemoryAdapterStore()
        if kind == "local":
            return LocalAdapterStore(tmp_path / "not" / "yet" / "there", signer(tenant))
        made.append(RedisAdapterStore(redis.url, signer(tenant)))
        return made[-1]

    yield store
    for each in made:
        each.close()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, make: Callable[..., AdapterStore]) -> AdapterStore:
    return make(request.param)


@pytest.fixture
def local(tmp_path: Path) -> LocalAdapterStore:
    return LocalAdapterStore(tmp_path / "adapters", signer())


# Every store


@pytest.mark.parametrize("n_bytes", [64, PIECE_BYTES, 3 * PIECE_BYTES + 123])
def test_what_is_put_is_found_unchanged(store: AdapterStore, n_bytes: int) -> None:
    adapter = adapter_of(n_bytes=n_bytes, sketch=(1, 2**32 - 1), parents=("f" * 64,))
    store.put(adapter)

    assert adapter.key in store
    assert store.get(adapter.key) == adapter


def test_what_was_not_put_is_not_found(store: AdapterStore) -> None:
    store.put(ADAPTER)

    assert OTHER_KEY not in store
    assert store.get(OTHER_KEY) is None


def test_adapters_are_kept_apart_by_key(store: AdapterStore) -> None:
    several = [adapter_of(f"task {i}") for i in range(3)]
    for each in several:
        store.put(each)

    assert [store.get(each.key) for each in several] == several


def test_putting_the_same_again_changes_nothing(store: AdapterStore) -> None:
    store.put(ADAPTER)
    store.put(ADAPTER)

    assert store.get(KEY) == ADAPTER


def test_the_last_that_was_put_under_a_key_is_found(store: AdapterStore) -> None:
    later = adapter_of(weights=bytes(adapter_of("other weights").weights))
    store.put(ADAPTER)
    store.put(later)

    assert store.get(KEY) == later


def test_sketches_are_those_of_the_kin_that_is_asked_for(store: AdapterStore) -> None:
    assert isinstance(store, SketchedStore)
    mine, sibling = adapter_of("a", sketch=(1, 2)), adapter_of("b", sketch=(3, 4))
    for each in (mine, sibling, adapter_of("c"), adapter_of(spec=spec_of("d", base="x"), sketch=(5, 6))):
        store.put(each)

    assert store.sketches(spec_of().kin) == {mine.key: (1, 2), sibling.key: (3, 4)}


def test_of_several_writers_one_is_last_and_nothing_is_mixed(store: AdapterStore) -> None:
    variants = [adapter_of(weights=bytes(adapter_of(f"v{i}", n_bytes=2 * PIECE_BYTES).weights)) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        puts = [pool.submit(store.put, variants[i % 4]) for i in range(16)]
        found = [pool.submit(store.get, KEY) for _ in range(32)]

    assert [put.result() for put in puts] == [None] * 16
    assert all(each.result() in (None, *variants) for each in found)
    assert store.get(KEY) in variants


@pytest.mark.parametrize("kind", ["local", "redis"])
def test_another_store_on_the_same_place_finds_it(make: Callable[..., AdapterStore], kind: str) -> None:
    make(kind).put(ADAPTER)

    assert make(kind).get(KEY) == ADAPTER


@pytest.mark.parametrize("kind", ["local", "redis"])
def test_a_tenant_finds_nothing_of_another_s(make: Callable[..., AdapterStore], kind: str) -> None:
    make(kind).put(ADAPTER)
    other = make(kind, "acme")

    assert KEY not in other
    assert other.get(KEY) is None
    assert isinstance(other, SketchedStore)
    assert other.sketches(spec_of().kin) == {}


@pytest.mark.parametrize("kind", ["local", "redis"])
def test_an_adapter_that_cannot_be_named_is_not_taken(make: Callable[..., AdapterStore], kind: str) -> None:
    for name in ("", "../../etc/passwd", "a" * 63, "A" * 64, f"{KEY}\n"):
        with pytest.raises(ValueError, match="no key"):
            make(kind).get(name)


# Memory


def test_memory_keeps_what_was_used_last_and_never_more_than_its_bytes() -> None:
    store = MemoryAdapterStore(max_bytes=3 * len(ADAPTER.weights))
    a, b, c, d = (adapter_of(name) for name in "abcd")
    for each in (a, b, c):
        store.put(each)
    store.get(a.key)
    store.put(d)

    assert [each.key in store for each in (a, b, c, d)] == [True, False, True, True]
    store.put(adapter_of("large", n_bytes=100_000))
    assert store.get(spec_of("large").key) is None
    assert [each.key in store for each in (a, b, c, d)] == [True, False, True, True]


# The folder


def test_looking_makes_no_folder(local: LocalAdapterStore) -> None:
    assert local.get(KEY) is None
    assert KEY not in local
    assert local.sketches(spec_of().kin) == {}
    assert not local.root.exists()


def test_an_adapter_is_one_file_and_nothing_is_left_beside_it(local: LocalAdapterStore) -> None:
    local.put(ADAPTER)
    local.put(ADAPTER)

    assert [path.name for path in local.folder.iterdir()] == [f"{KEY}.adapter"]
    assert local.path(KEY).read_bytes() == blob_of(ADAPTER)


def test_the_folder_keeps_what_was_used_last_and_never_more_than_its_bytes(tmp_path: Path) -> None:
    size = len(blob_of(ADAPTER))
    store = LocalAdapterStore(tmp_path, signer(), max_bytes=3 * size + 300)
    for i, name in enumerate("abc"):
        store.put(adapter_of(name))
        os.utime(store.path(spec_of(name).key), (i, i))
    store.get(spec_of("a").key)
    store.put(adapter_of("d"))

    assert [spec_of(name).key in store for name in "abcd"] == [True, False, True, True]
    with pytest.raises(StoreUnavailable) as refused:
        store.put(adapter_of("large", n_bytes=100_000))
    assert refused.value.code == "full"


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "another's": lambda path: path.write_bytes(blob_of(adapter_of("another task"))),
    "text": lambda path: path.write_text("{}"),
}


@pytest.mark.parametrize("what", sorted(DAMAGE))
def test_a_damaged_adapter_is_rejected_put_away_and_makes_room_for_the_next(
    local: LocalAdapterStore, what: str
) -> None:
    local.put(ADAPTER)
    DAMAGE[what](local.path(KEY))

    with pytest.raises(AdapterRejected) as rejected:
        local.get(KEY)

    assert KEY not in local
    assert local.get(KEY) is None
    assert [path.name for path in (local.folder / "quarantine").iterdir()] == [f"{KEY}.{rejected.value.reason}"]
    local.put(ADAPTER)
    assert local.get(KEY) == ADAPTER


def test_the_quarantine_keeps_the_last_few(local: LocalAdapterStore) -> None:
    for i in range(20):
        adapter = adapter_of(f"task {i}")
        local.put(adapter)
        local.path(adapter.key).write_bytes(b"no adapter")
        with pytest.raises(AdapterRejected):
            local.get(adapter.key)

    assert len(list((local.folder / "quarantine").iterdir())) == 16


def test_an_adapter_under_another_s_name_is_rejected(local: LocalAdapterStore) -> None:
    local.put(ADAPTER)
    shutil.copy(local.path(KEY), local.path(OTHER_KEY))

    with pytest.raises(AdapterRefused):
        local.get(OTHER_KEY)

    assert local.get(KEY) == ADAPTER


def test_what_a_killed_writer_left_is_never_found_and_swept_after_an_hour(local: LocalAdapterStore) -> None:
    local.put(ADAPTER)
    left = local.path(KEY).rename(local.folder / ".new-1234")

    assert KEY not in local
    assert local.get(KEY) is None
    local.put(adapter_of("a"))
    assert left.exists()
    os.utime(left, (0, 0))
    LocalAdapterStore(local.root, signer()).put(adapter_of("b"))
    assert not left.exists()


def test_a_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    local = LocalAdapterStore(tmp_path / "file", signer())

    assert KEY not in local
    with pytest.raises(StoreUnavailable, match="file"):
        local.get(KEY)
    with pytest.raises(StoreUnavailable, match="file"):
        local.put(ADAPTER)


def test_a_full_disk_is_unavailable_and_leaves_nothing_behind(
    local: LocalAdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StoreUnavailable, match="No space left") as caught:
        local.put(ADAPTER)

    assert caught.value.code == "full"
    assert list(local.folder.iterdir()) == []


# Redis


@pytest.fixture
def remote(make: Callable[..., AdapterStore]) -> RedisAdapterStore:
    store = make("redis")
    assert isinstance(store, RedisAdapterStore)
    return store


def names(redis: RedisServer) -> list[str]:
    with redis.client() as client:
        return sorted(name.decode() for name in client.keys("*"))


def test_every_name_in_redis_is_the_tenant_s_and_an_adapter_s_share_a_hash_tag(
    remote: RedisAdapterStore, redis: RedisServer
) -> None:
    remote.put(adapter_of(n_bytes=2 * PIECE_BYTES, sketch=(1,)))

    found = names(redis)
    assert all(name.startswith("ttt:default:") for name in found)
    assert len([name for name in found if f"{{{KEY}}}" in name]) == len(found) - 1 == 4


def test_everything_in_redis_runs_out(remote: RedisAdapterStore, redis: RedisServer) -> None:
    remote.put(adapter_of(sketch=(1,)))

    with redis.client() as client:
        assert all(0 < client.pttl(name) <= 4.4 * 7 * 24 * 3600 * 1000 for name in names(redis))


def test_what_is_dear_for_its_size_is_kept_longer_and_no_two_expire_together(remote: RedisAdapterStore) -> None:
    times = {s: [remote.ttl_s(adapter_of(train_seconds=s, n_bytes=10**6)) for _ in range(50)] for s in (0.1, 5, 1e6)}

    day = 24 * 3600
    assert all(0.25 * 0.9 * 7 * day <= ttl <= 0.25 * 1.1 * 7 * day for ttl in times[0.1])
    assert all(0.85 * 7 * day <= ttl <= 1.15 * 7 * day for ttl in times[5])
    assert all(3.6 * 7 * day <= ttl <= 4.4 * 7 * day for ttl in times[1e6])
    assert len(set(times[5])) == 50


@pytest.mark.parametrize("i", [0, 1, 2])
def test_an_adapter_of_which_a_piece_is_gone_is_a_miss(remote: RedisAdapterStore, redis: RedisServer, i: int) -> None:
    remote.put(adapter_of(n_bytes=3 * PIECE_BYTES))
    with redis.client() as client:
        client.delete(next(name for name in names(redis) if name.endswith(f":{i}")))

    assert remote.get(KEY) is None
    assert KEY not in remote
    remote.put(ADAPTER)
    assert remote.get(KEY) == ADAPTER


@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "flipped", "huge"])
def test_a_piece_that_was_changed_is_rejected(remote: RedisAdapterStore, redis: RedisServer, change: str) -> None:
    remote.put(adapter_of(n_bytes=3 * PIECE_BYTES))
    name = next(name for name in names(redis) if name.endswith(":1"))
    with redis.client() as client:
        piece = client.get(name)
        changed = {
            "shorter": piece[:-1], "longer": piece + b"x", "empty": b"", "flipped": b"x" + piece[1:],
            "huge": piece * 20,
        }[change]  # fmt: skip
        client.set(name, changed)

    if change == "empty":  # as if it were not there
        assert remote.get(KEY) is None
    else:
        with pytest.raises(AdapterRejected):
            remote.get(KEY)
    assert remote.get(KEY) is None
    remote.put(ADAPTER)
    assert remote.get(KEY) == ADAPTER


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_forgery_in_redis_is_rejected_and_put_away(remote: RedisAdapterStore, redis: RedisServer, name: str) -> None:
    blob = FORGERIES[name](ADAPTER).blob
    with redis.client() as client:
        client.set(f"ttt:default:{{{KEY}}}:head", blob)

    with pytest.raises(AdapterRejected):
        remote.get(KEY)

    assert remote.get(KEY) is None
    assert any(name.endswith(":rejected") for name in names(redis))


def test_of_sketches_in_redis_only_those_with_numbers_of_32_bits_count(
    remote: RedisAdapterStore, redis: RedisServer
) -> None:
    remote.put(adapter_of(sketch=(1, 2**32 - 1)))
    with redis.client() as client:
        (kin,) = (name for name in names(redis) if ":kin:" in name)
        for i, number in enumerate(("-1", f"{2**32:x}", f"{2**63:x}")):
            client.hset(kin, str(i) * 64, f"1,{number}")

    assert remote.sketches(spec_of().kin) == {KEY: (1, 2**32 - 1)}


def test_values_of_other_kinds_are_typed_errors(remote: RedisAdapterStore, redis: RedisServer) -> None:
    remote.put(adapter_of(n_bytes=3 * PIECE_BYTES))
    piece = next(name for name in names(redis) if name.endswith(":1"))
    with redis.client() as client:
        client.delete(piece)
        client.lpush(piece, "a list")
    with pytest.raises(StoreUnavailable):
        remote.get(KEY)
    with redis.client() as client:
        client.delete(f"ttt:default:{{{KEY}}}:head")
        client.hset(f"ttt:default:{{{KEY}}}:head", "a", "hash")
    with pytest.raises(StoreUnavailable):
        remote.get(KEY)


def test_a_store_can_be_used_after_a_fork(remote: RedisAdapterStore) -> None:
    adapter = adapter_of(n_bytes=3 * PIECE_BYTES)
    remote.put(adapter)
    assert remote.get(adapter.key) == adapter
    pid = os.fork()
    if pid == 0:
        os._exit(0 if remote.get(adapter.key) == adapter else 1)

    assert os.waitpid(pid, 0)[1] == 0
    assert remote.get(adapter.key) == adapter


def test_a_lease_is_one_holder_s_until_it_is_released_or_runs_out(remote: RedisAdapterStore) -> None:
    first = remote.take(KEY, 5.0)
    assert first is not None
    assert remote.take(KEY, 5.0) is None
    assert remote.renew(KEY, first, 5.0)
    assert not remote.renew(KEY, "somebody else", 5.0)
    remote.release(KEY, "somebody else")
    assert remote.take(KEY, 5.0) is None
    remote.release(KEY, first)
    short = remote.take(KEY, 0.05)
    assert short is not None
    time.sleep(0.1)
    assert not remote.renew(KEY, short, 5.0)
    assert remote.take(KEY, 5.0) is not None


def test_a_lease_of_a_holder_that_is_known_to_be_dead_can_be_taken(
    make: Callable[..., AdapterStore], remote: RedisAdapterStore
) -> None:
    adapter = adapter_of()
    other = make("redis")
    assert isinstance(other, RedisAdapterStore)
    remote.holder = "worker-1"
    dead = remote.take(adapter.key, 60.0)
    before = other.take(adapter.key, 60.0)
    other.bury("worker-2")
    of_another = other.take(adapter.key, 60.0)
    other.bury("worker-1")
    token = other.take(adapter.key, 60.0)

    assert dead is not None
    assert (before, of_another) == (None, None)
    assert token is not None
    assert not remote.renew(adapter.key, dead, 60.0)  # should it be alive after all
    remote.release(adapter.key, dead)
    assert other.renew(adapter.key, token, 60.0)


def test_importing_the_stores_loads_neither_redis_nor_numpy() -> None:
    code = "import sys, ttt_engine.stores; print({'redis', 'hiredis', 'numpy', 'torch'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
