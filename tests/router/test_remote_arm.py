"""The arm that asks a larger model on a server: chosen like any other, and where it fails the answer here stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.costs import CostModel, Work
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from router.errors import ArmUnavailable, SettingsError
from router.router import Router
from router.settings import Settings
from router.trace import IN_CONTEXT_INSTEAD
from tests.openai_server import openai_server

TASK = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], "d")


def model() -> ScriptedModel:
    """One that has understood nothing."""
    return ScriptedModel(lambda task: "?")


def settings_for(url: str, home: Path, **more: object) -> Settings:
    return Settings(home=home, arms=("icl", "remote"), remote_url=url, remote_model="large", **more)  # type: ignore[arg-type]


def test_a_larger_model_on_a_server_answers(folder: Path, tmp_path: Path) -> None:
    with openai_server(lambda asked: "D", key="k3y-of-ours") as server:
        settings = settings_for(server.url, tmp_path, remote_api_key="k3y-of-ours")
        with Router(settings, model=model()) as router:
            solution = router.solve(TASK, arm="remote")
            said = router.explain(solution.trace_id)
            with Ledger.open(settings.ledger_location) as ledger:
                document = ledger.trace(solution.trace_id).document

    assert (solution.answer, solution.answered_by, solution.degraded) == ("D", "remote", ())
    assert "remote" in said
    assert "k3y-of-ours" not in f"{document}{settings!r}"


@pytest.mark.parametrize("fault", [503, "no json"])
def test_where_the_server_fails_the_answer_in_context_stands_and_it_is_said(
    folder: Path, tmp_path: Path, fault: int | str
) -> None:
    with openai_server(str, fault=fault) as server, Router(settings_for(server.url, tmp_path), model=model()) as router:
        solution = router.solve(TASK, arm="remote")

    assert (solution.answer, solution.arm, solution.answered_by) == ("?", "remote", "icl")
    assert [each.partition(":")[0] for each in solution.degraded] == [
        "the remote model did not answer", IN_CONTEXT_INSTEAD,
    ]  # fmt: skip


def test_a_policy_draws_it_like_any_arm(folder: Path, tmp_path: Path) -> None:
    with openai_server(lambda asked: "D") as server:
        exploring = LooThreshold(epsilon=1.0)
        with Router(settings_for(server.url, tmp_path), model=model(), policy=exploring) as router:
            solutions = [router.solve(TASK, seed=seed) for seed in range(12)]

    assert {solution.arm for solution in solutions} == {"icl", "remote"}
    assert {solution.answer for solution in solutions if solution.arm == "remote"} == {"D"}
    assert all(0 < solution.propensity < 1 for solution in solutions)


def test_without_a_server_there_is_no_such_arm(folder: Path, tmp_path: Path) -> None:
    with Router(Settings(home=tmp_path), model=model()) as router, pytest.raises(ArmUnavailable):
        router.solve(TASK, arm="remote")


@pytest.mark.parametrize("missing", ["remote_url", "remote_model"])
def test_an_arm_whose_server_is_not_set_is_refused(folder: Path, tmp_path: Path, missing: str) -> None:
    given = {"remote_url": "http://host/v1", "remote_model": "large"} | {missing: None}

    with pytest.raises(SettingsError, match=f"TTT_ROUTER_{missing.upper()}"):
        Settings(home=tmp_path, arms=("icl", "remote"), **given)  # type: ignore[arg-type]


def test_what_it_takes_is_learned_from_what_it_took_and_not_from_prompts_here() -> None:
    costs = CostModel(n_views=8, training_sequences=160, added_s={"remote": 2.0})
    before = costs.predict(("icl", "remote"), work=Work(0.1), cached=False)
    for _ in range(50):
        costs.measured("remote", 6.0, work=Work(0.1), cached=False)
    after = costs.predict(("icl", "remote"), work=Work(0.2), cached=False)

    assert before["remote"] == 2.0
    assert after["remote"] == pytest.approx(6.0, rel=1e-3)
