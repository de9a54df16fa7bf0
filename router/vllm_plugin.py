"""A plugin for vLLM: an adapter of our store is served under its key, as if it were a model of that name.

vLLM asks a `LoRAResolver` for every adapter it does not know. Ours looks into the store that the settings name, which
checks signature, tensors and tenant, and writes what it finds as a PEFT folder, since vLLM reads adapters from folders.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_engine.errors import FewShotError
from router.parts import store_of
from router.settings import Settings

if TYPE_CHECKING:
    from ttt_engine.adapter import Adapter

NAME = "ttt-router"
_log = logging.getLogger(__name__)


def register() -> None:
    """Make vLLM ask our store; the entry point of the group `vllm.general_plugins`.

    Raises:
        SettingsError: the settings cannot be used.
    """
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    folders = AdapterFolders(Settings())

    class StoredAdapters(LoRAResolver):  # type: ignore[misc]  # vLLM is not installed where types are checked
        """Finds an adapter by its key."""

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            folder = await asyncio.to_thread(folders.folder_of, base_model_name, lora_name)
            if folder is None:
                return None
            return LoRARequest(lora_name=lora_name, lora_int_id=_number(lora_name), lora_path=str(folder))

    LoRAResolverRegistry.register_resolver(NAME, StoredAdapters())


class AdapterFolders:
    """PEFT folders of the adapters of a store, each written when it is first asked for, below `vllm` at home.

    There they lie by base model, whose weights may be replaced under the same name.
    None is removed: vLLM may read a folder again at any time.

    Args:
        settings: of the store, and of the base model, which vLLM has to know by the same name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.home / "vllm"
        self._store = store_of(settings)
        self._bases: frozenset[str] | None = None
        self._lock = threading.Lock()

    def folder_of(self, base_model_name: str, key: str) -> Path | None:
        """Return the folder of an adapter; None: there is no such adapter for this model, which the log says why."""
        from ttt_engine.adapter import checked_key

        try:
            checked_key(key)
        except ValueError:  # for another resolver, it may be
            return None
        if base_model_name != self._settings.model:
            _log.warning("adapter %s: vLLM serves %r, TTT_ROUTER_MODEL names another", key, base_model_name)
            return None
        with self._lock:
            try:
                return self._written(key)
            except (FewShotError, OSError) as error:
                _log.warning("adapter %s cannot be served: %s", key, error)
                return None

    def _written(self, key: str) -> Path | None:
        from ttt_engine.export import export_adapter

        root = self._root / hashlib.sha256(" ".join(sorted(self._own_bases())).encode()).hexdigest()[:16]
        folder = root / key
        if folder.is_dir():
            return folder
        found = self._store.fetch(key)
        for told in found.degraded:
            _log.warning("adapter %s: %s", key, told)
        if found.adapter is None or not self._fits(found.adapter):
            return None
        root.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=root))
        try:
            export_adapter(found.adapter, half)
            os.replace(half, folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same
                raise
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return folder

    def _own_bases(self) -> frozenset[str]:
        if self._bases is None:
            from icl_engine.transformers_model import fingerprints_of

            assert self._settings.model is not None  # vLLM serves it
            self._bases = fingerprints_of(self._settings.model)
        return self._bases

    def _fits(self, adapter: Adapter) -> bool:
        if adapter.base_fingerprint not in self._own_bases():
            _log.warning("adapter %s was trained on another base model", adapter.key)
            return False
        if "peft_type" not in json.loads(adapter.peft_config):
            _log.warning("adapter %s is a model that was trained whole, which vLLM cannot add to another", adapter.key)
            return False
        return True


def _number(key: str) -> int:
    """Return the number by which vLLM tells adapters apart: above 0, and 60 bits of the key."""
    return int(key[:15], 16) + 1
