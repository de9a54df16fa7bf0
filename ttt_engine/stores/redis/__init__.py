"""Adapters in Redis or Valkey; needs the extra `redis`."""

from ttt_engine.stores.redis.store import RedisAdapterStore

__all__ = ["RedisAdapterStore"]
