"""A matrix is filled once, whatever stops it, and says what each arm would have cost on an empty cache."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import pytest
import torch

from icl_engine.embedded.corpus import is_held_out_arc_task
from icl_engine.embedded.pretraining import save_weights
from icl_engine.families import HELD_OUT
from icl_engine.task import LabelledTask, Task
from policies.costs import Work
from policies.errors import ArmUnavailable, OutcomesRefused
from policies.outcome_files import read_outcomes
from policies.replay import PREDICTED_COST
from router.bench.matrix import (
    ARMS,
    Job,
    Outcome,
    _outcomes_of,
    _timed,
    card_of,
    fill,
    freeze,
    matrix_from,
    quality_of,
    read_frozen,
)
from router.bench.task_sets import BenchTask, generated_tasks, load_bench_set
from router.cli import main
from router.evaluation_workers import append_lines
from router.model_eval import describe
from router.router import Router
from router.settings import Settings
from tests.models import tiny_module
from tests.router.fakes import solution_of

PAIRS = [([[1, 2]], [[2, 1]]), ([[3, 4]], [[4, 3]]), ([[5, 6]], [[6, 5]])]


def bench_task(name: str, query: int = 7) -> BenchTask:
    task = Task.from_pairs(PAIRS, [[query, 8]], id=name)
    return BenchTask("flips", "flip", LabelledTask.parse(task, [[[8, query]]]))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = save_weights(tiny_module(), tmp_path / "model")
    return Settings(home=tmp_path / "home", model=str(folder), ttt_steps=2, ttt_batch_size=1, n_views=2)


def outcome(**given: object) -> Outcome:
    plain = Outcome(
        model="m", settings="s", set="x", family="f", task="t", seed=0, arm="icl", quality=1.0, cost_s=0.123456789,
        train_s=0.0, tokens=9, feature_cost_s=0.5, features={"loo_nll_mean": 1 / 3, "vote_agreement": None},
        processes=1, answered_by="icl", degraded=(),
    )  # fmt: skip
    return replace(plain, **given)  # type: ignore[arg-type]


def test_a_run_goes_on_where_it_was_stopped_and_answers_nothing_twice(settings: Settings, tmp_path: Path) -> None:
    file, tasks = tmp_path / "rows.jsonl", [replace(bench_task(name), group="file") for name in "ab"]
    told: list[tuple[str, int, int]] = []

    model, said = describe(settings)
    job = Job(
        tuple(tasks[:1]), (("icl", "ttt_short"),), 0, None, 1, model, f"{said}, deadline_s=None, icl=prompt and answer"
    )
    with Router(settings) as router:
        first = _outcomes_of(router, job)
    append_lines(file, ({name: value for name, value in asdict(each).items() if name != "group"} for each in first))
    with file.open("a") as cut:
        cut.write('{"model": "cut sho')  # a kill
    none = fill(tasks, settings, file, seeds=(0,), stop_after_s=0.0)
    both = fill(tasks, settings, file, seeds=(0,), progress=lambda *now: told.append(now))

    assert [each.arm for each in first] == ["icl", "ttt_short"]
    assert none == first  # also what a file has of before there were groups
    assert matrix_from(both).groups == ("file", "file")
    assert {(each.task, each.arm) for each in both} == {(task, arm) for task in "ab" for arm in ARMS}
    assert len(file.read_text().splitlines()) == len(both) == 8
    assert told[-1] == ("outcomes", 6, 6)
    assert all(each.cost_s > 0 for each in both)


def test_tasks_that_share_demonstrations_are_each_charged_the_training_they_share(settings: Settings) -> None:
    job = Job((bench_task("a"), bench_task("b", query=9)), (("icl", "ttt"),) * 2, 0, None, 1, "m", "s")
    with Router(settings) as router:
        first, trained, second, reused = _outcomes_of(router, job)

    assert [each.arm for each in (first, trained, second, reused)] == ["icl", "ttt", "icl", "ttt"]
    assert reused.train_s == pytest.approx(trained.train_s, rel=0.5)
    for each in (trained, reused):
        assert 0 < each.train_s < each.cost_s
        assert each.features["adapter_cached"] == 0.0
    assert trained.tokens == pytest.approx(reused.tokens, abs=40)
    assert 0 < first.cost_s < first.feature_cost_s  # the probe scores the held-out demonstrations besides


def test_an_arm_that_cannot_answer_a_task_has_no_outcome_and_the_others_have_theirs(settings: Settings) -> None:
    job = Job((bench_task("a"),), (("icl", "zero_shot", "icl_vote"),), 0, None, 1, "m", "s")
    with Router(settings) as router:
        assert [each.arm for each in _outcomes_of(router, job)] == ["icl", "icl_vote"]
        with pytest.raises(ArmUnavailable, match="icl_vot"):
            _outcomes_of(router, replace(job, arms=(("icl", "icl_vot"),)))


def test_what_earlier_tasks_took_is_in_no_feature_of_a_later_one_and_the_router_learns_nothing(
    settings: Settings,
) -> None:
    tasks, arms = tuple(map(bench_task, "ab")), ("icl_vote", "ttt_short")
    with Router(settings) as router:
        router.steps.costs.measured("ttt", 500.0, work=Work(0.1), cached=False)
        before = router.steps.costs.predict(ARMS, work=Work(1.0), cached=False)
        rows = _outcomes_of(router, Job(tasks, (arms, arms), 0, None, 1, "m", "s"))
        after = router.steps.costs.predict(ARMS, work=Work(1.0), cached=False)

    ratios = [
        [cast(float, row.features[f"{PREDICTED_COST}{arm}"]) / row.features[f"{PREDICTED_COST}icl"] for arm in ARMS]  # type: ignore[operator]
        for row in rows
    ]
    assert before == after
    assert ratios == [pytest.approx(ratios[0])] * 4


@pytest.mark.alone
def test_on_one_thread_the_time_that_other_work_had_the_core_is_not_charged(settings: Settings) -> None:
    threads = torch.get_num_threads()
    with Router(settings) as router:
        try:
            torch.set_num_threads(1)
            _, waiting = _timed(router.steps, lambda: time.sleep(0.3))
            torch.set_num_threads(2)
            _, unknown = _timed(router.steps, lambda: time.sleep(0.01))
        finally:
            torch.set_num_threads(threads)

    assert waiting < 0.5  # the process slept
    assert unknown == 1.0  # several threads' seconds say nothing of how long a user waits


def test_the_frozen_file_is_the_same_in_whichever_order_outcomes_came(tmp_path: Path) -> None:
    outcomes = [
        outcome(task=task, seed=seed, arm=arm, cost_s=1.0 + len(arm), degraded=("late",) if task == "u" else ())
        for task in "ut" for seed in (1, 0) for arm in ("ttt", "icl")
    ]  # fmt: skip
    path = tmp_path / "m.csv.gz"
    frozen = freeze(outcomes, path, about={"model": "m"})
    content = path.read_bytes()
    freeze(outcomes[::-1], path, about={"model": "m"})

    assert path.read_bytes() == content
    card = json.loads(card_of(path).read_text())
    assert card == {"model": "m", "digest": frozen.digest, "rows": 4, "tasks": {"x": 2}, "processes": 1, "degraded": 4}
    assert read_outcomes(path).digest == frozen.digest
    assert (frozen.arms, frozen.seeds) == (("icl", "ttt"), (0, 1, 0, 1))


def test_numbers_are_kept_to_six_digits_and_unknown_features_stay_unknown() -> None:
    matrix = matrix_from([outcome()])

    assert matrix.cost_s.tolist() == [[0.123457]]
    assert matrix.feature("loo_nll_mean").tolist() == [0.333333]
    assert math.isnan(matrix.feature("vote_agreement")[0])


def test_a_grid_may_have_two_candidates_and_a_text_one() -> None:
    grid = Task.from_pairs(PAIRS, [[7, 8]])
    text = Task.from_pairs([("a", "b"), ("c", "d")], "e")
    two_grids, two_texts = solution_of(grid, ((1,),), ((2,),)).answers, solution_of(text, "yes", "no").answers

    assert quality_of(two_grids, LabelledTask(grid, (((2,),),))) == 1.0
    assert quality_of(two_texts, LabelledTask(text, ("no",))) == 0.0
    assert quality_of(two_texts, LabelledTask(text, ("yes",))) == 1.0
    assert math.isnan(quality_of(two_texts, LabelledTask(text, (None,))))


def test_what_is_fitted_on_was_never_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "arc-agi-1"
    folder.mkdir()
    arc = {"train": [{"input": a, "output": b} for a, b in PAIRS], "test": [{"input": [[7, 8]], "output": [[8, 7]]}]}
    (folder / "training.json").write_text(json.dumps({"0000000a": arc, "0000000b": arc}))

    drawn = generated_tasks(1)
    kept = load_bench_set("arc-training", tmp_path, fits=lambda labelled: True)

    assert sorted(each.family for each in drawn) == sorted(HELD_OUT)
    assert [each.labelled.task.id for each in kept] == ["0000000a"]
    assert is_held_out_arc_task(kept[0].labelled.task.id)


def test_each_query_of_a_text_file_is_a_task_of_its_family(tmp_path: Path) -> None:
    (tmp_path / "bbh").mkdir()
    examples = [{"input": f"{i}", "target": f"{i % 2}"} for i in range(14)]
    (tmp_path / "bbh" / "odd.json").write_text(json.dumps({"examples": examples}))

    found = load_bench_set("bbh", tmp_path, fits=lambda labelled: True, n_queries=3)

    assert [(each.labelled.task.id, each.family) for each in found] == [(f"odd-{i}", "odd") for i in range(3)]
    assert {each.group for each in found} == {"odd"}
    assert len({each.labelled.task.demonstrations_fingerprint for each in found}) == 1


def test_a_frozen_file_that_is_not_what_its_card_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    freeze([outcome(), outcome(arm="ttt")], path, about={"model": "m" * 64, "device": "a laptop"})

    matrix, said = read_frozen(path)
    path.write_text(path.read_text().replace("0.123457", "0.5"))

    assert len(matrix) == 1
    assert "a laptop" in said
    with pytest.raises(OutcomesRefused, match="digest"):
        read_frozen(path)
    card_of(path).unlink()
    assert read_frozen(path)[1] == "`m.csv` has no card."


def test_the_command_fills_freezes_and_goes_on(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STEPS", "BATCH_SIZE"):
        monkeypatch.setenv(f"TTT_ROUTER_TTT_{name}", "1")
    monkeypatch.setenv("TTT_ROUTER_N_VIEWS", "2")
    out = tmp_path / "generated.csv.gz"
    command = ["bench", "matrix", "--out", str(out), "--set", "generated", "--per-family", "1", "--limit", "2",
               "--seeds", "1", "--arm", "icl", "--arm", "ttt", "--model", str(settings.model)]  # fmt: skip

    assert main(command) == 0
    assert "2 rows of icl, ttt" in capsys.readouterr().out
    content = out.read_bytes()
    assert main(command) == 0

    assert out.read_bytes() == content
    assert main([*command[:-2], "--set", "1d-arc"]) == 3  # and no --data
    assert "--data" in capsys.readouterr().err
