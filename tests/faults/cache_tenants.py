"""Several tenants with the same tasks on one store: nobody ever reads a byte of another's."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.adapters import adapter_of, signer, spec_of
from tests.faults.harness import Figure, Harness
from tests.redis_server import RedisServer, redis_server
from ttt_engine.errors import AdapterRefused
from ttt_engine.stores import AdapterStore, LocalAdapterStore
from ttt_engine.stores.redis import RedisAdapterStore

TENANTS = ("acme", "beta", "c-3", "delta", "default")
Make = Callable[[str], AdapterStore]


def reads(stores: dict[str, AdapterStore], n: int, *, n_tasks: int = 20, seed: int = 0) -> tuple[int, int]:
    """Read and write at random, under one's own keys and others'; return how many reads found something, how many
    of these were foreign.
    """
    rng = random.Random(seed)
    n_found = n_foreign = 0
    for _ in range(n):
        reader, owner = rng.choice(TENANTS), rng.choice(TENANTS)
        task = f"task {rng.randrange(n_tasks)}"
        if rng.random() < 0.2:
            stores[reader].put(adapter_of(task, tenant=reader, n_bytes=256))
            continue
        try:
            found = stores[reader].get(spec_of(task, tenant=owner).key)
        except AdapterRefused:
            continue
        if found is not None:
            n_found += 1
            own = adapter_of(task, tenant=reader, n_bytes=256)
            n_foreign += owner != reader or found != own
    return n_found, n_foreign


def local(folder: Path) -> Make:
    return lambda tenant: LocalAdapterStore(folder, signer(tenant))


def remote(server: RedisServer) -> Make:
    return lambda tenant: RedisAdapterStore(server.url, signer(tenant))


def run(full: bool) -> list[Figure]:
    n = 10_000 if full else 400
    figures = []
    with tempfile.TemporaryDirectory() as folder, redis_server() as server:
        for where, make in (("files", local(Path(folder))), ("Redis", remote(server))):
            stores = {tenant: make(tenant) for tenant in TENANTS}
            found, foreign = reads(stores, n)
            for store in stores.values():
                if isinstance(store, RedisAdapterStore):
                    store.close()
            met = foreign == 0 and found > n // 20
            figures.append(Figure(f"foreign reads of {n} calls, {where}", f"{foreign} ({found} hits)", "0", met))
    return figures


HARNESS = Harness(
    name="cache-tenants",
    what="5 tenants write and read the same tasks at random, a fifth of all keys asked for being one's own",
    target="no foreign byte",
    run=run,
)
