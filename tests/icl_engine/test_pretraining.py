"""Pretraining: full rows, loss on outputs alone, and a run that was killed ends where an uninterrupted one does."""

from __future__ import annotations

import ast
import gzip
import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from icl_engine.embedded.corpus import (
    KINDS,
    MAX_EXTRA_CELLS,
    PAIRS_PER_TASK,
    PAIRS_PER_TEXT,
    Corpus,
    is_held_out_arc_task,
    load_extra,
    output_weights,
    task_ids,
    validation_tasks,
)
from icl_engine.embedded.count_pieces import written
from icl_engine.embedded.pieces import PIECES
from icl_engine.embedded.pretraining import (
    LARGE,
    CheckpointMismatch,
    PretrainingConfig,
    Progress,
    _rows_ahead,
    build_model,
    pretrain,
    rate_at,
)
from icl_engine.embedded.vocabulary import BYTE_0, END, INPUT, OUTPUT, PAD, PIECE_0, START
from icl_engine.errors import UnreadableTaskFile
from icl_engine.families import FAMILIES, HELD_OUT, Pair
from icl_engine.language_model import load_model
from tests.models import TINY

EMBEDDING = "model.embed_tokens.weight"
RECIPE = replace(TINY, steps=3, rows=2, row_tokens=96, warmup_steps=2, checkpoint_every=1)

ROOT = Path(__file__).resolve().parents[2]
RAGGED = gzip.compress(json.dumps({"id": "1", "pairs": [["12/3", "1"]] * 8}).encode())
CUT = gzip.compress(b'{"id": "1", "pairs": []}\n' * 99)[:-9]


class Killed(Exception):
    pass


def killed_after(step: int, out: Path, config: PretrainingConfig = RECIPE) -> list[int]:
    """Run until `step` is done, and kill it there; return the steps that were reported."""
    steps: list[int] = []

    def report(progress: Progress) -> None:
        steps.append(progress.step)
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        pretrain(config, out, report=report, compiled=False)
    return steps


def weights_in(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


@pytest.fixture(scope="module")
def rows() -> npt.NDArray[np.int64]:
    return Corpus.of().rows(6, 400, seed=0, step=0)


# The run


def test_a_run_that_is_killed_and_resumed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    reports: list[Progress] = []
    whole = pretrain(RECIPE, tmp_path / "whole", report=reports.append, compiled=False)
    killed_after(2, tmp_path / "killed")
    resumed: list[Progress] = []
    model = pretrain(RECIPE, tmp_path / "killed", report=resumed.append, compiled=False)
    expected, got = weights_in(whole), weights_in(model)

    assert [progress.step for progress in reports] == [1, 2, 3]
    assert [progress.step for progress in resumed] == [3]
    assert resumed[-1].loss == reports[-1].loss
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert any(not torch.equal(got[name], start.half()) for name, start in build_model(RECIPE).state_dict().items())
    assert load_model(str(model), device="cpu").module.config.axis_pairs == list(RECIPE.axis_pairs)
    assert not (tmp_path / "killed" / "checkpoint.new").exists()


def test_a_run_that_is_killed_at_any_moment_ends_as_one_that_is_not(tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=40, validate_every=40)
    killed, whole = tmp_path / "killed", pretrain(recipe, tmp_path / "whole", compiled=False)
    command = [sys.executable, "-m", "tests.icl_engine.pretrain_child", json.dumps(asdict(recipe)), str(killed)]
    last = 0
    for kill_after in (3, 9):  # steps seen; at each of them a checkpoint is written
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            assert child.stdout is not None
            steps = [int(line) for line in islice(child.stdout, kill_after)]
            child.kill()
        assert len(steps) == kill_after
        assert last < steps[0] <= steps[-1] < recipe.steps
        last = steps[0]

    resumed: list[Progress] = []
    model = pretrain(recipe, killed, report=resumed.append, compiled=False)
    expected, got = weights_in(whole), weights_in(model)

    assert resumed[0].step > 3 + 9 - 2
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_run_is_not_asked_for_fewer_steps_than_are_behind_it(tmp_path: Path) -> None:
    killed_after(2, tmp_path)

    with pytest.raises(CheckpointMismatch, match="2 steps behind it, more than the 1 asked for"):
        pretrain(replace(RECIPE, steps=1), tmp_path, compiled=False)


def test_a_checkpoint_is_there_even_where_the_kill_came_between_two_renames(tmp_path: Path) -> None:
    killed_after(1, tmp_path)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.new").mkdir()

    assert killed_after(2, tmp_path) == [2]


@pytest.mark.parametrize("other", [replace(RECIPE, seed=1), replace(RECIPE, layers=1), replace(RECIPE, rows=3)])
def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, other: PretrainingConfig) -> None:
    killed_after(1, tmp_path)

    with pytest.raises(CheckpointMismatch, match="another folder"):
        pretrain(other, tmp_path, compiled=False)


def test_a_checkpoint_of_another_corpus_is_refused(tmp_path: Path) -> None:
    killed_after(1, tmp_path / "run")
    extra = extra_file(tmp_path / "pairs.gz", [{"id": "1", "pairs": [["12", "21"]] * 8}])

    with pytest.raises(CheckpointMismatch):
        pretrain(RECIPE, tmp_path / "run", extra_data=extra, compiled=False)


def test_a_run_may_begin_with_weights_of_another(tmp_path: Path) -> None:
    first = pretrain(RECIPE, tmp_path / "first", compiled=False)
    second = pretrain(
        replace(RECIPE, learning_rate=0.0, weight_decay=0.0), tmp_path / "second", start_from=first, compiled=False
    )

    assert all(torch.equal(weight, weights_in(second)[name]) for name, weight in weights_in(first).items())


def test_weights_that_know_no_words_get_a_row_for_each_near_those_of_its_letters(tmp_path: Path) -> None:
    first = pretrain(RECIPE, tmp_path / "first", compiled=False)
    weights = weights_in(first)
    letters = weights[EMBEDDING][:PIECE_0].clone()
    save_file({**weights, EMBEDDING: letters}, first / "model.safetensors", metadata={"format": "pt"})

    still = replace(RECIPE, learning_rate=0.0, weight_decay=0.0)
    second = weights_in(pretrain(still, tmp_path / "second", start_from=first, compiled=False))

    mean = torch.stack([letters[[BYTE_0 + byte for byte in piece.encode()]].float().mean(0) for piece in PIECES])
    assert torch.equal(second[EMBEDDING][:PIECE_0], letters)
    assert (second[EMBEDDING][PIECE_0:].float() - mean).std() < 0.5 * letters.float().std()


def test_weights_of_another_shape_are_not_begun_with(tmp_path: Path) -> None:
    first = pretrain(RECIPE, tmp_path / "first", compiled=False)

    with pytest.raises(CheckpointMismatch, match="another shape"):
        pretrain(replace(RECIPE, layers=1), tmp_path / "second", start_from=first, compiled=False)


def test_a_checkpoint_of_a_run_that_began_otherwise_is_refused(tmp_path: Path) -> None:
    first = pretrain(RECIPE, tmp_path / "first", compiled=False)
    killed_after(1, tmp_path / "second")

    with pytest.raises(CheckpointMismatch, match="another folder"):
        pretrain(RECIPE, tmp_path / "second", start_from=first, compiled=False)


def test_rows_made_ahead_in_other_processes_are_the_same_rows() -> None:
    corpus, config = Corpus.of(), replace(RECIPE, steps=6)
    here, ahead = (list(_rows_ahead(corpus, None, config, 2, ahead=ahead)) for ahead in (False, True))

    assert [step for step, _ in ahead] == [2, 3, 4, 5]
    assert all(np.array_equal(mine, theirs) for (_, mine), (_, theirs) in zip(here, ahead, strict=True))


def test_the_larger_recipe_is_of_the_size_it_says() -> None:
    with torch.device("meta"):
        n_weights = sum(parameter.numel() for parameter in build_model(LARGE).parameters())

    assert 25e6 < n_weights <= 30e6
    assert LARGE.row_tokens >= 4096


def test_a_run_may_go_on_for_longer_than_first_meant(tmp_path: Path) -> None:
    killed_after(1, tmp_path)

    assert killed_after(2, tmp_path, replace(RECIPE, steps=99, checkpoint_every=5)) == [2]


def test_fresh_weights_come_from_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = build_model(RECIPE), build_model(RECIPE), build_model(replace(RECIPE, seed=1))
    name = "model.embed_tokens.weight"

    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_rate_warms_up_stays_and_falls_to_a_hundredth() -> None:
    config = PretrainingConfig(steps=1000, warmup_steps=100, decay_share=0.3)
    rates = np.array([rate_at(step, config) for step in range(config.steps)])

    assert rates[0] == pytest.approx(0.01)
    assert rates[49] == pytest.approx(0.5)
    assert (rates[99:700] == 1.0).all()
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[700:]) <= 0).all()
    assert rates[850] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.01)
    assert rates.min() > 0


# The rows


def test_rows_are_full_and_begin_with_a_task(rows: npt.NDArray[np.int64]) -> None:
    assert rows.shape == (6, 400)
    assert (rows[:, 0] == START).all()
    assert (rows != PAD).all()


def test_the_rows_of_a_step_depend_on_seed_and_step_alone(rows: npt.NDArray[np.int64]) -> None:
    corpus = Corpus.of()
    corpus.rows(2, 400, seed=5, step=7)

    assert np.array_equal(corpus.rows(6, 400, seed=0, step=0), rows)
    assert not np.array_equal(corpus.rows(6, 400, seed=0, step=1), rows)
    assert not np.array_equal(corpus.rows(6, 400, seed=1, step=0), rows)


def test_the_loss_is_on_outputs_and_their_ends_and_on_nothing_else(rows: npt.NDArray[np.int64]) -> None:
    for row, weights in zip(rows, output_weights(rows), strict=True):
        inside = False
        for place in range(1, len(row)):
            previous = row[place - 1]
            inside = previous == OUTPUT or (inside and previous != END)

            assert weights[place - 1] == float(inside), place


def test_every_output_of_a_task_counts() -> None:
    pairs: list[Pair] = [([[1, 2]], [[2, 1]]), ("ab", "b"), ([[3]], [[3], [4]])]
    ids = task_ids(pairs)
    weights = output_weights(np.array([ids]))[0]
    counted = [token for token, weight in zip(ids[1:], weights, strict=True) if weight]

    assert counted == [2, 1, 14, END, 32 + ord("b"), END, 3, 14, 4, 14, END]
    assert ids[0] == START
    assert ids.count(INPUT) == ids.count(OUTPUT) == ids.count(END) == 3


def test_held_out_families_are_never_trained_on() -> None:
    trained, kept = Corpus.of(), Corpus.of(held_out=True)
    names = [
        {family.name for families in corpus.families.values() for family in families} for corpus in (trained, kept)
    ]

    assert names[1] == set(HELD_OUT)
    assert names[0] == {family.name for family in FAMILIES} - set(HELD_OUT)


def test_validation_tasks_are_the_same_for_a_seed_and_of_every_kind() -> None:
    corpus = Corpus.of(held_out=True)
    first, again, other = (validation_tasks(corpus, 8, seed=seed) for seed in (1, 1, 2))

    assert first == again != other
    assert {kind: len(tasks) for kind, tasks in first.items()} == dict.fromkeys(KINDS, 8)
    assert all(PAIRS_PER_TASK[0] <= len(pairs) <= PAIRS_PER_TASK[1] for pairs in first["grid"] + first["row"])
    assert all(PAIRS_PER_TEXT[0] <= len(pairs) <= PAIRS_PER_TEXT[1] for pairs in first["text"])


# Extra pairs


def extra_file(path: Path, entries: list[dict[str, object]]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(entry) + "\n" for entry in entries)
    return path


def test_extra_tasks_are_read_without_those_kept_and_without_large_pairs(tmp_path: Path) -> None:
    small, large = ["12/34", "21/43"], ["0" * 20 + ("/" + "0" * 20) * 14, "1"]
    kept, taken, few = "0000000a", "0000000b", "0000000c"
    assert is_held_out_arc_task(kept)
    file = extra_file(
        tmp_path / "pairs.jsonl.gz",
        [
            {"id": kept, "pairs": [small] * 8},
            {"id": taken, "pairs": [small] * 8 + [large]},
            {"id": few, "pairs": [small] * (PAIRS_PER_TASK[1] - 1)},
        ],
    )

    extra = load_extra(file)

    assert MAX_EXTRA_CELLS < 20 * 15 + 1
    assert extra == {taken: [([[1, 2], [3, 4]], [[2, 1], [4, 3]])] * 8}


def test_the_pairs_of_an_extra_task_are_rewritten_alike(tmp_path: Path) -> None:
    pairs = [[f"{i}2/3{i}", f"{i}2/3{i}"] for i in range(10)]  # the rule: nothing changes
    extra = load_extra(extra_file(tmp_path / "pairs.gz", [{"id": "1", "pairs": pairs}]))
    kept = Corpus.of()  # its own families rarely let an input be its output
    drawn = [Corpus.of(extra=extra).task(Random(seed)) for seed in range(80)]
    tasks = [
        task for task, own in zip(drawn, (kept.task(Random(seed)) for seed in range(80)), strict=True) if task != own
    ]

    assert len(tasks) > 8
    assert all(given == answer for task in tasks for given, answer in task)
    assert len({str(task) for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{"), gzip.compress(b'{"id": "z", "pairs": 3}\n'), CUT, RAGGED, None],
    ids=["no gzip", "no JSON", "pairs that are a number", "cut", "ragged pairs", "missing"],
)
def test_a_file_of_extra_pairs_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "pairs.gz"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UnreadableTaskFile, match=r"pairs\.gz"):
        load_extra(path)


@pytest.mark.parametrize("piece", [" a", ' "', "don't", 'it\'s "so"'])
def test_a_piece_is_written_as_python_reads_it(piece: str) -> None:
    assert ast.literal_eval(written(piece)) == piece
    assert written(" a") == '" a"'
