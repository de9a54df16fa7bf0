"""What tenants share and what is each one's own, without HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.ledger import Ledger
from router.parts import Parts
from router.serve.tenants import Tenants
from router.settings import Settings
from tests.router.serve.serving import shouting, text


@pytest.mark.parametrize("wish", [{"budget": "ttt <= 30 %"}, {"max_regret_rate": 0.1}], ids=["budget", "regret"])
def test_where_a_budget_or_a_bound_is_set_every_tenant_is_answered_by_the_one_policy(
    tmp_path: Path, wish: dict[str, Any]
) -> None:
    with Ledger.open(tmp_path) as ledger:
        tenants = Tenants(Settings(home=tmp_path, **wish), ledger, ScriptedModel(shouting))
        tenants.open()
        solution = tenants.router("lab").solve(Task.parse(text(), Settings().limits))
        tenants.router("lab").flush()
        decided_by = ledger.decision(solution.trace_id).policy
        tenants.close()

    assert solution.answer == "D"
    assert decided_by.startswith(f"{tenants.policy.name}@")
    if "budget" in wish:
        assert "budget=" in decided_by


def test_who_is_known_at_the_start_waits_for_no_engine_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[str] = []
    bind = Parts._bind

    def noting(parts: Parts) -> Any:
        bound.append(parts.settings.tenant)
        return bind(parts)

    monkeypatch.setattr(Parts, "_bind", noting)
    with Ledger.open(tmp_path) as ledger:
        tenants = Tenants(Settings(home=tmp_path), ledger, ScriptedModel(shouting))
        tenants.open(("lab", "other"))
        at_the_start = sorted(bound)
        tenants.router("lab").solve(Task.parse(text(), Settings().limits))
        tenants.close()

    assert at_the_start == ["default", "lab", "other"]
    assert sorted(bound) == at_the_start


def test_workers_elsewhere_follow_what_this_process_learns_and_do_not_learn_themselves(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with Ledger.open(tmp_path) as ledger:
        settings = Settings(home=tmp_path, model="nobody/loads-it", executor="ray://local", learning="on")
        tenants = Tenants(settings, ledger, ScriptedModel(shouting))
        workers = tenants.elsewhere
        assert workers is not None
        tenants.close()

    assert workers.settings.learning == "follow"
