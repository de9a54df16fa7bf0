"""The command, run as from a shell but for the model, which is scripted: it turns rows round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import router.cli
from icl_engine.errors import ModelUnavailable, TaskRefused
from icl_engine.language_model import load_model
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task, Value
from policies.ledger import Ledger
from router.cli import main
from router.router import Router
from router.settings import Settings
from tests.router.fakes import mirrored

ROOT = Path(__file__).resolve().parents[2]
FIELDS = (
    "task_id", "answer", "candidates", "confidence", "arm", "propensity", "reason", "cost", "degraded", "trace_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[object]], Ran]:
    def scripted(settings: Settings) -> Router:
        return Router(settings, model=ScriptedModel(mirrored))

    monkeypatch.setattr(router.cli, "make_router", scripted)

    def _run(arguments: Sequence[object]) -> Ran:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return _run


Run = Callable[[Sequence[object]], Ran]


def arc(row: list[int], *, right: bool = True) -> dict[str, object]:
    """One task of rows that are turned round; where it is not `right`, its solution is something else."""
    pairs = [{"input": [[i, 0, 5]], "output": [[5, 0, i]]} for i in range(1, 4)]
    return {"train": pairs, "test": [{"input": [row], "output": [row[::-1] if right else row]}]}


@pytest.fixture
def tasks_file(folder: Path) -> Path:
    """Two tasks of kind `flip` and one of kind `odd`, whose solution is not what the script says."""
    file = folder / "tasks.json"
    tasks = {"flip_0": arc([1, 2, 3]), "flip_1": arc([4, 5, 6]), "odd_0": arc([7, 8, 9], right=False)}
    file.write_text(json.dumps(tasks))
    return file


def test_json_is_one_object_per_query_with_every_word_of_the_interface(run: Run, tasks_file: Path) -> None:
    ran = run(["solve", tasks_file, "--arm", "icl", "--json"])

    assert ran.code == 0
    assert [line["task_id"] for line in ran.objects()] == ["flip_0", "flip_1", "odd_0"]
    assert all(set(line) == {*FIELDS, "correct", "correct_first"} for line in ran.objects())
    assert [line["correct"] for line in ran.objects()] == [True, True, False]
    assert ran.objects()[0]["answer"] == [[3, 2, 1]]


def test_the_same_command_gives_the_same_answers_wherever_nothing_is_kept_yet(
    run: Run, tasks_file: Path, tmp_path: Path
) -> None:
    first, second = (
        run(["solve", tasks_file, "--json", "--seed", "3", "--home", tmp_path / home]) for home in ("one", "other")
    )

    for one, other in zip(first.objects(), second.objects(), strict=True):
        assert (one["answer"], one["arm"], one["propensity"]) == (other["answer"], other["arm"], other["propensity"])


def test_limit_takes_tasks_of_every_kind(run: Run, tasks_file: Path) -> None:
    ran = run(["solve", tasks_file, "--arm", "icl", "--json", "--limit", "2"])

    assert [line["task_id"] for line in ran.objects()] == ["flip_0", "odd_0"]


def test_one_task_is_drawn_and_many_are_a_line_each(run: Run, tasks_file: Path) -> None:
    one = run(["solve", tasks_file, "--arm", "icl", "--limit", "1"])
    many = run(["solve", tasks_file, "--arm", "icl"])

    assert "demonstration 1" in one.out
    assert "verdict" in one.out
    assert len(many.out.splitlines()) == 3
    assert "wrong" in many.out.splitlines()[2]


def test_several_labelled_tasks_end_in_a_table_of_kinds_on_stderr(run: Run, tasks_file: Path) -> None:
    ran = run(["solve", tasks_file, "--arm", "icl", "--json"])
    table = {line.split()[0]: line.split() for line in ran.err.splitlines() if line.split()}

    assert table["flip"][1:5] == ["2/2", "100%", "2/2", "100%"]
    assert table["odd"][1:3] == ["0/1", "0%"]
    assert table["all"][1:3] == ["2/3", "67%"]


def test_what_the_file_says_is_right_is_told_to_the_ledger(run: Run, tasks_file: Path, tmp_path: Path) -> None:
    ran = run(["solve", tasks_file, "--arm", "icl", "--json", "--home", tmp_path / "home"])

    with Ledger.open(tmp_path / "home") as ledger:
        outcomes = [ledger.outcomes(str(line["trace_id"])) for line in ran.objects()]
    assert [[(row.source, row.kind, row.value) for row in rows] for rows in outcomes] == [
        [("solution", "exact", right), ("solution", "exact:icl", right)] for right in (1.0, 1.0, 0.0)
    ]


def test_without_solutions_nothing_is_judged_or_recorded(run: Run, folder: Path, tmp_path: Path) -> None:
    task = Task.from_pairs([("ab", "ba"), ("cd", "dc")], "ef", id="plain")
    (folder / "t.jsonl").write_text(task.model_dump_json() + "\n")

    ran = run(["solve", "t.jsonl", "--arm", "icl", "--json", "--home", tmp_path])

    assert ran.objects()[0]["answer"] == "fe"
    assert "correct" not in ran.objects()[0]
    with Ledger.open(tmp_path) as ledger:
        assert ledger.outcomes(str(ran.objects()[0]["trace_id"])) == ()


def test_shots_of_a_bbh_file_are_its_demonstrations(run: Run, folder: Path) -> None:
    examples = [{"input": f"a{i}", "target": f"{i}a"} for i in range(5)]
    (folder / "turned.json").write_text(json.dumps({"examples": examples}))

    ran = run(["solve", "turned.json", "--arm", "icl", "--shots", "3", "--json"])

    assert [line["task_id"] for line in ran.objects()] == ["turned-3", "turned-4"]
    assert all(line["correct"] for line in ran.objects())


def test_one_query_of_several_can_be_asked_for(run: Run, folder: Path) -> None:
    task = Task.from_pairs([("ab", "ba"), ("cd", "dc")], ["ef", "gh"], id="two")
    (folder / "t.jsonl").write_text(task.model_dump_json() + "\n")

    both = run(["solve", "t.jsonl", "--arm", "icl", "--json"])
    second = run(["solve", "t.jsonl", "--arm", "icl", "--json", "--query", "1"])
    third = run(["solve", "t.jsonl", "--arm", "icl", "--json", "--query", "2"])

    assert [(line["query"], line["answer"]) for line in both.objects()] == [(0, "fe"), (1, "hg")]
    assert [line["answer"] for line in second.objects()] == ["hg"]
    assert third.code == 3


def test_decide_says_arm_propensity_and_reason_and_records_nothing(run: Run, tasks_file: Path, tmp_path: Path) -> None:
    machine = run(["decide", tasks_file, "--json", "--home", tmp_path])
    person = run(["decide", tasks_file, "--home", tmp_path])

    assert {"task_id", "arm", "propensity", "reason", "difficulty"} <= set(machine.objects()[0])
    assert "by the prior alone" in person.out.splitlines()[0]
    with Ledger.open(tmp_path) as ledger:
        assert ledger.latest(9) == ()


def test_a_reader_who_leaves_is_no_error(tasks_file: Path) -> None:
    command = [sys.executable, "-c", "import sys; from router.cli import main; sys.exit(main())", "doctor", "--help"]
    with subprocess.Popen(
        command, cwd=tasks_file.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaint = process.stderr.read()

    assert b"Traceback" not in complaint
    assert b"BrokenPipe" not in complaint


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"train": [{"input": [[1, 2], [3]], "output": [[1]]}], "test": [{"input": [[1]]}]}', "train[0].input"),
        ('{"train": [{"input": [[10]], "output": [[1]]}], "test": [{"input": [[1]]}]}', "train[0].input[0][0]"),
        ('{"train": [], "test": [{"input": [[1]]}]}', "train"),
        ("[" * 10_000, "nested too deeply"),
        ("not json", "no JSON"),
        ("{}", "unknown shape"),
        ('{"examples": [{"input": "\\ud800", "target": "x"}, {"input": "a", "target": "b"}]}', "surrogate"),
    ],
    ids=["ragged", "cell 10", "no pairs", "deep", "no json", "empty", "surrogate"],
)
def test_a_bad_file_is_one_line_that_names_the_field(run: Run, folder: Path, content: str, named: str) -> None:
    (folder / "bad.json").write_text(content)

    ran = run(["solve", "bad.json", "--shots", "1"])

    assert ran.code == 3
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert named in ran.err


def test_a_missing_file_is_refused(run: Run) -> None:
    ran = run(["solve", "nowhere.json"])

    assert ran.code == 3
    assert "nowhere.json: no such file" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve"], ["unheard"], ["solve", "f", "--limit", "x"], ["pretrain", "--steps", "0"],
        ["pretrain", "--hidden-size", "50", "--heads", "3"],
    ],
)  # fmt: skip
def test_bad_arguments_are_usage(run: Run, arguments: list[str]) -> None:
    assert run(arguments).code == 2


def test_pretraining_leaves_weights_of_the_shape_that_was_asked_for(run: Run, folder: Path) -> None:
    shape = ["--hidden-size", "32", "--intermediate-size", "64", "--layers", "1", "--heads", "2"]
    work = ["--steps", "2", "--rows", "2", "--row-tokens", "96", "--out", "run", "--no-compiled"]

    ran = run(["pretrain", *shape, *work])

    weights = ran.out.strip()
    assert ran.code == 0
    assert f"--model {weights}" in ran.err
    assert load_model(weights, device="cpu").module.config.hidden_size == 32


def test_a_bad_setting_is_usage_and_named(run: Run, tasks_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_EPSILON", "7")

    ran = run(["solve", tasks_file])

    assert ran.code == 2
    assert ran.err.startswith("ttt-router: TTT_ROUTER_EPSILON: got '7'.")


@pytest.mark.parametrize("command", ["solve", "decide"])
def test_a_variable_that_is_no_setting_is_told_of(
    run: Run, tasks_file: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TTT_ROUTER_PRIZE", "0.3")

    ran = run([command, tasks_file])

    assert ran.code == 0
    assert ran.err.startswith(
        "ttt-router: TTT_ROUTER_PRIZE is no setting and does nothing; did you mean TTT_ROUTER_PRI"
    )


def test_an_arm_that_there_is_not_is_usage(run: Run, tasks_file: Path) -> None:
    ran = run(["solve", tasks_file, "--arm", "guess"])

    assert ran.code == 2
    assert "'guess' is not available" in ran.err


def test_a_model_that_is_not_there_is_a_dependency_down(
    run: Run, tasks_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(settings: Settings) -> Router:
        raise ModelUnavailable("no model", remedy="Give another.")

    monkeypatch.setattr(router.cli, "make_router", missing)

    assert run(["solve", tasks_file]).code == 4


def test_a_task_that_is_refused_does_not_stop_the_others(
    run: Run, tasks_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(task: Task) -> Value | None:
        if task.id == "flip_1":
            raise TaskRefused("got too much", field="queries[0]", remedy="Give less.", task_id=task.id)
        return mirrored(task)

    monkeypatch.setattr(router.cli, "make_router", lambda settings: Router(settings, model=ScriptedModel(picky)))

    ran = run(["solve", tasks_file, "--arm", "icl", "--json"])

    assert ran.code == 3
    assert [line["task_id"] for line in ran.objects()] == ["flip_0", "odd_0"]
    assert "ttt-router: task flip_1: queries[0]: got too much. Give less." in ran.err


def test_ctrl_c_ends_with_130(run: Run, tasks_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(task: Task) -> Value | None:
        raise KeyboardInterrupt

    monkeypatch.setattr(router.cli, "make_router", lambda settings: Router(settings, model=ScriptedModel(interrupted)))

    assert run(["solve", tasks_file, "--arm", "icl"]).code == 130


def test_help_and_version_load_no_engine() -> None:
    code = (
        "import sys; from router.cli import main; main(['--version']); main(['--help']);"
        "sys.exit(len({'torch', 'transformers', 'langgraph'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert done.stdout.startswith("ttt-router ")
    assert "doctor" in done.stdout


def test_feedback_is_about_the_last_solve_and_may_be_taken_back(run: Run, tasks_file: Path) -> None:
    run(["solve", tasks_file, "--limit", "1"])

    assert "right, says user." in run(["feedback", "right"]).out
    assert "wrong, says user now." in run(["feedback", "wrong", "last"]).out
    assert run(["feedback", "perhaps"]).code == 2
    assert run(["feedback", "right", "nothing"]).code == 2


def test_feedback_makes_no_ledger(run: Run, folder: Path) -> None:
    ran = run(["feedback", "right"])

    assert ran.code == 4
    assert "there is no such file" in ran.err
