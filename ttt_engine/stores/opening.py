"""From a URL to a store: which tiers it has, and who hands out the leases. Connects to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttt_engine.errors import StoreMisconfigured
from ttt_engine.stores.envelope import MAX_BYTES
from ttt_engine.stores.leases import FileLeases
from ttt_engine.stores.local import LocalAdapterStore
from ttt_engine.stores.memory import MemoryAdapterStore
from ttt_engine.stores.signing import Signer, load_secrets
from ttt_engine.stores.store import AdapterStore, Leases
from ttt_engine.stores.tenants import DEFAULT_TENANT
from ttt_engine.stores.tiered import TieredAdapterStore

if TYPE_CHECKING:
    from ttt_engine.stores.redis import RedisAdapterStore

REDIS_SCHEMES = ("redis", "rediss", "unix")
SCHEMES = ("local", "memory", *REDIS_SCHEMES)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How much is kept, and for how long."""

    memory_bytes: int = 256 * 2**20  # of loaded adapters, per process
    local_bytes: int = 4 * 2**30  # of files, per tenant
    max_adapter_bytes: int = MAX_BYTES  # of one adapter
    ttl_s: float = 7 * 24 * 3600  # in Redis, of an adapter whose training took 5 s a MB


def open_store(
    url: str,
    home: Path,
    *,
    tenant: str = DEFAULT_TENANT,
    secrets: str | None = None,
    settings: StoreSettings | None = None,
) -> TieredAdapterStore:
    """Return the store that a URL names, with memory before it and, before Redis, the local folder.

    Args:
        url: `memory:`, `local:` (a folder in `home`), `local:/a/folder`, `redis://`, `rediss://` or `unix://`.
        home: where local adapters and the secret are.
        tenant: whose store it is; no other tenant's adapter is ever found in it.
        secrets: separated by commas, the first signs; the file in `home` where None.

    Raises:
        StoreMisconfigured: there is no such store or tenant, or a secret that will not do.
        StoreUnavailable: the secret cannot be made or read.
    """
    settings = settings or StoreSettings()
    scheme, _, place = url.partition(":")
    memory = MemoryAdapterStore(max_bytes=settings.memory_bytes)
    if scheme == "memory":
        return TieredAdapterStore([memory])
    if scheme not in SCHEMES:
        raise StoreMisconfigured(
            f"no store {scheme!r}",
            remedy="Give memory:, local:, local:/a/folder, redis://host, rediss://host or unix:///a/socket.",
        )
    signer = Signer(load_secrets(home, secrets), tenant)
    root = Path(place) if scheme == "local" and place else home / "adapters"
    local = LocalAdapterStore(
        root, signer, max_bytes=settings.local_bytes, max_adapter_bytes=settings.max_adapter_bytes
    )
    tiers: list[AdapterStore] = [memory, local]
    leases: list[Leases] = [FileLeases(local.folder / "leases")]
    if scheme in REDIS_SCHEMES:
        remote = _redis(url, signer, settings)
        tiers.append(remote)
        leases.append(remote)
    return TieredAdapterStore(tiers, leases)


def _redis(url: str, signer: Signer, settings: StoreSettings) -> RedisAdapterStore:
    try:
        from ttt_engine.stores.redis import RedisAdapterStore
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "hiredis"):  # somebody's own module of that name, say
            raise
        raise StoreMisconfigured(
            f"Redis needs a library that is missing ({error.name})", remedy="pip install 'ttt-router[redis]'"
        ) from error
    return RedisAdapterStore(url, signer, ttl_s=settings.ttl_s, max_adapter_bytes=settings.max_adapter_bytes)
