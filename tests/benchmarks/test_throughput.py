"""The whole harness at toy size: what it finds is worth nothing, that it runs is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Trainer

from benchmarks.throughput import in_processes
from benchmarks.throughput.__main__ import _compared, main
from benchmarks.throughput.comparing import compare, part_after
from benchmarks.throughput.decoding import decode_mixed
from benchmarks.throughput.in_processes import VARIANTS, shared_out
from benchmarks.throughput.peers import FAIR, FAIR_IN_BF16, PEERS, TRL, has_trl
from benchmarks.throughput.records import WARM_UP, About, Record, read, whole_lines, written
from benchmarks.throughput.report import marks, report, write_between_marks
from benchmarks.throughput.rounds import Noise, Schedule
from benchmarks.throughput.subject import (
    LLAMA_1B,
    Subject,
    held_out_tasks,
    task_of_tokens,
    tasks_of_file,
    trained,
    untrained,
)
from benchmarks.throughput.variants import (
    IN_BF16,
    OURS,
    Setting,
    Solved,
    Stages,
    Variant,
    answer_merged,
    as_routed,
    difference,
    narrowed,
    on_top_layers,
    ours,
    train_together,
    with_steps,
    with_training,
    with_views,
)
from icl_engine.embedded.vocabulary import PAD, START
from icl_engine.task import LabelledTask, Task
from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings, TrainingSettings

CPU = torch.device("cpu")
TASKS = [task_of_tokens(64, seed) for seed in range(2)]
EXACT = [each for each in VARIANTS if each.column != "approximate" and (has_trl() or each.name != TRL)]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return untrained("20k", tmp_path_factory.mktemp("model"), torch.device("cpu"))


@pytest.fixture(scope="module")
def setting(subject: Subject) -> Setting:
    return Setting.of(subject.model, LoraSettings(rank=4), TrainingSettings(steps=3, batch_size=2), n_views=3)


@pytest.fixture(scope="module")
def fair(subject: Subject, setting: Setting) -> Solved:
    return _solved(next(each for each in PEERS if each.name == FAIR), subject, setting)


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # and as many processes, however many cores there are
    yield
    torch.set_num_threads(threads)


def _solved(variant: Variant, subject: Subject, setting: Setting) -> Solved:
    return variant.run(subject, TASKS, setting, Stages(subject.device))


def test_the_whole_harness_runs_and_its_tables_can_be_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, results = tmp_path / "performance.md", tmp_path / "results.jsonl"
    document.write_text("\n".join(["before", *marks("cpu, 20k"), "after", ""]))
    options = ["--size", "toy", "--shape", "20k", "--allow-noise", "--threads", "1", "--out", str(document)]
    for name in (PEERS[0].name, FAIR, "all together", "shorter, four views", "early stop"):
        options += ["--variant", name]
    main([*options, "--device", "cpu", "--results", str(results)])
    tables = capsys.readouterr().out

    main(["--tables", str(results)])

    assert capsys.readouterr().out == tables
    assert document.read_text() == "\n".join(
        ["before", marks("cpu, 20k")[0], tables.strip(), marks("cpu, 20k")[1], "after", ""]
    )
    assert {"compare", "decode", "memory", "ladder", "growth"} == {
        each.section for each in read(results.read_text().splitlines())[1]
    }
    assert "not measured on a GPU" in tables
    assert "2 tasks; 1 of 1 rounds count" in tables
    assert ("not installed" in tables) == (not has_trl())


def test_a_run_that_was_killed_goes_on_from_its_rounds_and_does_none_of_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    options = ["--size", "toy", "--shape", "20k", "--allow-noise", "--threads", "1", "--results", str(results)]
    options += ["--section", "compare", "--section", "memory", "--variant", FAIR, "--variant", "all together"]

    main([*options, "--stop-after", "0"])
    nothing = read(whole_lines(results))[1]
    main(options)
    whole = results.read_text()
    first = read(whole_lines(results))[1]
    results.write_text(whole[: whole.rindex('{"record": {"section": "memory"') + 30])  # killed amid the last line
    main([*options, "--rounds", "2"])
    again = read(whole_lines(results))[1]
    capsys.readouterr()

    assert nothing == []
    assert [each for each in again if each.section == "compare" and each.round < 1] == [
        each for each in first if each.section == "compare"
    ]
    assert [each.name for each in again if (each.section, each.round) == ("compare", 1)] == ["all together", FAIR]
    assert len([each for each in again if each.section == "memory"]) == 4


def test_results_of_other_options_are_not_gone_on_with(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    options = ["--size", "toy", "--shape", "20k", "--allow-noise", "--threads", "1", "--results", str(results)]
    options += ["--without-trl"]
    main([*options, "--stop-after", "0"])

    with pytest.raises(ValueError, match="Give another file"):
        main([*options, "--steps", "2", "--stop-after", "0"])


@pytest.mark.parametrize("apart", ["capabilities_here", "LoraSettings"])
def test_results_of_a_processor_or_settings_that_differ_under_one_name_are_not_gone_on_with(
    apart: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--size", "toy", "--shape", "20k", "--allow-noise", "--threads", "1", "--without-trl"]
    options += ["--results", str(tmp_path / "results.jsonl"), "--stop-after", "0"]
    main(options)
    other = {"capabilities_here": lambda: "AVX512", "LoraSettings": lambda: LoraSettings(rank=3)}
    monkeypatch.setattr(f"benchmarks.throughput.__main__.{apart}", other[apart])

    with pytest.raises(ValueError, match="Give another file"):
        main(options)


@pytest.mark.parametrize("asked", [[], ["--variant", TRL]])
def test_a_peer_that_is_not_installed_is_missed_before_anything_is_measured(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.throughput.__main__.has_trl", lambda: False)

    with pytest.raises(SystemExit):
        main(["--size", "toy", "--shape", "20k", "--results", str(tmp_path / "r"), *asked])

    assert ".installed-bench" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("prefers", [True, False])
def test_approximate_variants_compute_as_the_router_would(
    prefers: bool, subject: Subject, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersModel, "prefers_bfloat16", prefers)
    told: list[str] = []

    def run(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        told.append(setting.training.precision)
        return Solved((), (), (), ())

    as_routed(run)(subject, TASKS, setting, Stages(CPU))

    assert told == ["bf16" if prefers else "full"]


def test_what_the_router_does_not_take_here_is_left_out_and_the_head_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersModel, "prefers_bfloat16", False)
    compared: list[str] = []

    def nothing(
        subject: Subject, tasks: object, setting: object, variants: Sequence[Variant], *_: object, **__: object
    ) -> Iterator[Record]:
        compared.extend(each.name for each in variants)
        return iter(())

    monkeypatch.setattr("benchmarks.throughput.__main__.compare", nothing)
    options = ["--size", "toy", "--shape", "20k", "--allow-noise", "--threads", "1", "--section", "compare"]

    main([*options, "--without-trl", "--results", str(tmp_path / "r")])

    assert {"short", "narrow", "narrow, top layers", "lean", "lean, scored", "shorter"} < set(compared)
    assert not [name for name in compared if IN_BF16 in name or name == TRL]
    assert "`bf16` in its name is left out" in capsys.readouterr().out


def test_rounds_go_through_the_tasks_part_by_part(subject: Subject, setting: Setting) -> None:
    asked: list[list[str]] = []

    def run(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        asked.append([task.id for task in tasks])
        return Solved(
            ((),) * len(tasks), ({},) * len(tasks), (0.0,) * len(tasks), tuple(map(float, range(1, 1 + len(tasks))))
        )

    tasks = [LabelledTask.parse(task, [[[0]]]) for task in (*TASKS, task_of_tokens(64, 2))]
    variants = [Variant("all together", "approximate", "", run)]

    records = list(
        compare(subject, tasks, setting, variants, Schedule(3, allow_noise=True), repeats=1, tasks_a_round=2)
    )

    ids = [labelled.task.id for labelled in tasks]
    assert asked == [ids[:1], ids[:2], ids[2:], ids[:2]]  # the first warms up
    assert [each.figures.get("part") for each in records] == [None, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(("device", "solved"), [("cpu", "together"), ("cuda", "all together")])
def test_what_solve_many_does_on_a_device_is_compared(device: str, solved: str) -> None:
    names = _compared(torch.device(device))

    assert {solved, f"{solved}, a process a core"} < set(names) <= {each.name for each in VARIANTS}


def test_a_part_whose_round_did_not_count_is_taken_again() -> None:
    counted = [True, False, False, True, True]

    assert [part_after(counted[:i], 3) for i in range(6)] == [0, 1, 1, 1, 2, 0]


def test_processes_are_warmed_up_before_they_count_and_never_again(
    subject: Subject, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[int] = []
    warms_up = in_processes._warmed_up

    def noting(executor: Any, once: Any) -> None:
        warmed.append(len(once.tasks))
        warms_up(executor, once)

    monkeypatch.setattr(in_processes, "_warmed_up", noting)
    monkeypatch.setattr(in_processes, "_WARM", set())
    run = next(each.run for each in VARIANTS if each.name == "shorter, a process a core")

    for tasks in (TASKS, TASKS[:1], TASKS):
        run(subject, tasks, setting, Stages(subject.device))

    assert warmed == [1]


def test_what_parts_come_to_is_told_of_all_tasks() -> None:
    def record(i: int, part: float, task_s: tuple[float, float], **figures: float) -> Record:
        figures |= {"tasks": 2.0, "of_tasks": 6.0, "part": part, "task_0_s": task_s[0], "task_1_s": task_s[1]}
        return Record("compare", "m", "", "all together", i, sum(task_s), None, figures)

    records = [
        record(0, 0.0, (4.0, 6.0), loss=0.1, solved=1.0, train_s=8.0, train_floor_s=1.0),
        record(1, 1.0, (10.0, 20.0), loss=0.5, solved=2.0, train_s=24.0, train_floor_s=7.0),
        record(2, 0.0, (4.0, 6.0), loss=0.1, solved=1.0, train_s=8.0, train_floor_s=2.0),
    ]

    text = report(About("d", "cpu", "p", 2, 1, {}, "c", "run", True), records)

    assert "4 of 6 tasks, as not all parts have a round, 2 of them a round; 3 of 3 rounds count" in text
    assert "| all together | exact | 432 |" in text  # six tasks in 50 s
    assert "| 3 of 4 | 0.3000 |" in text
    assert "6.667" in text  # seconds of training, 40 of six tasks
    assert "25.0%" in text  # of the floor, 10 of 40
    assert "| 8.000 | 18.500 |" in text  # of 4, 6, 10 and 20 s


def test_what_is_in_bfloat16_is_held_against_the_peer_that_is() -> None:
    records = [
        Record("compare", "m", "", name, 0, seconds, None, {"tasks": 1.0})
        for name, seconds in ((FAIR, 12.0), (FAIR_IN_BF16, 8.0), (IN_BF16, 4.0))
    ]

    text = report(About("d", "cpu", "p", 2, 1, {}, "c", "run", True), records)

    assert "| times P0 | times P1 | times P1, bf16 |" in text
    assert "| bf16 | approximate | 900 |  | 3.00 | 2.00 |" in text


def test_a_peer_in_bfloat16_asks_its_trainer_for_it(
    subject: Subject, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    trains = Trainer.train

    def noting(trainer: Trainer) -> object:
        told.append(trainer.args.bf16)
        return trains(trainer)

    monkeypatch.setattr(Trainer, "train", noting)

    for name in (FAIR, FAIR_IN_BF16):
        _solved(next(each for each in PEERS if each.name == name), subject, setting)

    assert told == [False] * len(TASKS) + [True] * len(TASKS)


def test_the_loss_of_other_steps_is_not_told() -> None:
    figures = {"tasks": 1.0, "loss": 0.1234}
    records = [Record("compare", "m", "", name, 0, 1.0, None, figures) for name in ("all together", "short")]

    lines = report(About("d", "cpu", "p", 2, 1, {}, "c", "run", True), records).splitlines()

    all_together, short = (
        next(line for line in lines if line.startswith(f"| {n} |")) for n in ("all together", "short")
    )
    assert "0.1234" in all_together
    assert "0.1234" not in short


def test_a_round_that_was_broken_off_is_not_counted() -> None:
    about = About("d", "cpu", "p", 2, 1, {}, "c", "run", True)
    figures = {"solves": 1.0}
    records = [
        Record("route", "m", "", name, i, 1.0 + i, Noise(0.0, 0.0, 1.0), figures)
        for name, i in (("answer_in_context", 0), ("Router.solve", 0), ("answer_in_context", 1))
    ]

    assert "1 of 1 rounds count" in report(about, records)


def test_the_router_is_measured_on_a_model_that_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--size", "toy", "--section", "route", "--allow-noise", "--threads", "1", "--results", str(tmp_path / "r")])

    assert "Router.solve" in capsys.readouterr().out


@pytest.mark.parametrize("variant", EXACT, ids=lambda each: each.name)
def test_whatever_is_exact_trains_the_adapter_that_the_trainer_does(
    variant: Variant, subject: Subject, setting: Setting, fair: Solved
) -> None:
    solved = _solved(variant, subject, setting)

    assert max(map(difference, solved.adapters, fair.adapters)) < 1e-4
    assert solved.losses == pytest.approx(fair.losses, rel=1e-5)


def test_processes_solve_what_one_does_and_tell_what_it_took(subject: Subject, setting: Setting) -> None:
    together, apart = (
        next(each for each in VARIANTS if each.name == name)
        for name in ("all together", "all together, a process a core")
    )
    here, there = Stages(subject.device), Stages(subject.device)

    together.run(subject, TASKS, setting, here)
    apart.run(subject, TASKS, setting, there)

    assert here.passed_tokens["train"] == there.passed_tokens["train"]
    assert sorted(here.rows) == sorted(there.rows)
    assert there.seconds.keys() == here.seconds.keys()


def test_tasks_are_shared_out_so_that_nobody_has_much_more_than_another() -> None:
    tasks = [task_of_tokens(n, 0) for n in (512, 64, 64, 256, 256, 128)]
    sizes = [len(str(task.demonstrations)) for task in tasks]

    shares = shared_out(tasks, 2)
    loads = [sum(sizes[i] for i in share) for share in shares]

    assert sorted(i for share in shares for i in share) == [*range(6)]
    assert max(loads) - min(loads) < min(sizes[1:3]) + sizes[5]
    assert shared_out(tasks[:1], 2) == [[0]]


def test_the_answers_of_peers_and_ours_are_one_vote_over_the_same_views() -> None:
    embedded = trained(None, "cpu", "auto")
    tasks = [each.task for each in held_out_tasks(2, embedded.model, most_tokens=200)]
    of_embedded = Setting.of(embedded.model, LoraSettings(), TrainingSettings(steps=1), n_views=2)
    known = {each.name: each for each in (*PEERS, *OURS)}

    values = [
        [
            [each.values for each in answers]
            for answers in known[name].run(embedded, tasks, of_embedded, Stages(embedded.device)).answers
        ]
        for name in (FAIR, "together")
    ]

    assert values[0] == values[1]
    assert any(values[0][0])


def test_a_model_of_ordinary_positions_is_measured_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=None,
    )
    monkeypatch.setattr("benchmarks.throughput.subject._LLAMA_1B", small)
    llama = untrained(LLAMA_1B, tmp_path, torch.device("cpu"))
    of_llama = Setting.of(llama.model, LoraSettings(rank=4), TrainingSettings(steps=2), n_views=2)
    known = {each.name: each for each in (*PEERS, *OURS)}

    theirs, ours = (_solved(known[name], llama, of_llama) for name in (FAIR, "together"))
    decoded = list(decode_mixed(llama, of_llama, Schedule(1), adapters=[2], rows_each=1, prompt_tokens=64, repeats=1))

    assert max(map(difference, ours.adapters, theirs.adapters)) < 1e-4
    assert {each.figures["same_rows"] for each in decoded if "same_rows" in each.figures} == {1.0}


def test_fewer_steps_are_fewer(subject: Subject, setting: Setting) -> None:
    told: list[Setting] = []

    def run(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        told.append(setting)
        return Solved((), (), (), ())

    with_views(with_training(with_steps(run, 0.34), learning_rate=5e-3), 2)(subject, TASKS, setting, Stages(CPU))
    whole = replace(setting, training=TrainingSettings(steps=40, batch_size=4, learning_rate=2e-3))
    narrowed(run, 1.5)(subject, TASKS, whole, Stages(CPU))

    assert [(each.training.steps, each.training.learning_rate, each.n_views) for each in told[:1]] == [(1, 5e-3, 2)]
    assert [(each.training.steps, each.training.batch_size, each.training.learning_rate) for each in told[1:]] == [
        (40, 2, 3e-3)
    ]


def test_on_the_top_layers_training_begins_as_it_would_on_all(subject: Subject, setting: Setting) -> None:
    still = replace(setting, training=TrainingSettings(steps=1, learning_rate=0.0))
    on_one, on_all = (
        _solved(Variant("ours", "exact", "", on_top_layers(run, n)), subject, still)
        for run, n in ((ours(train_together, answer_merged), n) for n in (1, 2))
    )

    assert on_all.adapters[0].keys() == setting.start.keys()
    assert 0 < len(on_one.adapters[0]) < len(setting.start)
    for adapter in (*on_one.adapters, *on_all.adapters):
        assert all(torch.equal(tensor, setting.start[name]) for name, tensor in adapter.items())


def test_how_far_an_adapter_of_fewer_layers_is_from_the_peer_s_is_not_told(subject: Subject, setting: Setting) -> None:
    fair = next(each for each in PEERS if each.name == FAIR)
    variants = [fair, Variant("top", "approximate", "", on_top_layers(ours(train_together, answer_merged), 1))]
    tasks = [LabelledTask.parse(task, [[[0]]]) for task in TASKS]
    records = list(compare(subject, tasks, setting, variants, Schedule(1, allow_noise=True), repeats=1))

    assert {each.name for each in records if "differs" in each.figures} == {FAIR}
    assert {each.name for each in records if each.round != WARM_UP} == {FAIR, "top"}


def test_writing_one_view_and_checking_the_others_gives_the_same_answers() -> None:
    embedded = trained(None, "cpu", "auto")
    tasks = [each.task for each in held_out_tasks(2, embedded.model, most_tokens=200)]
    setting = Setting.of(embedded.model, LoraSettings(), TrainingSettings(steps=1), n_views=3)
    known = {each.name: each for each in OURS}

    plain, verified = (
        known[name].run(embedded, tasks, setting, Stages(CPU)).answers for name in ("all together", "verified")
    )

    assert [[each.values for each in answers] for answers in plain] == [
        [each.values for each in answers] for answers in verified
    ]


def test_stages_count_seconds_tokens_and_answers(subject: Subject, setting: Setting) -> None:
    stages = Stages(subject.device)

    OURS[0].run(subject, TASKS, setting, stages)

    assert stages.seconds.keys() == stages.passed_tokens.keys() == {"train", "answer"}
    assert stages.passed_tokens["train"] == 2 * 3 * 2 * subject.model.encode(TASKS[0]).query_start
    assert len(stages.rows) == 2 * 3


def test_held_out_tasks_are_the_same_each_time_and_short_enough(subject: Subject) -> None:
    tasks = held_out_tasks(5, subject.model, most_tokens=300)

    assert tasks == held_out_tasks(5, subject.model, most_tokens=300)
    assert len({each.task.fingerprint for each in tasks}) == 5
    assert all(len(subject.model.encode(each.task).ids) <= 300 for each in tasks)


def test_tasks_of_a_file_need_two_demonstrations(subject: Subject, tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text('{"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}')

    assert tasks_of_file(file, None, subject.model, most_tokens=300) == []


@pytest.mark.parametrize("tokens", [64, 256, 1024])
def test_a_task_of_so_many_tokens_is_about_as_long(subject: Subject, tokens: int) -> None:
    tasks: list[Task] = [task_of_tokens(tokens, seed) for seed in range(2)]
    lengths = {len(subject.model.encode(task, task.query).ids) for task in tasks}

    assert len(lengths) == 1
    assert lengths.pop() == pytest.approx(tokens, rel=0.35)


def test_disturbed_rounds_are_told_of_and_left_out() -> None:
    quiet, loud = Noise(0.0, 0.0, 1.0), Noise(0.9, 0.0, 1.0)
    figures = {"solves": 1.0}
    names = ("answer_in_context", "Router.solve")
    records = [
        Record("route", "m", "", name, i, seconds, noise, figures)
        for (i, noise), (name, seconds) in itertools.product(
            enumerate((quiet, loud)), zip(names, (1.0, 2.0), strict=True)
        )
    ]
    about = About("d", "cuda", "p", 2, 1, {}, "c", "run", False)

    text = report(about, records)

    assert "1 of 2 rounds count" in text
    assert "| Router.solve | 2000.00 | 2.00 |" in text
    assert "not measured on a GPU" not in text
    assert read([written(about), *map(written, records)]) == (about, records)


@pytest.mark.parametrize("section", ["compare", "decode", "route", "growth"])
def test_of_a_machine_that_was_never_quiet_nothing_is_said(section: str) -> None:
    record = Record(section, "m", "", FAIR, 0, 1.0, Noise(0.9, 0.0, 1.0), {"tasks": 1.0})

    text = report(About("d", "cpu", "p", 2, 1, {}, "c", "run", False), [record])

    assert "0 of 1 rounds count: the machine was never quiet" in text


def test_results_of_a_shape_have_a_place_of_their_own_in_the_document_that_is_shipped() -> None:
    about = About("d", "cuda", "p", 2, 1, {}, "c", "run", False)
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()

    for each in (about, replace(about, plan={"shape": LLAMA_1B}), replace(about, kind="cpu")):
        assert all(page.count(mark) == 1 for mark in marks(each.title))


def test_results_that_name_no_machine_and_documents_without_marks_are_refused(tmp_path: Path) -> None:
    document = tmp_path / "d.md"
    document.write_text("nothing")

    with pytest.raises(ValueError, match="which machine"):
        read([])
    with pytest.raises(ValueError, match="lacks the lines"):
        write_between_marks(document, "cpu", "")
