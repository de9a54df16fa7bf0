"""Adapters as folders on disk, one per key, each a plain PEFT adapter with an `about.json` beside it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

from ttt_engine.adapter import SCHEMA, Adapter
from ttt_engine.errors import AdapterRefused, StoreUnavailable

_WEIGHTS, _CONFIG, _ABOUT = "adapter_model.safetensors", "adapter_config.json", "about.json"


class LocalAdapterStore:
    """An `AdapterStore` in a folder; made with the first `put`, shared by any number of processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> Adapter | None:
        """Return the adapter under `key`, or None; see `AdapterStore`."""
        folder = self.root / key
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            weights = (folder / _WEIGHTS).read_bytes()
            config = (folder / _CONFIG).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            # whole folders are moved here: one that lacks a file, still, has been damaged and would bar the next
            if folder.is_dir() and not Path(error.filename).exists():
                raise self._removed(folder, f"{Path(error.filename).name} is missing") from error
            return None
        except ValueError as error:
            raise self._removed(folder, f"{_ABOUT} is not JSON") from error
        except OSError as error:
            raise StoreUnavailable(f"cannot read {folder}: {error}") from error
        try:
            adapter = Adapter(
                key=about["key"],
                weights=weights,
                peft_config=config,
                base_fingerprint=about["base_fingerprint"],
                task_fingerprint=about["task_fingerprint"],
                losses=tuple(about["losses"]),
                train_seconds=about["train_seconds"],
                train_tokens=about["train_tokens"],
            )
            damaged = about["schema"] != SCHEMA or adapter.sha256 != about["sha256"] or adapter.key != key
        except (KeyError, TypeError) as error:
            raise self._removed(folder, f"{_ABOUT} lacks {error}") from error
        if damaged:
            raise self._removed(folder, "checksum, key or schema differ")
        return adapter

    def put(self, adapter: Adapter) -> None:
        """Write the folder beside its place, then move it there; see `AdapterStore`."""
        about = {
            "schema": SCHEMA,
            "key": adapter.key,
            "sha256": adapter.sha256,
            "base_fingerprint": adapter.base_fingerprint,
            "task_fingerprint": adapter.task_fingerprint,
            "losses": adapter.losses,
            "train_seconds": adapter.train_seconds,
            "train_tokens": adapter.train_tokens,
        }
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=self.root))
            try:
                _write(new / _WEIGHTS, adapter.weights)
                _write(new / _CONFIG, adapter.peft_config.encode())
                _write(new / _ABOUT, json.dumps(about, indent=1).encode())
                new.rename(self.root / adapter.key)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                # what lies there is another process's, as good as this one, or one that the model has refused
                shutil.rmtree(self.root / adapter.key, ignore_errors=True)
                with contextlib.suppress(OSError):  # another process was quicker again: its adapter is the same
                    new.rename(self.root / adapter.key)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot write to {self.root}: {error}") from error

    def __contains__(self, key: str) -> bool:
        return os.path.exists(self.root / key / _ABOUT)  # a folder that may not be read is a miss, not an error

    def _removed(self, folder: Path, why: str) -> AdapterRefused:
        shutil.rmtree(folder, ignore_errors=True)
        return AdapterRefused(f"the adapter in {folder} was damaged and has been removed: {why}. It is trained anew.")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
