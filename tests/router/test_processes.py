"""A router whose tasks are solved in two processes beside this one: the same answers, one ledger, no model here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_engine.task import Task
from router.doctor import examine
from router.errors import ContextOverflow, ModelUnavailable
from router.router import Router
from router.settings import Settings
from tests.models import save_tiny_llama

TASKS = [
    Task.from_pairs([(c * n, "x"), (c * n + "b", "y"), ("c", "x")], "abc", id=f"{c}{n}") for n in (2, 5) for c in "ad"
]


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    model = str(save_tiny_llama(tmp_path / "model"))
    return Settings(home=tmp_path / "home", model=model, device="cpu", ttt_steps=2, ttt_batch_size=2, n_views=2)


@pytest.fixture
def elsewhere(settings: Settings) -> Iterator[Router]:
    with Router(settings.model_copy(update={"executor": "processes?workers=2&adapters=1"})) as router:
        yield router


def test_what_processes_solve_is_answered_as_here_and_known_here(
    elsewhere: Router, settings: Settings, tmp_path: Path
) -> None:
    with Router(settings.model_copy(update={"home": tmp_path / "other"})) as here:
        expected = [here.solve(task, arm="ttt", seed=3) for task in TASKS]

    found = elsewhere.solve_many(TASKS, arm="ttt", seed=3)
    decision = elsewhere.decide(TASKS[0], seed=5)
    hurried = elsewhere.solve(TASKS[0].replace(queries=("other",)), arm="ttt_short", deadline_s=1e-6)
    elsewhere.feedback(found[0].trace_id, True)

    assert [each.answers for each in found] == [each.answers for each in expected]
    assert [each.degraded for each in found] == [each.degraded for each in expected]
    assert decision.arm in settings.arms
    assert hurried.answered_by == "icl"
    assert "deadline" in " ".join(hurried.degraded)
    assert "right" in elsewhere.explain(found[0].trace_id)
    assert elsewhere._parts._model is None


def test_processes_that_share_an_adapter_have_it_trained_once(
    elsewhere: Router, settings: Settings, tmp_path: Path
) -> None:
    with Router(settings.model_copy(update={"home": tmp_path / "other"})) as here:
        expected = here.solve_many(TASKS, arm="ttt", share_adapter=True)

    found = elsewhere.solve_many(TASKS, arm="ttt", share_adapter=True)
    adapters = [elsewhere._stored(each.trace_id).trace.adapter for each in found]

    assert len({adapter.key for adapter in adapters if adapter}) == 1
    assert sum(adapter is not None and not adapter.cached for adapter in adapters) == 1
    assert [(each.answers, each.degraded) for each in found] == [(each.answers, each.degraded) for each in expected]


def test_what_a_process_refuses_is_refused_here(elsewhere: Router, tmp_path: Path) -> None:
    with pytest.raises(ContextOverflow):
        elsewhere.solve(Task.from_pairs([("long " * 300, "a"), ("b", "c")], "d"), arm="icl")

    nowhere = {"model": str(tmp_path / "nowhere")}
    with (
        Router(elsewhere.settings.model_copy(update=nowhere)) as router,
        pytest.raises(ModelUnavailable, match="nowhere"),
    ):
        router.solve(TASKS[0])


def test_doctor_says_how_many_processes_there_may_be(elsewhere: Router) -> None:
    (finding,) = (found for found in examine(elsewhere.settings) if found.check == "executor")

    assert finding.state == "ok"
    assert "2 processes on this machine" in finding.found
