"""Adapters in Redis: the head of the envelope under one name, the weights in pieces of a MiB under others.

Pieces are written before the head, so a head is found only after what it speaks of. All names of an adapter share a
hash tag and lie on one node of a cluster, all names of a tenant begin alike, for ACL patterns:

    ttt:{tenant}:{key}:head          key in braces: the hash tag
    ttt:{tenant}:{key}:{weights}:{i} piece i of the weights of that name
    ttt:{tenant}:{key}:lease         who is training it
    ttt:{tenant}:kin:{kin}           hash of key to sketch

Plain commands of Redis 6.2 only: no scripts, no functions. How the server is called is `RedisConnection`'s.
"""

from __future__ import annotations

import logging
import os
import random
import secrets as tokens
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError, WatchError

from ttt_engine.adapter import Adapter, checked_key, kin_of
from ttt_engine.errors import AdapterRejected, StoreUnavailable
from ttt_engine.stores.envelope import (
    FIXED_BYTES,
    MAX_BYTES,
    MAX_HEADER_BYTES,
    Head,
    head_bytes,
    room,
    seal,
)
from ttt_engine.stores.redis.connection import SOCKET_TIMEOUT_S, RedisConnection, check_time
from ttt_engine.stores.signing import Signer
from ttt_engine.stores.sketch import KEPT_BITS

_log = logging.getLogger(__name__)

_SLOWEST_BYTES_PER_S = 20e6  # a fetch slower than this is given up: by then training is nearly as quick
_FIRST_READ_BYTES = 64 * 1024  # holds the head of all but very large adapters
_AHEAD = 2  # pieces asked for before the first has been read
_QUARANTINE_S = 7 * 24 * 3600
_MOST_SKETCHES = 512
_JITTER = 0.1
_WORTH_S_PER_MB = 5.0  # training cost at which the TTL is the one that is set
_WORTH_AT_MOST = 4.0


class RedisAdapterStore:
    """An `AdapterStore` in Redis or Valkey, shared by any number of machines. Connects with the first call.

    Args:
        url: `redis://`, `rediss://` or `unix://`; `?cluster=true` where it names a node of a cluster.
        signer: of one tenant; the store is that tenant's.
        ttl_s: of an adapter whose training took 5 s a MB: what took longer is kept longer, up to four times.
        max_adapter_bytes: of one adapter.

    Raises:
        StoreMisconfigured: the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        signer: Signer,
        *,
        ttl_s: float = 7 * 24 * 3600,
        max_adapter_bytes: int = MAX_BYTES,
        breaker_pause_s: float = 2.0,
        rng: random.Random | None = None,
    ) -> None:
        self.tenant = signer.tenant
        self.holder = tokens.token_hex(8)  # of leases
        self._dead = frozenset[str]()  # other holders
        self._signer = signer
        self._ttl_s = ttl_s
        self._max_adapter_bytes = max_adapter_bytes
        self._rng = rng or random.Random()
        self._checkers, self._pid = _checkers(), os.getpid()
        self._redis = RedisConnection(url, breaker_pause_s=breaker_pause_s)

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None; see `AdapterStore`."""
        return self._redis.call(lambda client: self._get(client, checked_key(key)), "read")

    def put(self, adapter: Adapter) -> None:
        """Write the pieces, then the head; see `AdapterStore`."""
        sealed = seal(adapter, self._signer)
        if len(sealed.head) + len(sealed.weights) > self._max_adapter_bytes:
            raise StoreUnavailable(f"an adapter of {len(sealed.weights)} bytes is larger than the limit", code="full")
        head = Head.read(sealed.head, adapter.key, self._signer, max_bytes=self._max_adapter_bytes)
        ttl_ms = round(1000 * self.ttl_s(adapter))

        def write(client: Any) -> None:
            names = [self._piece(adapter.key, head, i) for i in range(head.n_pieces)]
            deadline = _deadline(head)
            try:
                for name, piece in zip(names, sealed.pieces(), strict=True):
                    check_time(deadline)
                    client.set(name, piece, px=ttl_ms)
                client.set(self._name(adapter.key, "head"), sealed.head, px=ttl_ms)
            except OutOfMemoryError:
                client.unlink(*names)  # half an adapter is of no use to anyone
                raise
            if adapter.sketch:
                self._keep_sketch(client, adapter, ttl_ms)

        self._redis.call(write, "written")

    def __contains__(self, key: str) -> bool:
        return bool(self._redis.call(lambda client: client.exists(self._name(checked_key(key), "head")), "read"))

    def sketches(self, kin: str) -> dict[str, tuple[int, ...]]:
        """Return sketches of adapters of one kin, at most 512; see `SketchedStore`."""
        name = self._kin(kin)

        found = {}
        for key, text in self._redis.call(lambda client: client.hgetall(name), "read").items():
            try:
                sketch = tuple(int(part, 16) for part in text.decode().split(","))
                if all(0 <= number < 2**KEPT_BITS for number in sketch):
                    found[checked_key(key.decode())] = sketch
            except ValueError:  # somebody else's writing; a sketch is only a hint
                continue
        return found

    def ttl_s(self, adapter: Adapter) -> float:
        """Return how long an adapter is kept: longer what is dear to train for its size, and no two the same time."""
        megabytes = max(len(adapter.weights) / 1e6, 1e-3)
        worth = adapter.train_seconds / megabytes / _WORTH_S_PER_MB
        scale = min(max(worth, 1 / _WORTH_AT_MOST), _WORTH_AT_MOST)
        return self._ttl_s * scale * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    # Leases (see `Leases`)

    def take(self, key: str, lease_s: float) -> str | None:
        """Take the lease: SET NX PX; that of a dead holder: compared and set under WATCH."""
        token = f"{self.holder}/{tokens.token_hex(16)}"
        name = self._name(checked_key(key), "lease")
        lease_ms = round(1000 * lease_s)

        def take(client: Any) -> str:
            if client.set(name, token, nx=True, px=lease_ms):
                return token
            return str((client.get(name) or b"").decode())  # ours, where the connection broke before we heard

        held = self._redis.call(take, "written")
        if held == token:
            return token
        if held.partition("/")[0] not in self._dead:
            return None
        return token if self._if_ours(key, held, lambda pipe, name: pipe.set(name, token, px=lease_ms)) else None

    def bury(self, holder: str) -> None:
        """Take note that a holder is dead; see `NamedLeases`."""
        self._dead |= {holder}

    def renew(self, key: str, token: str, lease_s: float) -> bool:
        """Hold the lease longer, if it is ours: compared and set under WATCH."""
        return self._if_ours(key, token, lambda pipe, name: pipe.pexpire(name, round(1000 * lease_s)))

    def release(self, key: str, token: str) -> None:
        """Give the lease back, if it is ours: compared and removed under WATCH."""
        self._if_ours(key, token, lambda pipe, name: pipe.unlink(name))

    # Health

    def ping(self) -> None:
        """See whether the server answers, in one round trip; what is lost by that costs no solve its store.

        Raises:
            StoreMisconfigured: password or rights are wrong.
            StoreUnavailable: it does not answer.
        """
        self._redis.ping()

    def check(self) -> str:
        """Say what server answers; everything the store does is tried under a name of its own.

        Raises:
            StoreMisconfigured: password or rights are wrong.
            StoreUnavailable: it does not answer.
        """
        name = f"ttt:{self.tenant}:{{check-{tokens.token_hex(8)}}}:"

        def check(client: Any) -> str:
            client.set(f"{name}a", b"x", px=10_000)
            client.getrange(f"{name}a", 0, 1)
            client.rename(f"{name}a", f"{name}b")
            client.expire(f"{name}b", 10)
            client.exists(f"{name}b")
            client.hset(f"{name}kin", "a", "1")
            client.expire(f"{name}kin", 10)  # whatever comes of the rest
            client.hdel(f"{name}kin", *client.hrandfield(f"{name}kin", client.hlen(f"{name}kin")))
            client.hgetall(f"{name}kin")
            with client.pipeline(transaction=True) as pipe:
                pipe.watch(f"{name}b")
                pipe.get(f"{name}b")
                pipe.multi()
                pipe.pexpire(f"{name}b", 1000)
                pipe.execute()
            client.unlink(f"{name}b", f"{name}kin")
            try:
                about = client.info("server")
            except RedisError:  # a user need not have the right to ask
                return "answers"
            first = about if "redis_version" in about else next(iter(about.values()))
            return f"{first.get('server_name', 'redis')} {first.get('valkey_version', first['redis_version'])}"

        return self._redis.call(check, "checked")

    def close(self) -> None:
        """Close the connections."""
        self._checkers.shutdown(wait=False)
        self._redis.close()

    # Reading

    def _get(self, client: Any, key: str) -> Adapter | None:
        try:
            head = self._read_head(client, key)
            if head is None:
                return None
            weights = self._read_weights(client, key, head)
            if weights is not None:
                return head.adapter(weights)
        except AdapterRejected:
            self._quarantine(client, key)
            raise
        client.unlink(self._name(key, "head"))  # a piece was evicted or has run out: the rest is of no use
        return None

    def _read_head(self, client: Any, key: str) -> Head | None:
        name = self._name(key, "head")
        start = client.getrange(name, 0, _FIRST_READ_BYTES - 1)
        if not start:
            return None
        if len(start) == _FIRST_READ_BYTES and head_bytes(start) > _FIRST_READ_BYTES:
            start = client.getrange(name, 0, FIXED_BYTES + MAX_HEADER_BYTES)
        head = Head.read(start, key, self._signer, max_bytes=self._max_adapter_bytes)
        if len(head) != len(start):
            raise AdapterRejected("size", f"a head of {len(start)} bytes that says it has {len(head)}")
        return head

    def _read_weights(self, client: Any, key: str, head: Head) -> memoryview | None:
        """Return the checked weights; None where a piece is missing.

        Each piece is received where it will stay and checked while the server sends the next.
        """
        weights = room(head.n_weights)
        deadline = _deadline(head)
        checked: list[Future[None]] = []
        if self._pid != os.getpid():  # forked: the thread has stayed behind
            self._checkers, self._pid = _checkers(), os.getpid()
        # one byte more than there should be is asked for, so that a longer value shows and is not read
        wanted = [("GETRANGE", self._piece(key, head, i), 0, len(weights[head.piece(i)])) for i in range(head.n_pieces)]
        with self._redis.replies(client, self._name(key, "head")) as replies:
            for command in wanted[:_AHEAD]:
                replies.ask(*command)
            for i in range(head.n_pieces):
                piece = weights[head.piece(i)]
                if not replies.receive(piece, deadline):
                    return None
                for command in wanted[i + _AHEAD : i + _AHEAD + 1]:
                    replies.ask(*command)
                checked.append(self._checkers.submit(head.check_piece, i, piece))
            for each in checked:
                each.result()
        return weights.toreadonly()

    def _quarantine(self, client: Any, key: str) -> None:
        """Move a head that was rejected out of the way, for a week; its pieces run out by themselves."""
        try:
            client.rename(self._name(key, "head"), self._name(key, "rejected"))
            client.expire(self._name(key, "rejected"), _QUARANTINE_S)
        except RedisError as error:
            _log.warning("a rejected adapter could not be moved away: %s", error)

    # Writing

    def _keep_sketch(self, client: Any, adapter: Adapter, ttl_ms: int) -> None:
        name = self._kin(kin_of(adapter.spec))
        client.hset(name, adapter.key, ",".join(f"{number:x}" for number in adapter.sketch))
        n_too_many = client.hlen(name) - _MOST_SKETCHES
        if n_too_many > 0:  # any will do: a sketch is a hint, and many are of adapters that are gone
            client.hdel(name, *client.hrandfield(name, n_too_many))
        client.pexpire(name, ttl_ms)

    def _if_ours(self, key: str, token: str, change: Callable[[Any, str], object]) -> bool:
        name = self._name(checked_key(key), "lease")

        def compare(client: Any) -> bool:
            with client.pipeline(transaction=True) as pipe:
                try:
                    pipe.watch(name)
                    if pipe.get(name) != token.encode():
                        return False
                    pipe.multi()
                    change(pipe, name)
                    pipe.execute()
                    return True
                except WatchError:
                    return False

        return self._redis.call(compare, "written")

    # Names

    def _name(self, key: str, what: str) -> str:
        return f"ttt:{self.tenant}:{{{key}}}:{what}"

    def _piece(self, key: str, head: Head, i: int) -> str:
        return self._name(key, f"{head.weights_id}:{i}")

    def _kin(self, kin: str) -> str:
        return f"ttt:{self.tenant}:kin:{checked_key(kin)}"


def _checkers() -> ThreadPoolExecutor:
    """Return the one thread that checks pieces, in their order; it starts with the first."""
    return ThreadPoolExecutor(1, thread_name_prefix="ttt-router-adapter-check")


def _deadline(head: Head) -> float:
    """Return until when the weights must have been received or sent."""
    return time.monotonic() + 2 * SOCKET_TIMEOUT_S + head.n_weights / _SLOWEST_BYTES_PER_S
