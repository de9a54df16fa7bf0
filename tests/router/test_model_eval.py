"""An evaluation answers what is not answered yet, in processes of its own, and loses nothing when it is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_engine.embedded.pretraining import save_weights
from icl_engine.errors import UnreadableTaskFile
from icl_engine.task import LabelledTask
from router.checkout import commit_here
from router.cli import main
from router.model_eval import describe, evaluate, load_set, read_results
from router.settings import Settings
from tests.models import tiny_module

PAIRS = [([[1, 2]], [[2, 1]]), ([[3, 4]], [[4, 3]]), ([[5, 6]], [[6, 5]])]
ARC = {
    f"flip_{i}": {
        "train": [{"input": given, "output": answer} for given, answer in PAIRS],
        "test": [{"input": [[7, 8]], "output": [[8, 7]]}] * (i + 1),
    }
    for i in range(2)
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "1d-arc").mkdir()
    (tmp_path / "1d-arc" / "1d_arc.json").write_text(json.dumps(ARC))
    (tmp_path / "bbh").mkdir()
    examples = [{"input": f"{i}", "target": f"{i % 2}"} for i in range(14)]
    (tmp_path / "bbh" / "odd.json").write_text(json.dumps({"examples": examples}))
    return tmp_path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = save_weights(tiny_module(), tmp_path / "model")
    return Settings(home=tmp_path / "home", model=str(folder), ttt_steps=1, ttt_batch_size=1, n_views=2)


def any_size(labelled: LabelledTask) -> bool:
    return True


def test_a_text_file_is_one_task_with_as_many_demonstrations_as_fit(data: Path) -> None:
    whole = load_set("bbh", data, fits=any_size)
    short = load_set("bbh", data, fits=lambda labelled: len(labelled.task.demonstrations) <= 4)
    none = load_set("bbh", data, fits=lambda labelled: False)

    assert [len(each.tasks[0].task.demonstrations) for each in (whole, short)] == [10, 4]
    assert whole.tasks[0].task.queries == short.tasks[0].task.queries == ("10", "11", "12", "13")
    assert short.tasks[0].solutions == ("0", "1", "0", "1")
    assert (none.n_fitting, none.n_all) == (0, 1)


def test_tasks_that_do_not_fit_are_left_out_and_counted(data: Path) -> None:
    found = load_set("1d-arc", data, fits=lambda labelled: len(labelled.task.queries) == 1)

    assert [labelled.task.id for labelled in found.tasks] == ["flip_0"]
    assert (found.n_fitting, found.n_all) == (1, 2)


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTaskFile, match="bbh"):
        load_set("bbh", tmp_path, fits=any_size)


def test_every_query_is_answered_by_every_arm_and_none_twice(data: Path, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    sets = [load_set("1d-arc", data, fits=any_size)]
    told: list[tuple[str, int, int]] = []

    first = evaluate(sets, settings, file, arms=("icl",))
    with file.open("a") as cut:
        cut.write('{"model": "cut sho')  # a kill
    both = evaluate(sets, settings, file, progress=lambda name, done, of: told.append((name, done, of)))

    assert len(first) == 3
    assert {(each.task_id, each.query, each.arm) for each in both} == {
        (task, query, arm) for task, query in (("flip_0", 0), ("flip_1", 0), ("flip_1", 1)) for arm in ("icl", "ttt")
    }
    assert told == [("1d-arc", 1, 2), ("1d-arc", 2, 2)]
    assert len(read_results(file)) == len(both) == 6
    assert {each.commit for each in both} == {commit_here()}
    assert {(each.model, each.settings) for each in both} == {describe(settings)}


def test_a_text_file_that_is_asked_for_more_queries_is_answered_again(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "results.jsonl"

    def n_queries_answered(n_queries: int | None) -> int:
        before = len(read_results(file))
        sets = [load_set("bbh", data, fits=any_size, n_queries=n_queries)]
        return len(evaluate(sets, settings, file, arms=("icl",))) - before

    assert [n_queries_answered(n) for n in (2, None, 2, None)] == [2, 4, 0, 0]


def test_a_text_file_that_is_shown_with_other_demonstrations_is_answered_again(
    data: Path, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "results.jsonl"

    def shots_answered(most: int) -> list[int | None]:
        before = len(read_results(file))
        sets = [load_set("bbh", data, fits=lambda each: len(each.task.demonstrations) <= most, n_queries=1)]
        return [each.shots for each in evaluate(sets, settings, file, arms=("icl",))[before:]]

    assert [shots_answered(most) for most in (4, 10, 4)] == [[4], [10], []]
    assert {each.shots for each in evaluate([load_set("1d-arc", data, fits=any_size)], settings, tmp_path / "g")} == {
        None
    }


def test_a_further_arm_can_be_asked_for(
    data: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTT_ROUTER_TTT_STEPS", "1")
    asked = ["model", "eval", "--data", data, "--set", "1d-arc", "--arm", "icl_vote", "--model", settings.model]

    code = main([str(part) for part in [*asked, "--home", tmp_path / "home"]])

    assert code == 0
    assert "| 1d-arc | icl_vote | 3 |" in capsys.readouterr().out


def test_an_arm_that_a_task_cannot_be_answered_with_leaves_it_out(
    data: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["model", "eval", "--data", data, "--set", "1d-arc", "--model", settings.model]

    code = main([str(part) for part in [*asked, "--arm", "icl", "--arm", "zero_shot", "--home", tmp_path / "home"]])
    said = capsys.readouterr().out
    mistyped = main([str(part) for part in [*asked, "--arm", "icl_vot", "--home", tmp_path / "home"]])

    assert (code, mistyped) == (0, 2)
    assert "| 1d-arc | icl |" in said
    assert "| 1d-arc | zero_shot |" not in said


def test_the_command_prints_the_tables_and_writes_them(
    data: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTT_ROUTER_TTT_STEPS", "1")
    document = tmp_path / "model.md"
    document.write_text("words\n<!-- results: begin -->\n<!-- results: end -->\n")
    arguments = ["model", "eval", "--data", data, "--set", "bbh", "--set", "1d-arc", "--model", settings.model]

    code = main([str(part) for part in [*arguments, "--home", tmp_path / "home", "--out", document]])

    out = capsys.readouterr().out
    assert code == 0
    assert "| 1d-arc | 2 of 2 | 3 |" in out
    assert "| odd | 10 | 4 | 2 |" in out
    assert out.strip() in document.read_text()


def test_the_command_shows_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "card"]) == 0
    assert "SHA-256" in capsys.readouterr().out


def test_a_folder_without_a_card_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "card", "--model", str(tmp_path)]) == 3
    assert "README.md" in capsys.readouterr().err
