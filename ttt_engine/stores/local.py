"""Adapters as files on disk, one signed envelope each, named by their key; a folder for each tenant.

A file appears whole or not at all: written beside its place, synced, moved there, the folder synced. Of too many bytes,
what was used longest ago goes first. What fails its checks is moved into `quarantine`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path

from ttt_engine.adapter import Adapter, checked_key, kin_of
from ttt_engine.errors import AdapterRejected, StoreUnavailable
from ttt_engine.stores.envelope import FIXED_BYTES, MAX_BYTES, Head, head_bytes, open_sealed, room, seal
from ttt_engine.stores.signing import Signer

_SUFFIX = ".adapter"
_NEW = ".new-"
_COUNT_EVERY_S = 60.0  # looking at thousands of files at every `put` would take longer than writing one
_ABANDONED_S = 3600.0  # a file that is being written for longer has been left by a process that died
_KEPT_IN_QUARANTINE = 16
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalAdapterStore:
    """An `AdapterStore` in a folder; made with the first `put`, shared by any number of processes.

    Args:
        root: the folder of all tenants.
        signer: of one tenant; the store is that tenant's.
        max_bytes: of all the tenant's adapters together; what other processes write counts within a minute.
        max_adapter_bytes: of one adapter.
    """

    def __init__(
        self, root: Path, signer: Signer, *, max_bytes: int = 4 * 2**30, max_adapter_bytes: int = MAX_BYTES
    ) -> None:
        self.root = root
        self.folder = root / signer.tenant
        self.max_bytes = max_bytes
        self.max_adapter_bytes = max_adapter_bytes
        self._signer = signer
        self._kept: int | None = None  # bytes in the folder, as far as this store knows
        self._counted_at = 0.0
        self._sketches: dict[tuple[str, int, int], tuple[str, tuple[int, ...]]] = {}  # by file: its kin and sketch

    def path(self, key: str) -> Path:
        """Return where the adapter under `key` is kept."""
        return self.folder / f"{checked_key(key)}{_SUFFIX}"

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None; see `AdapterStore`."""
        path = self.path(key)
        try:
            blob = self._read(path)
            if blob is None:
                return None
            adapter = open_sealed(blob, key, self._signer, max_bytes=self.max_adapter_bytes)
        except AdapterRejected as error:
            self._quarantine(path, error.reason)
            raise
        except OSError as error:
            raise _unavailable("read", path, error) from error
        with contextlib.suppress(OSError):  # a folder that may not be written only loses its order of use
            os.utime(path)
        return adapter

    def put(self, adapter: Adapter) -> None:
        """Write the file beside its place, then move it there; see `AdapterStore`."""
        path, sealed = self.path(adapter.key), seal(adapter, self._signer)
        n_bytes = len(sealed.head) + len(sealed.weights)
        if n_bytes > min(self.max_bytes, self.max_adapter_bytes):
            raise StoreUnavailable(f"an adapter of {n_bytes} bytes is larger than the store takes", code="full")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(n_bytes, path)
            handle, new = tempfile.mkstemp(prefix=_NEW, dir=self.folder)
            try:
                with os.fdopen(handle, "wb", buffering=0) as file:
                    for part in (memoryview(sealed.head), sealed.weights):
                        while part:  # a disk that fills up may take a part
                            part = part[file.write(part) :]
                    os.fsync(file.fileno())
                os.replace(new, path)
            except BaseException:
                os.unlink(new)
                raise
            _sync_folder(self.folder)
        except OSError as error:
            raise _unavailable("write", self.folder, error) from error

    def __contains__(self, key: str) -> bool:
        return os.path.exists(self.path(key))  # a folder that may not be read is a miss, not an error

    def sketches(self, kin: str) -> dict[str, tuple[int, ...]]:
        """Return the sketches of adapters of one kin, read from the heads of their files; see `SketchedStore`."""
        found: dict[tuple[str, int, int], tuple[str, tuple[int, ...]]] = {}
        try:
            files = self._files()
        except OSError as error:
            raise _unavailable("read", self.folder, error) from error
        for entry, about in files:
            name = (entry.name, about.st_ino, about.st_size)
            known = self._sketches.get(name)
            found[name] = known if known is not None else self._sketch(Path(entry.path))
        self._sketches = found
        return {
            name.removesuffix(_SUFFIX): sketch for (name, *_), (of, sketch) in found.items() if of == kin and sketch
        }

    def _sketch(self, path: Path) -> tuple[str, tuple[int, ...]]:
        try:
            with path.open("rb") as file:
                start = file.read(FIXED_BYTES)
                start += file.read(head_bytes(start) - len(start))
            head = Head.read(start, path.name.removesuffix(_SUFFIX), self._signer)
        except (OSError, AdapterRejected):
            return "", ()  # it shows when the adapter is asked for
        return kin_of(head.spec), head.sketch

    def _read(self, path: Path) -> memoryview | None:
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        with file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes > self.max_adapter_bytes:
                raise AdapterRejected("size", f"{n_bytes} bytes")
            blob = room(n_bytes)
            place = 0
            while place < n_bytes and (n_read := file.readinto(blob[place:])):
                place += n_read
            return blob[:place]

    def _files(self) -> list[tuple[os.DirEntry[str], os.stat_result]]:
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process has removed it
                    if entry.name.endswith(_SUFFIX) or entry.name.startswith(_NEW):
                        found.append((entry, entry.stat(follow_symlinks=False)))
        adapters = [each for each in found if each[0].name.endswith(_SUFFIX)]
        for entry, about in found:
            if entry.name.startswith(_NEW) and time.time() - about.st_mtime > _ABANDONED_S:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        return adapters

    def _make_room(self, n_bytes: int, path: Path) -> None:
        """Remove what was used longest ago until `n_bytes` more fit; what is to be replaced counts as gone."""
        fresh = self._kept is not None and time.monotonic() - self._counted_at < _COUNT_EVERY_S
        if self._kept is not None and fresh and self._kept + n_bytes <= self.max_bytes:
            self._kept += n_bytes  # too many where something is replaced, which only means counting sooner
            return
        files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns)
        kept = sum(about.st_size for entry, about in files if entry.name != path.name)
        for entry, about in files:
            if kept + n_bytes <= self.max_bytes:
                break
            if entry.name != path.name:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
                kept -= about.st_size
        self._kept, self._counted_at = kept + n_bytes, time.monotonic()

    def _quarantine(self, path: Path, reason: str) -> None:
        """Move a file that was rejected out of the way, to be looked at; only the latest few are kept."""
        folder = self.folder / "quarantine"
        try:
            folder.mkdir(exist_ok=True)
            os.replace(path, folder / f"{path.name.removesuffix(_SUFFIX)}.{reason}")
        except OSError:  # another process was quicker, or the quarantine cannot be written: then it goes for good
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            kept = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime_ns)
            for each in kept[:-_KEPT_IN_QUARANTINE]:
                each.unlink(missing_ok=True)


def _unavailable(what: str, path: Path, error: OSError) -> StoreUnavailable:
    code = "full" if error.errno in _FULL else "error"
    return StoreUnavailable(f"cannot {what} {path}: {error.strerror or error}", code=code)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
