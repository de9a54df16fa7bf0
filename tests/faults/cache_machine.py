"""The cache against a model of it: whatever happens in whatever order, what is found was put there or is nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.adapters import SECRET, adapter_of, signer
from tests.faults.harness import Figure, Harness
from tests.redis_server import RedisServer, redis_server
from ttt_engine.adapter import Adapter
from ttt_engine.stores import LocalAdapterStore, MemoryAdapterStore, Signer, TieredAdapterStore
from ttt_engine.stores.redis import RedisAdapterStore

TENANTS = st.sampled_from(["default", "acme"])
N_TASKS = 3
TASKS = st.integers(0, N_TASKS - 1)
VERSIONS = st.integers(0, 2)


def places(n: int) -> st.SearchStrategy[int]:
    """Places in n bytes, as often near the end as near the start, which small numbers would favour."""
    return st.integers(0, n - 1) | st.integers(0, n - 1).map(lambda place: n - 1 - place)


class CacheMachine(RuleBasedStateMachine):
    """Two tenants on one folder and one Redis, through tiered stores; the model is what was ever put, by key."""

    server: ClassVar[RedisServer]
    steps: ClassVar[int] = 0
    hits: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.put_: dict[tuple[str, int], set[int]] = {}
        self.secrets: tuple[str, ...] = (SECRET,)
        self.remotes: list[RedisAdapterStore] = []
        with self.server.client() as client:
            client.flushall()
        self.open()

    def open(self) -> None:
        self.stores = {tenant: self.store(tenant) for tenant in ("default", "acme")}

    def store(self, tenant: str) -> TieredAdapterStore:
        by = self.signer(tenant)
        local = LocalAdapterStore(Path(self.folder.name), by, max_bytes=40_000)
        remote = RedisAdapterStore(self.server.url, by, breaker_pause_s=0.0)
        self.remotes.append(remote)
        return TieredAdapterStore([MemoryAdapterStore(max_bytes=4000), local, remote])

    def signer(self, tenant: str) -> Signer:
        return signer(tenant, *self.secrets)

    def adapter(self, tenant: str, task: int, version: int = 0) -> Adapter:
        weights = bytes(adapter_of(f"{tenant} {task} {version}", n_bytes=2000).weights)
        return adapter_of(f"task {task}", tenant=tenant, weights=weights)

    def teardown(self) -> None:
        for remote in self.remotes:
            remote.close()
        self.folder.cleanup()

    @rule(tenant=TENANTS, task=TASKS, version=VERSIONS)
    def put(self, tenant: str, task: int, version: int) -> None:
        assert self.stores[tenant].keep(self.adapter(tenant, task, version)) == ()
        self.put_.setdefault((tenant, task), set()).add(version)

    @initialize()
    def put_some(self) -> None:
        for tenant in ("default", "acme"):
            for task in range(N_TASKS):
                self.put(tenant, task, 0)

    @rule()
    def get_all(self) -> None:
        for tenant in ("default", "acme"):
            for task in range(N_TASKS):
                fetched = self.stores[tenant].fetch(self.adapter(tenant, task).key)
                known = [self.adapter(tenant, task, version) for version in self.put_.get((tenant, task), ())]
                assert fetched.adapter is None or fetched.adapter in known
                type(self).hits += fetched.adapter is not None

    @rule()
    def get_all_from_below(self) -> None:
        self.open()  # with nothing in memory
        self.get_all()

    @rule(tenant=TENANTS, task=TASKS)
    def get_a_foreign_key(self, tenant: str, task: int) -> None:
        other = "acme" if tenant == "default" else "default"
        assert self.stores[tenant].fetch(self.adapter(other, task).key).adapter is None

    @rule()
    def change_secret(self) -> None:
        self.secrets = (f"secret number {len(self.secrets)} which is long", *self.secrets)[:3]
        self.open()

    @rule(data=st.data())
    def damage_a_file(self, data: st.DataObject) -> None:
        paths = sorted(Path(self.folder.name).glob("*/*.adapter"))
        if paths:
            path = data.draw(st.sampled_from(paths))
            blob = bytearray(path.read_bytes())
            blob[data.draw(places(len(blob)))] ^= data.draw(st.integers(1, 255))
            path.write_bytes(blob)

    @rule(data=st.data())
    def damage_redis(self, data: st.DataObject) -> None:
        with self.server.client() as client:
            names = sorted(client.keys("*:head")) + sorted(client.keys("*:0"))
            if names:
                name = data.draw(st.sampled_from(names))
                value = client.get(name)
                place = data.draw(places(len(value)))
                client.setrange(name, place, bytes([value[place] ^ data.draw(st.integers(1, 255))]))

    @rule(data=st.data())
    def evict_from_redis(self, data: st.DataObject) -> None:
        with self.server.client() as client:
            names = sorted(client.keys("*"))
            if names:
                client.delete(data.draw(st.sampled_from(names)))

    @rule(data=st.data())
    def swap_two_in_redis(self, data: st.DataObject) -> None:
        with self.server.client() as client:
            names = sorted(client.keys("*:head"))
            if names:
                client.set(data.draw(st.sampled_from(names)), client.get(data.draw(st.sampled_from(names))))

    @rule(data=st.data())
    def swap_two_files(self, data: st.DataObject) -> None:
        paths = sorted(Path(self.folder.name).glob("*/*.adapter"))
        if paths:
            one, other = data.draw(st.sampled_from(paths)), data.draw(st.sampled_from(paths))
            content = one.read_bytes()
            new = other.with_suffix(".swapped")
            new.write_bytes(content)
            os.replace(new, other)

    @rule()
    def empty_redis(self) -> None:
        with self.server.client() as client:
            client.flushall()

    @invariant()
    def local_bytes_are_bounded(self) -> None:
        type(self).steps += 1
        for tenant in ("default", "acme"):
            folder = Path(self.folder.name) / tenant
            if folder.exists():
                assert sum(path.stat().st_size for path in folder.glob("*.adapter")) <= 40_000


def played(machine: type[CacheMachine], n_examples: int, n_steps: int, *, shrink: bool = True) -> int:
    """Play; raise where the model is contradicted. Return how many steps were made."""
    with redis_server() as server:
        machine.server, machine.steps, machine.hits = server, 0, 0
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=n_examples,
                stateful_step_count=n_steps,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    return machine.steps


def run(full: bool) -> list[Figure]:
    n_examples, n_steps = (500, 50) if full else (12, 20)
    steps = played(CacheMachine, n_examples, n_steps)
    hits = CacheMachine.hits
    return [Figure(f"contradictions in {n_examples} runs, {steps} steps", f"0 ({hits} hits)", "0", hits > n_examples)]


HARNESS = Harness(
    name="cache-machine",
    what="puts, gets, damages, swaps, evicts, reopens and changes secrets at random, against a model",
    target="what is found was put under that key by that tenant",
    run=run,
)
