"""What Redis may do to us: each fault is a typed error within a bound, and nothing wrong is ever found."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import ConnectionError, Redis

from tests.adapters import SECRET, adapter_of, signer, spec_of
from tests.faults.proxy import FaultProxy, Toxics
from tests.redis_server import RedisServer, free_port, redis_server
from ttt_engine.adapter import Adapter
from ttt_engine.errors import AdapterRejected, StoreMisconfigured, StoreUnavailable
from ttt_engine.stores import open_store
from ttt_engine.stores.envelope import PIECE_BYTES
from ttt_engine.stores.redis import RedisAdapterStore

ADAPTER = adapter_of(n_bytes=2 * PIECE_BYTES)
KEY = ADAPTER.key
Connect = Callable[..., RedisAdapterStore]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[RedisAdapterStore] = []

    def store(url: str, **more: float) -> RedisAdapterStore:
        made.append(RedisAdapterStore(url, signer(), **more))  # type: ignore[arg-type]  # only pauses are given
        return made[-1]

    yield store
    for each in made:
        each.close()


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", redis.port)) as proxy:
        yield proxy


def timed(call: Callable[[], object]) -> tuple[float, str]:
    """How long a call took, and the code of what it raised."""
    started = time.monotonic()
    try:
        call()
        code = ""
    except StoreUnavailable as error:
        code = error.code
    return time.monotonic() - started, code


def test_through_a_proxy_that_does_nothing_all_is_well(connect: Connect, proxy: FaultProxy) -> None:
    store = connect(proxy.url)
    store.put(ADAPTER)

    assert store.get(KEY) == ADAPTER


def test_a_little_slowness_is_borne(connect: Connect, proxy: FaultProxy) -> None:
    store = connect(proxy.url)
    store.put(ADAPTER)
    proxy.set(Toxics(latency_s=0.001, slice_bytes=30_000))

    assert store.get(KEY) == ADAPTER


@pytest.mark.alone
def test_a_black_hole_costs_two_time_outs_and_then_nothing(connect: Connect, proxy: FaultProxy) -> None:
    store = connect(proxy.url, breaker_pause_s=0.3)
    store.put(ADAPTER)
    proxy.set(Toxics(black_hole=True))
    first, second = timed(lambda: KEY in store), timed(lambda: store.get(KEY))
    third = timed(lambda: store.put(ADAPTER))

    assert [code for _, code in (first, second, third)] == ["timeout"] * 3
    assert first[0] + second[0] < 0.6
    assert third[0] < 0.1
    proxy.set(Toxics())
    assert _got_once_it_is_back(store) == ADAPTER


def _got_once_it_is_back(store: RedisAdapterStore) -> Adapter | None:
    """Read as soon as the store is asked again: what was lost on a slow machine may have opened its breaker."""
    deadline = time.monotonic() + 6
    while timed(lambda: store.get(KEY))[1] and time.monotonic() < deadline:
        time.sleep(0.02)
    return store.get(KEY)


@pytest.mark.parametrize("kind", ["reset_after", "cut_after"])
@pytest.mark.parametrize("n_bytes", [0, 1, 4, 5, 200, 1500, PIECE_BYTES, PIECE_BYTES + 1500, 2 * PIECE_BYTES + 1000])
def test_a_connection_that_breaks_anywhere_is_a_typed_error_and_no_adapter(
    connect: Connect, proxy: FaultProxy, kind: str, n_bytes: int
) -> None:
    writer = connect(proxy.url)
    writer.put(ADAPTER)
    proxy.set(Toxics(reset_after=n_bytes) if kind == "reset_after" else Toxics(cut_after=n_bytes))
    store = connect(proxy.url)

    with pytest.raises(StoreUnavailable) as broken:
        store.get(KEY)

    assert broken.value.code == "connection"
    proxy.set(Toxics())
    assert _got_once_it_is_back(store) == ADAPTER


@pytest.mark.alone
def test_a_trickle_is_given_up(connect: Connect, proxy: FaultProxy) -> None:
    store = connect(proxy.url)
    store.put(ADAPTER)
    proxy.set(Toxics(slice_bytes=10, slice_delay_s=0.001))
    took, code = timed(lambda: store.get(KEY))

    assert code == "timeout"
    assert took < 1.5


@pytest.mark.alone
def test_writing_to_a_slow_server_is_given_up(connect: Connect, proxy: FaultProxy) -> None:
    store, large = connect(proxy.url), adapter_of(n_bytes=16 * PIECE_BYTES)
    proxy.set(Toxics(latency_s=0.2))
    took_s, code = timed(lambda: store.put(large))

    assert code == "timeout"
    assert took_s < 2.5  # all of it would take more than 3 s


def test_a_lease_whose_taking_was_not_heard_of_is_ours(
    connect: Connect, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, heard = connect(redis.url), Redis.set

    def unheard(*args: Any, **more: Any) -> object:
        answer = heard(*args, **more)
        if answer:
            raise ConnectionError("reset")
        return answer

    monkeypatch.setattr(Redis, "set", unheard)
    token = store.take(KEY, 5.0)

    assert token is not None
    assert store.take(KEY, 5.0) is None
    store.release(KEY, token)


def test_a_connection_that_broke_while_idle_is_made_anew(connect: Connect, proxy: FaultProxy) -> None:
    store = connect(proxy.url)
    store.put(ADAPTER)
    proxy.set(Toxics(reset_after=0))
    timed(lambda: KEY in store)
    proxy.set(Toxics())

    assert store.get(KEY) == ADAPTER


def test_a_server_that_starts_later_is_found_without_a_restart(connect: Connect) -> None:
    server = RedisServer()
    store = connect(server.url, breaker_pause_s=0.05)
    codes = [timed(lambda: store.get(KEY))[1] for _ in range(5)]
    try:
        server.start()
        deadline = time.monotonic() + 6
        while timed(lambda: store.put(ADAPTER))[1] and time.monotonic() < deadline:
            time.sleep(0.02)

        assert codes == ["connection"] * 5
        assert store.get(KEY) == ADAPTER
    finally:
        server.stop()


def test_a_server_that_is_killed_and_starts_again_is_a_miss(connect: Connect) -> None:
    with redis_server() as server:
        store = connect(server.url)
        store.put(ADAPTER)
        server.kill()
        assert timed(lambda: store.get(KEY))[1] == "connection"
        server.start()

        assert store.get(KEY) is None


# What Redis says


def test_out_of_memory_is_typed_leaves_no_pieces_and_reads_go_on(connect: Connect) -> None:
    with redis_server(maxmemory="6mb", maxmemory_policy="noeviction") as server:
        store, small = connect(server.url), adapter_of("small")
        store.put(small)
        with pytest.raises(StoreUnavailable) as full:
            store.put(adapter_of("large", n_bytes=8 * PIECE_BYTES))

        assert full.value.code == "OOM"
        assert store.get(small.key) == small
        with server.client() as client:
            assert client.dbsize() == 2


def test_eviction_is_a_miss_and_never_an_error(connect: Connect) -> None:
    with redis_server(maxmemory="8mb", maxmemory_policy="allkeys-lru") as server:
        store = connect(server.url)
        adapters = [adapter_of(f"task {i}", n_bytes=PIECE_BYTES + 200_000) for i in range(12)]
        for adapter in adapters:
            store.put(adapter)
        found = [store.get(adapter.key) for adapter in adapters]

        assert None in found
        assert all(each in (None, adapter) for each, adapter in zip(found, adapters, strict=True))


def test_a_read_only_replica_is_typed_and_does_not_open_the_breaker(connect: Connect, redis: RedisServer) -> None:
    with redis_server(replicaof=f"127.0.0.1 {redis.port}") as replica:
        store = connect(replica.url)
        codes = [timed(lambda: store.put(ADAPTER))[1] for _ in range(5)]

        assert codes == ["READONLY"] * 5
        assert store.get(KEY) is None


def test_a_server_that_is_still_loading_is_typed_and_found_when_it_is_done(connect: Connect) -> None:
    with redis_server() as server:
        with server.client() as client:
            client.mset({f"key {i}": b"x" * 1000 for i in range(1000)})
            client.save()
        server.kill()
        server.options |= {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
        server.start()
        store = connect(server.url, breaker_pause_s=0.05)
        first = timed(lambda: store.get(KEY))[1]
        deadline = time.monotonic() + 15
        while timed(lambda: store.put(ADAPTER))[1] and time.monotonic() < deadline:
            time.sleep(0.02)

        assert first == "LOADING"
        assert store.get(KEY) == ADAPTER


def test_a_server_that_cannot_save_is_typed(connect: Connect) -> None:
    with redis_server(save="1 1") as server:
        store = connect(server.url)
        with server.client() as client:
            (server.folder / "dump.rdb").mkdir()
            client.set("a", "b")
            client.bgsave()
            deadline = time.monotonic() + 10
            while client.info("persistence")["rdb_last_bgsave_status"] == "ok" and time.monotonic() < deadline:
                time.sleep(0.05)

        assert timed(lambda: store.put(ADAPTER))[1] == "MISCONF"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sec/ret@host",
        "redis://host:sec",
        "redis://[sec",
        "redis://host?sec=1",
        "redis://host?db=sec",
        "redis://host?sec=1&cluster=true",
    ],
)
def test_a_url_that_cannot_be_used_is_said_without_a_part_of_it(connect: Connect, url: str) -> None:
    with pytest.raises(StoreMisconfigured, match="cannot be used") as raised:
        connect(url)

    assert "sec" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_sketches_do_not_grow_without_end(
    connect: Connect, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttt_engine.stores.redis.store._MOST_SKETCHES", 5)
    store = connect(redis.url)
    for i in range(9):
        store.put(adapter_of(f"task {i}", sketch=(i, i)))

    assert len(store.sketches(spec_of().kin)) == 5


# Users and rights


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server with a password, a user of the rights we ask for, and one with too few."""
    with redis_server() as server:
        with server.client() as client:
            rights = (
                "+get +getrange +set +exists +unlink +expire +pexpire +rename +hset +hdel +hgetall +hlen +hrandfield "
                "+watch +multi +exec +ping"
            )
            client.execute_command(*f"ACL SETUSER router on >pw ~ttt:default:* resetchannels -@all {rights}".split())
            client.execute_command(*"ACL SETUSER reader on >pw ~ttt:default:* -@all +get +getrange".split())  # noqa: SIM905
            client.execute_command(*f"ACL SETUSER acme on >pw ~ttt:acme:* -@all {rights}".split())
            client.execute_command("ACL", "SETUSER", "default", "on", ">secret")
        yield server


def with_user(server: RedisServer, user: str) -> str:
    return f"redis://{user}@127.0.0.1:{server.port}"


def test_a_user_with_the_rights_we_ask_for_can_do_everything(connect: Connect, guarded: RedisServer) -> None:
    store = connect(with_user(guarded, "router:pw"))
    adapter = adapter_of(sketch=(1, 2))
    store.put(adapter)

    assert store.check() == "answers"
    assert store.get(adapter.key) == adapter
    assert store.sketches(spec_of().kin) == {adapter.key: (1, 2)}
    token = store.take(KEY, 5.0)
    assert token is not None
    assert store.renew(KEY, token, 5.0)
    store.release(KEY, token)
    with guarded.client(username="default", password="secret") as client:
        client.setrange(f"ttt:default:{{{adapter.key}}}:head", 0, "X")
    with pytest.raises(AdapterRejected):
        store.get(adapter.key)


@pytest.mark.parametrize(
    ("user", "code"), [("", "NOAUTH"), ("router:wrong", "WRONGPASS"), ("reader:pw", "NOPERM"), ("acme:pw", "NOPERM")]
)
def test_missing_rights_are_said_with_what_to_do(
    connect: Connect, guarded: RedisServer, user: str, code: str, tmp_path: Path
) -> None:
    url = with_user(guarded, user) if user else guarded.tcp_url
    store = open_store(url, tmp_path, secrets=SECRET)

    with pytest.raises(StoreMisconfigured) as refused:
        store.check()
    store.close()

    assert refused.value.code == code
    assert refused.value.remedy
    assert "pw" not in str(refused.value).replace("password", "")


def test_what_a_check_leaves_behind_that_is_broken_off_goes_by_itself(connect: Connect) -> None:
    with redis_server() as server, server.client() as client:
        client.execute_command(*"ACL SETUSER hasty on >pw ~* +@all -hdel".split())  # noqa: SIM905
        with pytest.raises(StoreMisconfigured):
            connect(with_user(server, "hasty:pw")).check()
        left = client.keys("*")
        ttls_s = [client.ttl(name) for name in left]

    assert len(left) == 2
    assert all(0 < ttl_s <= 10 for ttl_s in ttls_s)


def test_a_ping_that_fails_takes_the_store_from_nobody(connect: Connect) -> None:
    with redis_server() as server:
        store = connect(server.url)
        store.put(adapter_of())
        server.kill()
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                store.ping()
        server.start()

        store.put(adapter_of())  # at once: nothing is paused
        store.ping()


def test_a_tenant_s_user_cannot_read_another_tenant_s_adapters(connect: Connect, guarded: RedisServer) -> None:
    foreign = RedisAdapterStore(with_user(guarded, "router:pw"), signer("acme"))

    with pytest.raises(StoreMisconfigured, match=r"NOPERM|permission"):
        foreign.get(adapter_of(tenant="acme").key)
    foreign.close()


# Clusters, and encryption


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Two nodes, each with half of the slots."""
    nodes = [RedisServer(cluster_enabled="yes", cluster_port=str(free_port())).start() for _ in range(2)]
    try:
        for node, slots in zip(nodes, ("0 8191", "8192 16383"), strict=True):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots.split())
        with nodes[0].client() as client:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port), nodes[1].options["cluster-port"])
        deadline = time.monotonic() + 20
        while not all(_is_whole(node) for node in nodes) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def _is_whole(node: RedisServer) -> bool:
    with node.client() as client:
        told = str(client.execute_command("CLUSTER", "INFO"))
        return "cluster_state:ok" in told.replace("'", "") and "cluster_known_nodes:2" in told.replace("'", "")


def test_a_cluster_keeps_an_adapter_whole_on_one_node_and_spreads_them(
    connect: Connect, cluster: list[RedisServer]
) -> None:
    store = connect(f"{cluster[0].tcp_url}?cluster=true")
    adapters = [adapter_of(f"task {i}", n_bytes=2 * PIECE_BYTES + 7, sketch=(i,)) for i in range(8)]
    for adapter in adapters:
        store.put(adapter)

    assert [store.get(adapter.key) for adapter in adapters] == adapters
    assert all(adapter.key in store for adapter in adapters)
    assert len(store.sketches(spec_of().kin)) == 8
    assert store.check()
    token = store.take(KEY, 5.0)
    assert token is not None
    assert store.renew(KEY, token, 5.0)
    store.release(KEY, token)
    per_node = []
    for node in cluster:
        with node.client() as client:
            per_node.append({name.split(b"{")[1][:64] for name in client.keys("*{*")})
    assert all(per_node)
    assert not per_node[0] & per_node[1]


@pytest.mark.alone
def test_a_cluster_that_is_not_there_is_unavailable(connect: Connect) -> None:
    took, code = timed(lambda: connect("redis://127.0.0.1:1?cluster=true").get(KEY))

    assert code == "connection"
    assert took < 1.0


def test_rediss_is_encrypted_and_the_certificate_is_looked_at(connect: Connect, tmp_path: Path) -> None:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    port, pem = str(free_port()), str(tmp_path / "cert.pem")
    with redis_server(
        tls_port=port, tls_cert_file=pem, tls_key_file=str(tmp_path / "key.pem"), tls_ca_cert_file=pem,
        tls_auth_clients="no",
    ):  # fmt: skip
        store = connect(f"rediss://127.0.0.1:{port}?ssl_ca_certs={pem}")
        store.put(ADAPTER)

        assert store.get(KEY) == ADAPTER
        assert timed(lambda: connect(f"rediss://127.0.0.1:{port}").get(KEY))[1] == "connection"
