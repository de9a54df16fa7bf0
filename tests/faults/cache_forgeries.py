"""Envelopes with flipped bytes, cut short, forged, or holding a pickle: none may be accepted, each rejected by name."""

from __future__ import annotations

import pickle  # the attacker's
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.adapters import adapter_of, signer
from tests.faults.envelope_forgeries import FORGERIES, Payload, blob_of
from tests.faults.harness import Figure, Harness
from tests.redis_server import redis_server
from ttt_engine.adapter import Adapter
from ttt_engine.errors import AdapterRejected
from ttt_engine.stores import LocalAdapterStore
from ttt_engine.stores.envelope import PIECE_BYTES, open_sealed
from ttt_engine.stores.redis import RedisAdapterStore

Open = Callable[[bytes, str], Adapter]
MOST_MS = 10.0


@dataclass(slots=True)
class Verdicts:
    """What became of blobs that are no adapter of ours."""

    n: int = 0
    n_accepted: int = 0
    untyped: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def opened(blob: bytes, key: str) -> Adapter:
    return open_sealed(blob, key, signer())


def tried(blobs: Iterator[bytes], key: str, open_: Open = opened) -> Verdicts:
    """Open each blob; what is not rejected by name is a failure of one kind or the other."""
    verdicts = Verdicts()
    for blob in blobs:
        verdicts.n += 1
        started = time.perf_counter()
        try:
            open_(blob, key)
            verdicts.n_accepted += 1
        except AdapterRejected:
            pass
        except Exception as error:
            verdicts.untyped.append(f"{type(error).__name__}: {error}")
        verdicts.seconds.append(time.perf_counter() - started)
    return verdicts


def flipped(blob: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """Yield blobs with one byte changed, or two in one of ten, as Redis's own fuzzer does; half of them in the head."""
    rng = random.Random(seed)
    for i in range(n):
        changed = bytearray(blob)
        for place in {rng.randrange(min(len(blob), 4096) if i % 2 else len(blob)) for _ in range(1 + (i % 10 == 0))}:
            changed[place] ^= rng.randrange(1, 256)
        yield bytes(changed)


def cut(blob: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    return (blob[:length] for length in lengths)


@contextmanager
def no_pickle() -> Iterator[list[str]]:
    """Raise where anything is unpickled meanwhile, and list it."""
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "pickle.find_class":
            seen.append(str(arguments))
            raise RuntimeError(f"something was unpickled: {arguments}")

    sys.addaudithook(hook)  # cannot be taken off again, so it is told when to look away
    try:
        yield seen
    finally:
        watching = False


def pickles_met(folder: Path) -> tuple[int, list[str]]:
    """Put pickles where adapters are looked for, in files and in Redis; return how many were met, and unpicklings."""
    adapter, n = adapter_of(), 0
    with redis_server() as server, no_pickle() as seen:
        local, remote = LocalAdapterStore(folder, signer()), RedisAdapterStore(server.url, signer())
        with server.client() as client:
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                payload = pickle.dumps(Payload(), protocol)
                blobs = [payload, payload + bytes(1000), FORGERIES["a pickle as weights, signed"](adapter).blob]
                for blob in blobs:
                    local.folder.mkdir(parents=True, exist_ok=True)
                    local.path(adapter.key).write_bytes(blob)
                    client.set(f"ttt:default:{{{adapter.key}}}:head", blob)
                    for store in (local, remote):
                        try:
                            store.get(adapter.key)
                        except AdapterRejected:
                            n += 1
        remote.close()
    return n, seen


def run(full: bool) -> list[Figure]:
    n_flips, n_cuts = (10_000, 1000) if full else (300, 20)
    small, large = adapter_of(), adapter_of("large", n_bytes=2 * PIECE_BYTES)
    blob, large_blob = blob_of(small), blob_of(large)
    step = 1 if full else 37
    flips = [
        tried(flipped(blob, n_flips // 2), small.key),
        tried(flipped(large_blob, n_flips // 2, seed=1), large.key),
    ]
    cuts = [
        tried(cut(blob, range(0, len(blob), step)), small.key),
        tried(cut(large_blob, random.Random(2).sample(range(len(large_blob)), n_cuts)), large.key),
    ]
    forged = tried((make(small).blob for make in FORGERIES.values()), small.key)
    with tempfile.TemporaryDirectory() as folder:
        n_pickles, unpickled = pickles_met(Path(folder))
    every = [*flips, *cuts, forged]
    untyped = [told for verdicts in every for told in verdicts.untyped]
    # of a few the slowest says more of the machine than of us
    of, took_ms = ("p99", flips[1].quantile_ms(0.99)) if full else ("median", flips[1].quantile_ms(0.5))
    return [
        _count("byte flips accepted", flips),
        _count("truncations accepted", cuts),
        _count(f"forgeries accepted, of {len(FORGERIES)} kinds", [forged]),
        Figure("errors without a name", f"{len(untyped)} {untyped[:2] or ''}".strip(), "0", not untyped),
        Figure(f"time to reject 2 MB, {of}", f"{took_ms:.1f} ms", "at most 10 ms", took_ms <= MOST_MS),
        Figure(
            "unpicklings, of pickles under our key",
            f"{len(unpickled)} of {n_pickles}",
            "0",
            not unpickled and n_pickles > 0,
        ),
    ]


def _count(name: str, verdicts: Sequence[Verdicts]) -> Figure:
    accepted, n = sum(each.n_accepted for each in verdicts), sum(each.n for each in verdicts)
    return Figure(name, f"{accepted} of {n}", "0", accepted == 0)


HARNESS = Harness(
    name="cache-forgeries",
    what="flips 10,000 bytes, cuts at every length, forges in many ways, puts pickles under our key",
    target="nothing accepted, every error typed",
    run=run,
)
