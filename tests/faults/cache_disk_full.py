"""A file system that takes no more: the write is a typed error, nothing half-written is found, and room ends it."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.adapters import adapter_of, signer
from tests.faults.harness import Figure, Harness
from ttt_engine.errors import AdapterRefused, StoreUnavailable
from ttt_engine.stores import LocalAdapterStore
from ttt_engine.stores.envelope import PIECE_BYTES


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond `n_bytes` meanwhile: writing further fails as on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fills(store: LocalAdapterStore, n: int) -> tuple[int, int, int]:
    """Fill up at `n` places of the file; return how often that was not typed, left something, or did not mend."""
    untyped = left = unmended = 0
    for i in range(n):
        adapter = adapter_of(f"task {i}", n_bytes=PIECE_BYTES // 4)
        with files_of_at_most(1 + i * len(adapter.weights) // n):
            try:
                store.put(adapter)
                untyped += 1
            except StoreUnavailable as error:
                untyped += error.code != "full"
            except OSError:
                untyped += 1
        try:
            left += store.get(adapter.key) is not None
        except AdapterRefused:
            left += 1
        left += sum(1 for path in store.folder.iterdir() if path.name.startswith(".new-"))
        store.put(adapter)
        unmended += store.get(adapter.key) != adapter
    return untyped, left, unmended


def run(full: bool) -> list[Figure]:
    n = 50 if full else 8
    with tempfile.TemporaryDirectory() as folder:
        untyped, left, unmended = fills(LocalAdapterStore(Path(folder), signer()), n)
    return [
        Figure(f"full disks of {n} that were no typed error", str(untyped), "0", untyped == 0),
        Figure("half adapters or files left", str(left), "0", left == 0),
        Figure("stores that did not go on with room", str(unmended), "0", unmended == 0),
    ]


HARNESS = Harness(
    name="cache-disk-full",
    what="lets the file system refuse to take more, at 50 places of an adapter's file",
    target="typed, nothing left, goes on when there is room",
    run=run,
)
