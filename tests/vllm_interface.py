"""What of vLLM's interface a resolver of adapters meets, as vLLM documents it (`vllm.lora.resolver`, `.request`).

vLLM itself needs a GPU and gigabytes. These are stand-ins written for the tests: same names, arguments and demands.
"""

from __future__ import annotations

import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import pytest


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError("an adapter's number is above 0")
        if not self.lora_path:
            raise ValueError("an adapter has a path")


class LoRAResolver(ABC):
    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


class LoRAResolverRegistry:
    resolvers: ClassVar[dict[str, LoRAResolver]] = {}

    @classmethod
    def register_resolver(cls, resolver_name: str, resolver: LoRAResolver) -> None:
        assert isinstance(resolver, LoRAResolver)
        cls.resolvers[resolver_name] = resolver


def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, LoRAResolver]:
    """Let `vllm` be importable for one test; return the resolvers that are registered with it."""
    monkeypatch.setattr(LoRAResolverRegistry, "resolvers", {})
    request, resolver = types.ModuleType("vllm.lora.request"), types.ModuleType("vllm.lora.resolver")
    request.LoRARequest = LoRARequest  # type: ignore[attr-defined]
    resolver.LoRAResolver = LoRAResolver  # type: ignore[attr-defined]
    resolver.LoRAResolverRegistry = LoRAResolverRegistry  # type: ignore[attr-defined]
    for module in (types.ModuleType("vllm"), types.ModuleType("vllm.lora"), request, resolver):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return LoRAResolverRegistry.resolvers
