"""Learned policies are fitted, kept in a file, loaded as they were, and take part in a solve."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from icl_engine.task import Task
from policies.decision import policy_id
from policies.errors import LedgerLocked, PolicyFileDamaged
from policies.feature_values import NamedFeatures
from policies.features import SCHEMA_HASH
from policies.fixed import AlwaysArm
from policies.gain_models import as_bytes
from policies.gain_models.fitting import fit_gain_model
from policies.learned import LearnedPolicy
from policies.ledger import Ledger
from policies.outcome_matrix import OutcomeMatrix
from policies.policy_versions import PolicyVersions
from policies.pricing import Pricing
from policies.records import Alias
from router.cli import main
from router.learned_policies import fit_with, load, replay_on, version_named
from router.policy_seal import sealed_for
from router.router import Router
from router.settings import Settings
from router.traces import read_trace, replay
from router.tuning import Setting
from router.ui import Attached, make_app
from tests.models import TASKS, taught_model, tiny_model
from tests.policies.policy_fakes import outcome_matrix

TWO_ARMS = ("icl", "ttt")


def matrix(n_tasks: int = 300) -> OutcomeMatrix:
    return outcome_matrix(n_tasks, arms=TWO_ARMS)


def content(n_tasks: int = 300, price: float = 0.1) -> bytes:
    made = matrix(n_tasks)
    return fit_with(price=price, explore=0.05, temperature=0.05)(made)


def test_a_policy_comes_out_of_its_file_as_it_was_fitted() -> None:
    policy = load(content(price=0.3)).policy
    features = matrix().features_at(0)

    assert policy.propensities(features, TWO_ARMS) == load(content(price=0.3)).policy.propensities(features, TWO_ARMS)
    assert "price=0.3" in policy.version
    assert "outcomes=300" in policy.version


def test_what_was_fitted_knows_where_training_helps() -> None:
    policy = load(content()).policy
    lost, solved = (
        NamedFeatures(("loo_exact_share", "n_held_out", "n_held_out_exact", "vote_agreement"), values)
        for values in ((0.0, 3.0, 0.0, 0.1), (1.0, 3.0, 3.0, 1.0))
    )

    assert policy.propensities(lost, TWO_ARMS)[1] > 0.9 > 0.3 > policy.propensities(solved, TWO_ARMS)[1]


def test_a_dearer_price_trains_less() -> None:
    features = [matrix().features_at(row) for row in range(40)]
    policies = [load(content(price=price)).policy for price in (0.0, 0.6)]
    cheap, dear = (sum(policy.propensities(each, TWO_ARMS)[1] for each in features) for policy in policies)

    assert cheap > dear


def test_a_file_without_its_settings_is_refused() -> None:
    bare = as_bytes(fit_gain_model("logistic", matrix(), feature_schema=SCHEMA_HASH))

    with pytest.raises(PolicyFileDamaged, match="keeps no setting"):
        load(bare)


def test_tuning_replays_on_families_that_were_not_fitted_on() -> None:
    replay = replay_on(matrix())
    trains, saves = (replay(Setting(price, temperature=0.01, explore=0.01)) for price in (0.001, 2.0))

    assert 0.0 < saves[0] < trains[0] < 1.0
    assert saves[1] < trains[1]


def test_tuning_charges_the_votes_it_reads_and_neither_reads_nor_charges_a_trial() -> None:
    made, setting = matrix(), Setting(0.1, temperature=0.01, explore=0.01)
    without = replay_on(made.of_features([name for name in made.feature_names if name != "vote_agreement"]))
    told = made.quality[:, 1]  # a trial that knows what training comes to
    probe_only = replay_on(with_columns(made, trial_nll=told))(setting)
    voted = replay_on(with_columns(made, **{"trial_nll": told, "stage_cost_s.votes": 4.0, "stage_cost_s.trial": 99.0}))
    free = replay_on(with_columns(made, **{"stage_cost_s.votes": 0.0}))

    assert probe_only == without(setting)
    assert voted(setting)[0] == free(setting)[0]
    unit = dict(Pricing.of(made, 0.0).mean_cost_s)["ttt"]
    assert voted(setting)[1] - free(setting)[1] == pytest.approx(4.0 / unit)


def with_columns(made: OutcomeMatrix, **columns: object) -> OutcomeMatrix:
    """Add features to a matrix."""
    values = [np.broadcast_to(np.asarray(column, dtype=np.float64), len(made)) for column in columns.values()]
    return replace(
        made,
        feature_names=(*made.feature_names, *columns),
        features=np.column_stack([made.features, *values]),
    )


def test_the_champion_decides_where_there_is_one_and_the_prior_where_there_is_none(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, n_views=2, ttt_steps=2)
    model = tiny_model(0)
    with Router(settings, model=model) as router:
        before = router.decide(TASKS[0])
    with Ledger.open(str(tmp_path), files=settings.policy_folder) as ledger:
        kept = sealed_for(content(), model.fingerprint, SCHEMA_HASH)
        version = ledger.policy_versions.publish(kept, parent=None, trained_to_seq=0)
        ledger.policy_versions.promote(version.version_id, expected_epoch=0, reason="for a test")
    with Router(settings, model=model) as router:
        after, solution = router.decide(TASKS[0]), router.solve(TASKS[0])
    with Ledger.open(str(tmp_path), files=settings.policy_folder) as ledger:
        stored = read_trace(ledger, solution.trace_id)
        again = replay(stored.decision, loaders=(lambda named: version_named(named, ledger),))
        client = TestClient(make_app(Attached(ledger)), base_url="http://localhost")
        page = client.get(f"/traces/{solution.trace_id}", params={"policy": version.version_id}).text

    dearer = Settings(home=tmp_path, n_views=2, ttt_steps=2, price=0.7)
    with Router(dearer, model=model) as router, Ledger.open(str(tmp_path), files=settings.policy_folder) as ledger:
        priced = router.decide(TASKS[0])
        assert policy_id(version_named(priced.policy, ledger) or AlwaysArm("icl")) == priced.policy

    assert ",price=0.7," in priced.policy
    assert ",price=0.1," in after.policy
    assert before.policy.startswith("learned@1:model=prior-")
    assert after.policy.startswith("learned@1:model=logistic-")
    assert not any("learning" in said for said in solution.degraded)
    assert again.equal
    assert f"{after.policy} would have answered with {solution.arm}, as it was" in html.unescape(page)
    assert {"icl", "ttt"} <= set(stored.trace.decision.estimates)
    assert stored.trace.decision.contributions
    assert len(stored.trace.decision.nearest) == 3
    assert 0.0 <= stored.trace.decision.percentiles["answer_confidence"] <= 1.0
    assert stored.trace.decision.stage == "logistic"


def test_what_a_person_trains_and_promotes_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, model = Settings(home=tmp_path, epsilon=0.5, n_views=2, ttt_steps=1, seed=3), taught_model()
    with Router(settings, model=model) as router:
        for i in range(20):
            pairs = [([i % 10, 1], [1, i % 10]), ([2, i // 10], [i // 10, 2])]
            solution = router.solve(Task.from_pairs(pairs, [3, 4], id=f"kind{i % 4}_{i}"))
            router.feedback(solution.trace_id, answer=[[4, 3]])

    assert main(["policy", "train", "--anyway", "--home", str(tmp_path)]) == 0
    version = capsys.readouterr().out.split(":")[0]
    assert main(["policy", "promote", version, "--home", str(tmp_path)]) == 0
    with Router(settings, model=model) as router:
        assert router.decide(TASKS[0]).policy.startswith("learned@")
        assert not any("learning" in said for said in router.solve(TASKS[0]).degraded)


def test_features_that_were_never_known_are_not_asked_for() -> None:
    made, unknown = matrix(), ("trial_nll", "vote_agreement")  # the prior knows the second
    kept = made.of_features([name for name in made.feature_names if name not in unknown])
    blank = replace(
        kept,
        feature_names=(*kept.feature_names, *unknown),
        features=np.column_stack([kept.features, np.full((len(made), 2), np.nan)]),
    )
    policy = load(fit_with(price=0.1, explore=0.05, temperature=0.05)(blank)).policy

    assert isinstance(policy, LearnedPolicy)
    assert not set(unknown) & set(policy.model.feature_names)


@pytest.mark.parametrize(("known", "reads"), [(1.0, True), (0.95, True), (0.5, False)])
def test_what_is_held_out_is_learned_from_only_where_nearly_all_outcomes_know_it(known: float, reads: bool) -> None:
    made = matrix()
    column = np.where(np.arange(len(made)) < known * len(made), np.arange(len(made)) % 4.0, np.nan)
    others = made.of_features([name for name in made.feature_names if name != "n_held_out"])
    policy = load(fit_with(price=0.1, explore=0.05, temperature=0.05)(with_columns(others, n_held_out=column))).policy

    assert isinstance(policy, LearnedPolicy)
    assert ("n_held_out" in policy.model.feature_names) is reads


def test_a_ledger_that_cannot_say_who_is_champion_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(versions: PolicyVersions, name: str) -> Alias:
        raise LedgerLocked("here", "held by another", remedy="Wait.")

    monkeypatch.setattr(PolicyVersions, "alias", unreadable)
    with Router(Settings(home=tmp_path, n_views=2), model=tiny_model(0)) as router:
        solution = router.solve(TASKS[0], arm="icl")

    assert any("learning: ledger here: held by another" in said for said in solution.degraded)
