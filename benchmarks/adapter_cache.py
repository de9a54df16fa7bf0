"""What the adapter cache costs: a large adapter from a local Redis beside a plain fetch, a cached one beside training.

    python benchmarks/adapter_cache.py                    # both
    python benchmarks/adapter_cache.py --only fetch --megabytes 50 --rounds 30

Prints a line a figure; exit code 1 where a target is missed.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' server and adapters

from icl_engine.language_model import load_model
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from tests.adapters import SECRET, adapter_of, signer
from tests.redis_server import redis_server
from ttt_engine.config import TrainingSettings
from ttt_engine.engine import TttEngine
from ttt_engine.stores import open_store
from ttt_engine.stores.redis import RedisAdapterStore

MOST_TIMES_RAW, LEAST_TIMES_QUICKER = 1.3, 200.0


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds a call takes, and what it gives."""
    started = time.perf_counter()
    given = call()
    return time.perf_counter() - started, given


def fetch(megabytes: int, rounds: int, *, tcp: bool) -> bool:
    """Fetch the same bytes both ways in turn. Each round keeps what it has fetched until the next, as a cache does."""
    with redis_server() as server:
        store = RedisAdapterStore(server.tcp_url if tcp else server.url, signer())
        adapter = adapter_of(n_bytes=megabytes * 2**20)
        store.put(adapter)
        client = store._redis._client
        prefix = f"ttt:default:{{{adapter.key}}}:"
        pieces = sorted(
            (name for name in client.scan_iter(f"{prefix}*") if name.rpartition(b":")[2].isdigit()),
            key=lambda name: int(name.rpartition(b":")[2]),
        )
        ours: list[float] = []
        raw: list[float] = []
        joined: list[float] = []
        got, chunks = None, None
        gc.disable()
        for i in range(rounds + 3):
            took, got = timed(lambda: store.get(adapter.key))
            took_raw, chunks = timed(lambda: [client.get(name) for name in pieces])
            took_joined, _ = timed(lambda: b"".join([client.get(name) for name in pieces]))
            if i >= 3:  # the first few warm up
                ours.append(took)
                raw.append(took_raw)
                joined.append(took_joined)
        gc.enable()
        assert got == adapter
        assert b"".join(chunks) == adapter.weights  # type: ignore[arg-type]  # a list of bytes
        store.close()
    ratio = statistics.median(ours) / statistics.median(raw)
    print(
        f"fetch of {megabytes} MB over {'tcp' if tcp else 'a unix socket'}, median of {rounds}: "
        f"adapter {1000 * statistics.median(ours):.1f} ms (best {1000 * min(ours):.1f}), "
        f"raw pieces {1000 * statistics.median(raw):.1f} ms (best {1000 * min(raw):.1f}), "
        f"raw and joined {1000 * statistics.median(joined):.1f} ms (best {1000 * min(joined):.1f}): "
        f"{ratio:.2f} times raw (target: at most {MOST_TIMES_RAW:g}), "
        f"{statistics.median(ours) / statistics.median(joined):.2f} times raw and joined",
        flush=True,
    )
    return ratio <= MOST_TIMES_RAW


def cached(rounds: int) -> bool:
    """Train an adapter with the embedded model and default settings, then obtain it from each tier."""
    task = Task.from_pairs(
        [([0, 2, 2, 0, 0, 0], [0, 0, 2, 2, 0, 0]), ([3, 3, 3, 0, 0, 0], [0, 3, 3, 3, 0, 0]), ([5, 0, 0], [0, 5, 0])],
        [0, 7, 7, 0, 0, 0],
    )
    model = load_model()
    assert isinstance(model, TransformersModel)
    training, met = TrainingSettings(), True
    with redis_server() as server, tempfile.TemporaryDirectory() as home:
        store = open_store(server.url, Path(home), secrets=SECRET)
        engine = TttEngine(model, store)
        engine.adapt(task, TrainingSettings(steps=1), seed=1)  # the LoRA is put on, the allocator is warm
        training_s, adapted = timed(lambda: engine.adapt(task, training, seed=0))
        n_bytes = len(adapted.adapter.weights)  # type: ignore[attr-defined]
        for name, tiers in (("memory", store.tiers), ("disk", store.tiers[1:2]), ("Redis", store.tiers[2:])):
            alone = TttEngine(model, type(store)(tiers))
            alone.adapt(task, training, seed=0)
            times = [timed(lambda engine=alone: engine.adapt(task, training, seed=0)) for _ in range(rounds)]
            assert all(given.cached for _, given in times)  # type: ignore[attr-defined]
            took = statistics.median(seconds for seconds, _ in times)
            met &= training_s / took >= LEAST_TIMES_QUICKER
            print(
                f"a cached adapter of {n_bytes / 1e6:.1f} MB from {name}: {1000 * took:.1f} ms, median of {rounds}; "
                f"trained in {training_s:.2f} s: {training_s / took:.0f} times quicker (target: at least "
                f"{LEAST_TIMES_QUICKER:g})",
                flush=True,
            )
        store.close()
    return met


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["fetch", "cached"])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    met = True
    if given.only != "cached":
        met &= fetch(given.megabytes, given.rounds, tcp=False)
        met &= fetch(given.megabytes, given.rounds, tcp=True)
    if given.only != "fetch":
        met &= cached(given.rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
