"""What importing costs: a program that only looks at tasks or at the ledger does not wait for torch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"langgraph", "peft", "sklearn", "torch", "transformers"}
ATTEMPTS = 5  # the best counts: the machine may be busy with something else


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def _processor_seconds(code: str) -> float:
    """Return what a program takes of the processor, which other work on the machine changes little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run("-c", code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("module", ["router", "policies.ledger", "ttt_engine.stores", "icl_engine"])
def test_importing_loads_no_engine(module: str) -> None:
    loaded = set(_run("-c", f"import sys, {module}; print(*sys.modules)").split())

    assert module in loaded
    assert loaded & HEAVY == set()


def test_a_server_loads_what_its_model_needs_and_no_more() -> None:
    said = """
import sys, tempfile
from pathlib import Path
from benchmarks.serve.scripted_server import SlowModel
from icl_engine.task import Task
from policies.ledger import Ledger
from router.lanes import Lanes
from router.serve.app import make_app
from router.serve.keys import ApiKeys
from router.serve.service import Service
from router.settings import Settings
with tempfile.TemporaryDirectory() as home, Ledger.open(home) as ledger:
    service = Service(Settings(home=Path(home)), ledger, model=SlowModel(0.0))
    make_app(service, ApiKeys([("lab", "key-of-the-lab-0123456789")]))
    service.tenants.open()
    router = service.tenants.router("default")
    print(router.solve_among(Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], "d"), Lanes()).answer)
    router.close()
print(*sys.modules)
"""
    answer, loaded = _run("-c", said).splitlines()

    assert answer == "D"
    assert set(loaded.split()) & HEAVY == {"langgraph"}


def test_the_router_is_a_package_of_its_own() -> None:
    assert _run("-c", "import router; print(router.__file__)").strip() == str(ROOT / "router" / "__init__.py")


def test_importing_the_router_takes_at_most_two_and_a_half_times_what_its_settings_library_takes() -> None:
    """So that a slow machine is no failure; langgraph alone would be four times, torch eight."""
    tried = [
        (_processor_seconds("import router"), _processor_seconds("import pydantic_settings")) for _ in range(ATTEMPTS)
    ]
    ours, library = map(min, zip(*tried, strict=True))

    assert ours < 2.5 * library
