"""The ablation can be broken off anywhere, trains once for what differs in inference alone, and compares in pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.ablation.__main__ import main
from benchmarks.ablation.jobs import BLOCK as SIZES
from benchmarks.ablation.jobs import Item, Job, jobs, keys, shuffled
from benchmarks.ablation.precisions import Rows
from benchmarks.ablation.report import Paired, mean_interval, report, share
from benchmarks.ablation.solving import Row, solve
from benchmarks.ablation.variants import DEFAULT, FLAT, IN_CONTEXT, POOLED, SHARED, VARIANTS, Kind, Variant
from icl_engine.embedded.pretraining import save_weights
from icl_engine.errors import OutOfMemory
from icl_engine.language_model import Generation, load_model
from icl_engine.task import LabelledTask, Task
from icl_engine.transformers_model import TransformersModel
from router.bench.bootstrap import Interval
from router.evaluation_workers import append_lines, read_lines
from router.model_eval import load_set
from router.router import Router
from router.settings import Settings
from tests.models import CONSTANT, CONSTANT_TASK, TEXT_TASK, tiny_model, tiny_module

BLOCK = SIZES["grid"]
MARKS = "<!-- results: begin -->\nold\n<!-- results: end -->\n"
FEW_STEPS = {"ttt_steps": 2, "ttt_batch_size": 1, "n_views": 2}


def item(seed: int, kind: Kind = "grid") -> Item:
    if kind == "text":
        task = TEXT_TASK.model_copy(update={"id": f"text_{seed}"})
        return Item("bbh", LabelledTask.parse(task, ["False"]))
    pairs = [([seed % 9, 1 + each], [1 + each, seed % 9]) for each in range(3)]
    return Item("1d-arc", LabelledTask.parse(Task.from_pairs(pairs, [seed % 9, 7], id=f"flip_{seed}"), [[7, seed % 9]]))


def variant(name: str) -> Variant:
    return replace(VARIANTS[name], chosen={**FEW_STEPS, **VARIANTS[name].chosen})


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    return tiny_model()


@pytest.fixture
def router(model: TransformersModel, tmp_path: Path) -> Router:
    return Router(Settings(home=tmp_path), model=model)


def rows_of(router: Router, found: Sequence[Job]) -> list[Row]:
    return [row for job in found for row in solve(router, job)]


def row(name: str, task: int, *, right: bool, seconds: float = 1.0) -> Row:
    return Row(
        name, f"{name} {task}", "1d-arc", "grid", str(task), (right,), (right,), (right,), seconds, 0.0, 0, "", ""
    )


# What is to be done


@pytest.mark.parametrize(
    ("name", "key_of_before"),
    [
        (DEFAULT, "c1f282edd973e3f5"),
        ("dropout of a twentieth", "e18c9b203fd89782"),
        ("top three layers", "d2877117890539c7"),
    ],
)
def test_the_keys_of_kept_rows_are_what_they_were(name: str, key_of_before: str, model: TransformersModel) -> None:
    task = Item("a", LabelledTask.parse(CONSTANT_TASK, [CONSTANT]))

    assert {key for key, _, _ in keys([task], [VARIANTS[name]], model, "full")} == {key_of_before}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != DEFAULT])
def test_every_variant_makes_another_plan_than_the_default(
    name: str, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersModel, "prefers_bfloat16", True)  # as a processor with such products has it

    for kind in VARIANTS[name].kinds:
        assert VARIANTS[name].plan(model, kind) != VARIANTS[DEFAULT].plan(model, kind)


def test_what_differs_in_inference_alone_is_one_training(model: TransformersModel) -> None:
    of_inference = [each for each in VARIANTS.values() if each.group == "inference"]

    (job,) = jobs([item(0)], [VARIANTS[DEFAULT], *of_inference], model)

    assert [named.name for named in job.plans] == [DEFAULT, *(each.name for each in of_inference)]


def test_a_task_is_done_with_before_the_next_and_a_block_after_its_tasks(model: TransformersModel) -> None:
    tasks = [item(i) for i in range(BLOCK + 1)]

    found = list(jobs(tasks, [VARIANTS[DEFAULT], VARIANTS["rank 4"], VARIANTS[SHARED]], model))

    assert [job.tasks for job in found] == [
        *((task,) for task in tasks[:BLOCK] for _ in range(2)),
        tuple(tasks[:BLOCK]),
        *((tasks[BLOCK],) for _ in range(3)),
    ]


def test_the_order_of_tasks_hangs_on_the_tasks_alone() -> None:
    tasks = [item(i) for i in range(9)]

    assert shuffled(tasks) == shuffled(tasks[::-1])
    assert shuffled(tasks) != tasks


def test_what_is_there_is_not_done_again(model: TransformersModel) -> None:
    tasks, variants = [item(0), item(1), item(2, "text")], list(VARIANTS.values())
    known = keys(tasks, variants, model)
    missing = next(each for each in sorted(known) if each[2] == "flip_1")

    assert list(jobs(tasks, variants, model, known)) == []
    (job,) = jobs(tasks, variants, model, known - {missing})
    assert [named.key for named in job.plans] == [missing[0]]


@pytest.mark.parametrize("name", [DEFAULT, SHARED])
def test_other_demonstrations_or_queries_are_to_be_answered_anew(name: str, model: TransformersModel) -> None:
    was = item(0)
    task = was.labelled.task
    shown = replace(was.labelled, task=task.replace(demonstrations=task.demonstrations[:2]))
    asked = LabelledTask(task.replace(queries=task.queries * 2), was.labelled.solutions * 2)

    found = {each[0] for it in (was.labelled, shown, asked) for each in keys([Item("a", it)], [VARIANTS[name]], model)}

    assert len(found) == 3


@pytest.mark.parametrize("prefers", [True, False])
def test_what_is_the_default_on_a_processor_is_told(
    prefers: bool, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersModel, "prefers_bfloat16", prefers)

    alike = [name for name, each in VARIANTS.items() if each.is_the_default(model)]

    assert alike == ([] if prefers else ["products in full precision"])


# Rows in either precision


def rows_at(places: Iterable[tuple[str, str, str]]) -> list[Row]:
    """Rows of which nothing matters but what they hang on."""
    return [replace(row(DEFAULT, 0, right=True), key=key, set=of, task_id=task) for key, of, task in sorted(places)]


PAPER = [VARIANTS[DEFAULT], VARIANTS["one view"], VARIANTS[SHARED]]
TASKS = [item(i) for i in range(BLOCK + 1)]  # a block, and one of the next


@pytest.fixture
def in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TransformersModel, "prefers_bfloat16", False)


@pytest.mark.usefixtures("in_full")
def test_a_block_that_is_whole_in_another_precision_is_not_done_again(model: TransformersModel) -> None:
    there = Rows(rows_at(keys(TASKS[:BLOCK], PAPER, model, "bf16")), TASKS, model)

    assert {task for job in there.left(PAPER) for task in job.tasks} == {TASKS[BLOCK]}
    assert there.counted == there.known
    assert there.n_tasks == {"bf16": BLOCK}


@pytest.mark.usefixtures("in_full")
def test_what_a_block_lacks_that_the_default_has_answered_in_another_precision_is_done_in_that_one(
    model: TransformersModel,
) -> None:
    left = Rows(rows_at(keys(TASKS[:BLOCK], PAPER, model, "bf16")), TASKS, model).left([*PAPER, VARIANTS["rank 4"]])

    done_in = [(job.tasks, plan.training.precision) for job in left if (plan := job.plans[0].plan).training]
    assert done_in[:BLOCK] == [((task,), "bf16") for task in TASKS[:BLOCK]]
    assert {precision for _, precision in done_in[BLOCK:]} == {"full"}


@pytest.mark.usefixtures("in_full")
def test_a_block_that_the_default_has_not_answered_whole_elsewhere_is_done_in_the_precision_here(
    model: TransformersModel,
) -> None:
    found, of_default = keys(TASKS[:BLOCK], PAPER, model, "bf16"), keys(TASKS[:1], PAPER[:1], model, "bf16")
    there = Rows(rows_at(found - of_default), TASKS, model)
    left = there.left(PAPER)

    assert {task for job in left for task in job.tasks} == set(TASKS)
    assert {plan.training.precision for job in left if (plan := job.plans[0].plan).training} == {"full"}
    assert there.counted == []


@pytest.mark.usefixtures("in_full")
def test_a_block_counts_in_one_precision_and_where_both_are_whole_in_that_of_the_machine(
    model: TransformersModel,
) -> None:
    whole, begun = keys(TASKS[:BLOCK], PAPER, model, "bf16"), keys(TASKS[:3], PAPER[:2], model, "full")
    next_block = keys(TASKS[BLOCK:], PAPER, model, "full")
    there = Rows(rows_at([*whole, *begun, *next_block]), TASKS, model)
    in_both = Rows(rows_at([*whole, *keys(TASKS[:BLOCK], PAPER, model, "full")]), TASKS, model)

    assert len(there.known) == len({*whole, *begun, *next_block})
    assert {(each.key, each.set, each.task_id) for each in there.counted} == whole | next_block
    assert there.n_tasks == {"bf16": BLOCK, "full": 1}
    assert in_both.n_tasks == {"full": BLOCK}


@pytest.mark.parametrize("here", ["full", "bf16"])
def test_a_variant_that_chooses_its_precision_is_done_where_it_is_not_the_default(
    here: str, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersModel, "prefers_bfloat16", here == "bf16")
    chosen = VARIANTS["products in full precision"]
    of_first, of_second = keys(TASKS[:BLOCK], PAPER, model, "bf16"), keys(TASKS[BLOCK:], PAPER, model, "full")

    left = Rows(rows_at([*of_first, *of_second]), TASKS, model).left([*PAPER, chosen])

    assert [(job.tasks, [named.name for named in job.plans]) for job in left] == [
        ((task,), [chosen.name]) for task in TASKS[:BLOCK]
    ]


@pytest.mark.usefixtures("in_full")
def test_rows_of_neither_precision_are_none_of_the_plan(model: TransformersModel) -> None:
    strange = replace(row(DEFAULT, 0, right=True), key="of other settings", set="a")

    assert Rows([strange], TASKS, model).known == []


# A job


def test_a_pooled_adapter_has_the_steps_of_one_task(router: Router, model: TransformersModel) -> None:
    tasks = [item(i) for i in range(3)]
    rows = {
        name: rows_of(router, list(jobs(tasks, [VARIANTS[name]], model))) for name in (DEFAULT, SHARED, POOLED)
    }  # fmt: skip
    tokens = {name: sum(each.tokens for each in found) for name, found in rows.items()}

    assert tokens[SHARED] == pytest.approx(tokens[DEFAULT], rel=0.2)
    assert tokens[POOLED] < 0.5 * tokens[SHARED]


def test_a_block_shares_an_adapter_and_each_of_its_tasks_its_cost(router: Router, model: TransformersModel) -> None:
    tasks = [item(0), item(1)]
    names = (SHARED, "a block's adapter, then a quarter of the steps")

    rows = rows_of(router, list(jobs(tasks, [variant(name) for name in names], model)))

    assert [(each.variant, each.task_id) for each in rows] == [(n, f"flip_{i}") for i in range(2) for n in names]
    assert rows[0].train_s == rows[2].train_s
    assert rows[1].train_s > rows[0].train_s
    assert rows[1].tokens > rows[0].tokens > 0


def test_votes_over_the_same_views_are_counted_and_nothing_is_asked_again(
    router: Router, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    generate = model.generate

    def counting(tasks: Sequence[Task], **given: Any) -> list[Generation]:
        asked.append(len(tasks))
        return generate(tasks, **given)

    monkeypatch.setattr(model, "generate", counting)

    rows = rows_of(router, list(jobs([item(0)], [variant(DEFAULT), variant(FLAT)], model)))

    assert sum(asked) == FEW_STEPS["n_views"]
    assert [each.variant for each in rows] == [DEFAULT, FLAT]


def test_a_task_that_cannot_be_trained_on_is_answered_in_context_and_the_row_says_why(
    router: Router, model: TransformersModel
) -> None:
    one = Task.from_pairs([([1, 2], [2, 1])], [3, 4], id="one")

    in_context, trained = rows_of(
        router,
        list(jobs([Item("1d-arc", LabelledTask.parse(one, [[4, 3]]))], [variant(IN_CONTEXT), variant(DEFAULT)], model)),
    )

    assert trained.failed.startswith("TooFewDemonstrations")
    assert trained.right == in_context.right
    assert in_context.failed == ""


def test_an_error_in_answering_costs_one_row_and_the_row_says_why(
    router: Router, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = model.generate

    def of_one_view_alone(tasks: Sequence[Task], **given: Any) -> list[Generation]:
        if len(tasks) > 1:
            raise OutOfMemory("no prompt fits")
        return generate(tasks, **given)

    monkeypatch.setattr(model, "generate", of_one_view_alone)

    in_context, by_vote = rows_of(
        router, list(jobs([item(0)], [variant(IN_CONTEXT), variant("in context, by vote")], model))
    )

    assert in_context.failed == ""
    assert by_vote.failed.startswith("OutOfMemory")
    assert by_vote.right == by_vote.right_first == by_vote.seen == (False,)


def test_what_training_teaches_is_right_and_the_base_comes_back(router: Router, model: TransformersModel) -> None:
    taught = Item("1d-arc", LabelledTask.parse(CONSTANT_TASK, [CONSTANT]))
    enough = replace(VARIANTS[DEFAULT], chosen={"ttt_steps": 30, "ttt_learning_rate": 1e-2, "n_views": 2})

    before, after, again = rows_of(
        router,
        [job for each in (variant(IN_CONTEXT), enough, variant(IN_CONTEXT)) for job in jobs([taught], [each], model)],
    )

    assert after.right == after.seen == (True,)
    assert before.right == again.right == (False,)


# The tables


def test_a_difference_is_of_the_tasks_that_both_have_answered() -> None:
    ours = {("1d-arc", str(i)): row(DEFAULT, i, right=i < 2) for i in range(4)}
    theirs = {("1d-arc", str(i)): row("x", i, right=i < 3, seconds=2.0) for i in range(1, 6)}

    paired = Paired.of({DEFAULT: ours, "x": theirs}, "x", "grid")

    assert [share(each) for each in paired.ours] == [1.0, 0.0, 0.0]
    assert [share(each) for each in paired.theirs] == [1.0, 1.0, 0.0]
    assert paired.seconds_said == "2.00 (2.00-2.00) of 3"
    assert paired.said.startswith("+33.3 (")
    assert paired.said.endswith("1 better, 0 worse")


def test_seconds_are_compared_in_sum_so_that_a_block_that_shares_a_training_evenly_is_not_dearer() -> None:
    seconds = [1.0] * 6 + [20.0, 30.0]  # two long tasks
    ours = {("1d-arc", str(i)): row(DEFAULT, i, right=True, seconds=each) for i, each in enumerate(seconds)}
    of_block = replace(row(SHARED, 0, right=True, seconds=sum(seconds) / 8), key="block")
    theirs = {("1d-arc", str(i)): replace(of_block, task_id=str(i)) for i in range(8)}

    assert Paired.of({DEFAULT: ours, SHARED: theirs}, SHARED).seconds_said == "1.00 (1.00-1.00) of 8"


def test_seconds_are_compared_within_one_commit() -> None:
    ours = {("1d-arc", str(i)): replace(row(DEFAULT, i, right=True), commit="a") for i in range(4)}
    theirs = {
        ("1d-arc", str(i)): replace(row("x", i, right=True, seconds=3.0), commit="b" if i else "a") for i in range(4)
    }

    assert Paired.of({DEFAULT: ours, "x": theirs}, "x").seconds_said == "3.00 (3.00-3.00) of 1"


def test_tasks_of_a_block_are_drawn_anew_together() -> None:
    values = [1.0] * 8 + [0.0] * 8

    alone, blocks = mean_interval(values, range(16)), mean_interval(values, ["a"] * 8 + ["b"] * 8)

    assert alone.value == 0.5
    assert blocks == Interval(0.5, 0.0, 1.0)
    assert 0.0 < alone.low < alone.high < 1.0


def test_no_direction_is_told_of_few_tasks_or_blocks() -> None:
    def direction(n: int, n_blocks: int) -> int | None:
        ours = {("1d-arc", str(i)): row(DEFAULT, i, right=True) for i in range(n)}
        wrong = {("1d-arc", str(i)): replace(row("x", i, right=False), key=str(i % n_blocks)) for i in range(n)}
        return Paired.of({DEFAULT: ours, "x": wrong}, "x", "grid").direction

    assert direction(7, 7) is None
    assert direction(8, 8) == -1
    assert direction(24, 3) is None


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    drawn = [(rng.random(60) < 0.3).astype(float).tolist() for _ in range(100)]
    intervals = [mean_interval(values, range(60), seed=i) for i, values in enumerate(drawn)]

    assert sum(each.low <= 0.3 <= each.high for each in intervals) >= 88


def test_a_direction_of_the_paper_is_found_or_said_not_to_be_told_apart() -> None:
    ours = [row(DEFAULT, i, right=True) for i in range(30)]
    worse = [row("direct input-output pairs", i, right=i % 3 == 0) for i in range(30)]
    alike = [row("loss on the last output alone", i, right=i > 0) for i in range(30)]

    text = report([*ours, *worse, *alike], "head")

    assert "| direct input-output pairs, grid | 18 instead of 29 |" in text
    assert "the paper's direction |" in text
    assert "not told apart |" in text


# The command


def test_a_run_that_was_killed_goes_on_and_the_page_is_made_of_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_weights(tiny_module(), tmp_path / "model")
    arc = {
        f"flip_{i}": {
            "train": [{"input": [[i, each]], "output": [[each, i]]} for each in range(1, 4)],
            "test": [{"input": [[i, 7]], "output": [[7, i]]}],
        }
        for i in range(2)
    }
    (tmp_path / "1d-arc").mkdir()
    (tmp_path / "1d-arc" / "1d_arc.json").write_text(json.dumps(arc))
    results, page = tmp_path / "rows.jsonl", tmp_path / "page.md"
    page.write_text(MARKS)
    options = ["--data", str(tmp_path), "--set", "1d-arc", "--model", str(folder), "--results", str(results)]
    options += ["--variant", IN_CONTEXT, "--variant", "one view", "--out", str(page)]

    main([*options, "--stop-after", "0"])
    assert not results.exists()
    model = load_model(str(folder), device="cpu")
    labelled = load_set("1d-arc", tmp_path, fits=lambda each: True).tasks
    first, *_ = jobs(
        shuffled([Item("1d-arc", each) for each in labelled]), [VARIANTS[DEFAULT], VARIANTS["one view"]], model
    )
    known = rows_of(Router(Settings(home=tmp_path / "home"), model=model), [first])
    append_lines(results, map(asdict, known))
    with results.open("a") as file:
        file.write('{"variant": "the def')  # killed amid a line
    main(options)
    capsys.readouterr()
    main([*options, "--tables"])

    text = page.read_text()
    append_lines(results, [asdict(replace(known[0], key="of another machine"))])
    with pytest.raises(SystemExit):
        main([*options, "--tables"])
    assert page.read_text() == text
    assert "1 of 7 rows" in capsys.readouterr().err
    main([*options, "--tables", "--anew"])

    rows = [Row.read(each) for each in read_lines(results)][:-1]
    assert rows[:2] == known
    assert len(rows) == len({(each.variant, each.task_id) for each in rows}) == 6
    assert f"| {DEFAULT} | 2 |" in page.read_text()
    assert page.read_text().strip().splitlines()[1:-1] == capsys.readouterr().out.strip().splitlines()
