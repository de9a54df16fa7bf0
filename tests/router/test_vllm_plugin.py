"""The plugin for vLLM: an adapter trained here is found there by its key, as a PEFT folder that PEFT itself loads."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from router.router import Router
from router.settings import Settings
from router.trace import AdapterTrace, Trace
from router.vllm_plugin import NAME, register
from tests.models import ROW_TASK, save_tiny_llama
from tests.redis_server import RedisServer
from tests.vllm_interface import LoRAResolver, installed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(folder: Path, tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As they are in the environment of both servers."""
    given = {
        "HOME": str(tmp_path / "home"),
        "MODEL": str(save_tiny_llama(tmp_path / "llama")),
        "DEVICE": "cpu",
        "STORE_URL": redis.url,
        "STORE_SECRETS": "a secret of both servers",
        "TTT_STEPS": "2",
        "TTT_RANK": "2",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"TTT_ROUTER_{name}", value)
    return Settings()


@pytest.fixture
def adapter(settings: Settings) -> AdapterTrace:
    """Trained and kept by a router."""
    with Router(settings) as router:
        trace_id = router.solve(ROW_TASK, arm="ttt").trace_id
        router.flush()
        found = Trace.read(router._parts.ledger.trace(trace_id).document).adapter
    assert found is not None
    return found


@pytest.fixture
def resolver(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoRAResolver:
    """On another machine: with a home of its own."""
    monkeypatch.setenv("TTT_ROUTER_HOME", str(tmp_path / "another"))
    resolvers = installed(monkeypatch)
    register()
    return resolvers[NAME]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers an old question
def test_an_adapter_in_redis_is_served_under_its_key(
    settings: Settings, adapter: AdapterTrace, resolver: LoRAResolver
) -> None:
    assert settings.model is not None
    request = asyncio.run(resolver.resolve_lora(settings.model, adapter.key))
    again = asyncio.run(resolver.resolve_lora(settings.model, adapter.key))

    assert request is not None
    assert request == again
    assert request.lora_name == adapter.key
    assert 0 < request.lora_int_id < 2**63
    assert {path.name for path in Path(request.lora_path).iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    base = AutoModelForCausalLM.from_pretrained(settings.model)
    ids = torch.arange(5, 25)[None]
    before = base(input_ids=ids).logits
    after = PeftModel.from_pretrained(base, request.lora_path)(input_ids=ids).logits
    assert not torch.equal(before, after)


@pytest.mark.parametrize("name", ["0" * 64, "somebody-elses", "../../etc", ""])
def test_what_is_not_in_the_store_is_left_to_others(settings: Settings, resolver: LoRAResolver, name: str) -> None:
    assert settings.model is not None

    assert asyncio.run(resolver.resolve_lora(settings.model, name)) is None


def test_an_adapter_is_not_put_on_another_model(
    settings: Settings, adapter: AdapterTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolvers = installed(monkeypatch)
    other = str(save_tiny_llama(tmp_path / "other", seed=1))
    assert settings.model is not None
    register()
    by_another_name = asyncio.run(resolvers[NAME].resolve_lora(other, adapter.key))
    monkeypatch.setenv("TTT_ROUTER_MODEL", other)
    register()
    of_other_weights = asyncio.run(resolvers[NAME].resolve_lora(other, adapter.key))

    assert by_another_name is None
    assert of_other_weights is None


def test_an_adapter_that_was_served_is_not_served_once_the_model_is_another(
    settings: Settings, adapter: AdapterTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.model is not None
    resolvers = installed(monkeypatch)
    register()
    before = asyncio.run(resolvers[NAME].resolve_lora(settings.model, adapter.key))
    save_tiny_llama(Path(settings.model), seed=1)  # other weights under the same name
    register()
    after = asyncio.run(resolvers[NAME].resolve_lora(settings.model, adapter.key))

    assert before is not None
    assert after is None


def test_two_processes_that_write_an_adapter_at_once_both_serve_it(
    settings: Settings, adapter: AdapterTrace, resolver: LoRAResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def late(half: str, folder: str) -> None:
        shutil.copytree(half, folder)  # as the other process has just done
        replace(half, folder)

    monkeypatch.setattr(os, "replace", late)
    assert settings.model is not None
    request = asyncio.run(resolver.resolve_lora(settings.model, adapter.key))

    assert request is not None
    folder = Path(request.lora_path)
    assert len(list(folder.iterdir())) == 2
    assert list(folder.parent.iterdir()) == [folder]


def test_a_store_with_another_secret_serves_nothing(
    settings: Settings, adapter: AdapterTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTT_ROUTER_HOME", str(tmp_path / "another"))
    monkeypatch.setenv("TTT_ROUTER_STORE_SECRETS", "a secret of somebody else's")
    resolvers = installed(monkeypatch)
    register()
    assert settings.model is not None

    assert asyncio.run(resolvers[NAME].resolve_lora(settings.model, adapter.key)) is None


def test_vllm_finds_the_plugin_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = importlib.metadata.EntryPoint(NAME, project["entry-points"]["vllm.general_plugins"][NAME], "")

    assert entry.load() is register
