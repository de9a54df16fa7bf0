"""A Redis that is full, forgets, refuses, or dies in the middle of a write: misses and typed errors, nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from random import Random

from tests.adapters import adapter_of, signer
from tests.faults.harness import Figure, Harness
from tests.faults.proxy import FaultProxy, Toxics
from tests.redis_server import RedisServer, redis_server
from ttt_engine.errors import AdapterRefused, StoreUnavailable
from ttt_engine.stores.envelope import PIECE_BYTES
from ttt_engine.stores.redis import RedisAdapterStore


def written_and_read(server: RedisServer, n: int, n_bytes: int) -> Counter[str]:
    """Put `n` adapters and read all of them; count how each ended."""
    store, seen = RedisAdapterStore(server.url, signer()), Counter[str]()
    for i in range(n):
        try:
            store.put(adapter_of(f"task {i}", n_bytes=n_bytes))
            seen["put"] += 1
        except StoreUnavailable as error:
            seen[f"put {error.code}"] += 1
        except Exception as error:
            seen[f"untyped {type(error).__name__}"] += 1
    for i in range(n):
        wanted = adapter_of(f"task {i}", n_bytes=n_bytes)
        try:
            found = store.get(wanted.key)
            seen["miss" if found is None else "hit" if found == wanted else "wrong"] += 1
        except StoreUnavailable as error:
            seen[f"get {error.code}"] += 1
        except Exception as error:
            seen[f"untyped {type(error).__name__}"] += 1
    store.close()
    return seen


def killed_while_writing(store_type: type[RedisAdapterStore], n: int, seed: int = 0) -> Counter[str]:
    """Kill a server that keeps its data (an append-only file) while an adapter is being written; look what is there."""
    rng, seen = Random(seed), Counter[str]()
    with redis_server(appendonly="yes", appendfsync="always") as server:
        for i in range(n):
            wanted = adapter_of(f"task {i}", n_bytes=4 * PIECE_BYTES)
            store = store_type(server.url, signer())
            killer = threading.Timer(rng.uniform(0.0, 0.04), server.kill)
            killer.start()
            try:
                store.put(wanted)
                seen["put"] += 1
            except StoreUnavailable as error:
                seen[f"put {error.code}"] += 1
            killer.join()
            store.close()
            server.start()
            _look(store_type(server.url, signer()), wanted.key, wanted, seen)
            with server.client() as client:
                client.flushall()
    return seen


def cut_while_writing(store_type: type[RedisAdapterStore], n: int) -> Counter[str]:
    """Reset the connection after so many replies of a write, at every place in it; look what is there."""
    seen = Counter[str]()
    with redis_server() as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        for i in range(n):
            wanted = adapter_of(f"task {i}", n_bytes=4 * PIECE_BYTES)
            proxy.set(Toxics(reset_after=5 * (i % 5)))  # a reply to SET has five bytes: `+OK` and the line's end
            store = store_type(proxy.url, signer())
            try:
                store.put(wanted)
                seen["put"] += 1
            except StoreUnavailable as error:
                seen[f"put {error.code}"] += 1
            store.close()
            _look(store_type(server.url, signer()), wanted.key, wanted, seen)
    return seen


def _look(store: RedisAdapterStore, key: str, wanted: object, seen: Counter[str]) -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            announced = key in store
            found = store.get(key)
        except AdapterRefused:
            seen["rejected"] += 1
        except StoreUnavailable:
            time.sleep(0.01)
            continue
        else:
            seen["hit" if found == wanted else "wrong" if found is not None else "half" if announced else "miss"] += 1
        break
    store.close()


def run(full: bool) -> list[Figure]:
    n, n_kills = (1000, 50) if full else (40, 2)
    with redis_server(maxmemory="8mb", maxmemory_policy="allkeys-lru") as server:
        evicting = written_and_read(server, n, 100_000 if full else 600_000)
    with redis_server(maxmemory="4mb", maxmemory_policy="noeviction") as server:
        full_up = written_and_read(server, n // 4, 100_000 if full else 600_000)
    cuts = cut_while_writing(RedisAdapterStore, 5 * n_kills)
    kills = killed_while_writing(RedisAdapterStore, n_kills)
    kept = full_up["hit"] == full_up["put"] > 0
    typed = full_up["put OOM"] > 0 and set(full_up) <= {"put", "put OOM", "hit", "miss"}
    return [
        Figure(
            f"evicting, {n} adapters: wrong or untyped", _told(evicting), "0 wrong, all else hit or miss",
            set(evicting) <= {"put", "hit", "miss"} and evicting["miss"] > 0 < evicting["hit"],
        ),
        Figure(
            "full without eviction: wrong or untyped", _told(full_up), "typed OOM, what was kept is read",
            kept and typed,
        ),
        Figure("connection reset in a write", _told(cuts), "whole or not there", not _bad(cuts) and cuts["miss"] > 0),
        Figure(f"killed in a write, {n_kills} times", _told(kills), "whole or not there", not _bad(kills)),
    ]  # fmt: skip


def _bad(seen: Counter[str]) -> bool:
    return any(name in ("wrong", "rejected", "half") or name.startswith("untyped") for name in seen)


def _told(seen: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(seen.items()))


HARNESS = Harness(
    name="cache-pressure",
    what="fills Redis with and without eviction, and breaks off writes: connections reset, server killed",
    target="misses and typed errors, nothing else; adapters are whole or not there",
    run=run,
)
