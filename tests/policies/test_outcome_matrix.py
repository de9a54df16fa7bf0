"""An outcome matrix says what is wrong with it, and is the same matrix however its rows are ordered or stored."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.errors import OutcomesRefused
from policies.outcome_files import read_outcomes, write_outcomes
from policies.outcome_matrix import OutcomeMatrix, joined
from policies.outcome_splits import Split, family_folds, set_folds, task_folds, task_groups

HEADER = "task,family,seed,arm,quality,cost_s"


def matrix_with(n_tasks: int = 6, n_seeds: int = 2, seed: int = 0) -> OutcomeMatrix:
    rng = np.random.default_rng(seed)
    keys = [(f"t{i}", f"f{i % 3}", f"s{i % 2}", s) for i in range(n_tasks) for s in range(n_seeds)]
    n = len(keys)
    features = rng.random((n, 2))
    features[0, 1] = np.nan
    return OutcomeMatrix(
        tasks=tuple(key[0] for key in keys),
        families=tuple(key[1] for key in keys),
        sets=tuple(key[2] for key in keys),
        seeds=tuple(key[3] for key in keys),
        arms=("icl", "ttt"),
        quality=rng.integers(0, 2, (n, 2)).astype(float),
        cost_s=rng.random((n, 2)) + np.array([0.1, 5.0]),
        feature_names=("loo_nll_mean", "answer_confidence"),
        features=features,
        feature_cost_s=rng.random(n) + 0.2,
        train_s=rng.random((n, 2)),
        tokens=rng.integers(1, 999, (n, 2)).astype(float),
    )


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.parquet"])
def test_a_matrix_comes_back_from_a_file_as_it_was(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    matrix = matrix_with()

    write_outcomes(matrix, tmp_path / name)
    back = read_outcomes(tmp_path / name)

    assert back.digest == matrix.digest
    assert (back.tasks, back.families, back.sets, back.seeds) == (
        matrix.tasks, matrix.families, matrix.sets, matrix.seeds,
    )  # fmt: skip
    np.testing.assert_array_equal(back.features, matrix.features)


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_what_tasks_share_is_kept_joined_and_held_out_together(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    matrix = matrix_with()
    files = replace(matrix, groups=tuple(f"file {int(task[1:]) % 2}" for task in matrix.tasks))

    write_outcomes(files, tmp_path / name)
    back = read_outcomes(tmp_path / name)

    assert back.groups == files.groups
    assert back.digest == files.digest != matrix.digest
    assert joined([matrix, files]).groups == matrix.tasks + files.groups
    assert files.take([3, 1]).of_arms(["ttt"]).groups == (files.groups[3], files.groups[1])
    for split in task_folds(files, 4, np.random.default_rng(0)):
        assert not {files.groups[i] for i in split.fit} & {files.groups[i] for i in split.judge}


def test_the_same_matrix_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        write_outcomes(matrix_with(), tmp_path / name)

    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


@settings(deadline=None)
@given(st.permutations(range(12)), st.booleans())
def test_the_digest_is_of_the_content_and_not_of_its_order(order: list[int], swap: bool) -> None:
    matrix = matrix_with()
    shuffled = matrix.take(order).of_arms(("ttt", "icl") if swap else ("icl", "ttt"))

    assert shuffled.digest == matrix.digest


def test_the_digest_changes_with_any_number() -> None:
    matrix = matrix_with()
    digests = {matrix.digest}
    for name in ("quality", "cost_s", "features", "feature_cost_s", "train_s", "tokens"):
        values = getattr(matrix, name).copy()
        values.flat[3] = 0.125
        digests.add(replace(matrix, **{name: values}).digest)
    digests.add(replace(matrix, families=("other", *matrix.families[1:])).digest)

    assert len(digests) == 8


def test_any_csv_with_the_six_columns_will_do(tmp_path: Path) -> None:
    lines = ["a,x,0,small,1,0.5,7,true", "a,x,0,big,0.25,9,7,true", "b,y,0,small,0,0.5,,false"]
    path = written(tmp_path, f"{HEADER},length,is_text", *lines)

    matrix = read_outcomes(path)

    assert (matrix.tasks, matrix.arms, matrix.sets) == (("a", "b"), ("small", "big"), ("", ""))
    assert matrix.feature("is_text").tolist() == [1.0, 0.0]
    assert np.isnan(matrix.feature("length")).tolist() == [False, True]
    assert np.isnan(matrix.feature("nothing")).all()
    assert len(matrix.measured()) == 1
    assert matrix.feature_cost_s.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["task,seed,arm,quality,cost_s", "a,0,icl,1,1"], "column 'family'"),
        ([HEADER], "holds no outcome"),
        ([HEADER, "a,x,0,icl,1,1", "a,x,0,icl,0,1"], "line 2: the same task, seed and arm as in line 1"),
        ([HEADER, "a,x,0,icl,1.5,1"], "quality: got 1.5"),
        ([HEADER, "a,x,0,icl,1,-2"], "cost_s: got -2"),
        ([HEADER, "a,x,0,icl,1,inf"], "cost_s: an infinite value"),
        ([HEADER, "a,x,first,icl,1,1"], "line 1, seed"),
        ([HEADER, "a,x,0.5,icl,1,1"], "line 1, seed"),
        ([HEADER, ",x,0,icl,1,1"], "line 1, task: empty"),
        ([HEADER, "a,x,0,icl,1,1,5"], "line 1: more values than there are columns"),
        ([HEADER, "a,x,0,icl,1,1", "a,y,0,ttt,1,1"], "line 2, family"),
        ([f"{HEADER},group", "a,x,0,icl,1,1,g", "a,x,0,ttt,1,1,h"], "line 2, group"),
        ([f"{HEADER},prompt", "a,x,0,icl,1,1,hello"], "line 1, prompt: got 'hello'"),
        ([f"{HEADER},n", "a,x,0,icl,1,1,3", "a,x,0,ttt,1,1,4"], "line 2, n: 4 here and 3 with another arm"),
    ],
)
def test_what_cannot_be_is_refused_by_line_and_column(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(OutcomesRefused, match=said):
        read_outcomes(written(tmp_path, *lines))


def test_columns_of_text_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER},prompt", "a,x,0,icl,1,1,hello")

    assert read_outcomes(path, ignore=["prompt"]).feature_names == ()


def test_what_is_no_file_of_outcomes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"task,family" * 99)[:-9])
    (tmp_path / "noise.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.csv", tmp_path / "cut.csv.gz", tmp_path / "noise.csv", tmp_path):
        with pytest.raises(OutcomesRefused, match=path.name):
            read_outcomes(path)
    with pytest.raises(OutcomesRefused, match=r"\.csv\.gz or \.parquet"):
        write_outcomes(matrix_with(), tmp_path / "m.txt")


def test_shapes_that_do_not_fit_are_refused() -> None:
    matrix = matrix_with()

    for wrong in ({"seeds": (1,)}, {"arms": ("icl", "icl")}, {"quality": matrix.quality[:, :1]}):
        with pytest.raises(OutcomesRefused, match=next(iter(wrong))):
            replace(matrix, **wrong)


def test_the_answer_of_icl_is_not_paid_for_twice() -> None:
    matrix = matrix_with()
    free = replace(matrix, feature_cost_s=np.zeros(len(matrix)))

    np.testing.assert_array_equal(free.routed_cost_s, free.cost_s)
    routed = matrix.routed_cost_s
    np.testing.assert_array_equal(routed[:, 0], np.maximum(matrix.feature_cost_s, matrix.cost_s[:, 0]))
    np.testing.assert_array_equal(routed[:, 1], matrix.feature_cost_s + matrix.cost_s[:, 1])


def test_features_can_be_picked_and_an_unknown_one_is_nowhere_known() -> None:
    matrix = matrix_with()
    picked = matrix.of_features(["extra", "loo_nll_mean"])

    assert picked.feature_names == ("extra", "loo_nll_mean")
    assert np.isnan(picked.feature("extra")).all()
    np.testing.assert_array_equal(picked.feature("loo_nll_mean"), matrix.feature("loo_nll_mean"))


def test_joined_matrices_keep_the_arms_they_share_and_all_features() -> None:
    one, other = matrix_with(2), replace(matrix_with(2), sets=("z",) * 4, feature_names=("loo_nll_mean", "extra"))
    both = joined([one, other.of_arms(["ttt"])])

    assert (both.arms, len(both)) == (("ttt",), 8)
    assert both.feature_names == ("loo_nll_mean", "answer_confidence", "extra")
    assert np.isnan(both.feature("extra")).tolist() == [True] * 5 + [False] * 3  # one is not known there either
    with pytest.raises(OutcomesRefused, match="arms"):
        joined([one.of_arms(["icl"]), other.of_arms(["ttt"])])


def judged_once(matrix: OutcomeMatrix, splits: tuple[Split, ...]) -> bool:
    return sorted(np.concatenate([split.judge for split in splits]).tolist()) == list(range(len(matrix)))


def held_out(splits: tuple[Split, ...], groups: list[tuple[str, str]]) -> bool:
    of = [{groups[i] for i in split.fit} & {groups[i] for i in split.judge} for split in splits]
    return not any(of)


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 99))
def test_every_row_is_judged_once_by_a_policy_that_has_not_seen_its_like(n: int, n_folds: int, seed: int) -> None:
    matrix = matrix_with(n)
    rng = np.random.default_rng(seed)
    by_task, by_family, by_set = task_folds(matrix, n_folds, rng), family_folds(matrix, n_folds, rng), set_folds(matrix)

    for splits in (by_task, by_family, by_set):
        assert judged_once(matrix, splits)
    assert held_out(by_task, task_groups(matrix))
    assert held_out(by_family, list(zip(matrix.sets, matrix.families, strict=True)))
    assert held_out(by_set, [(name, "") for name in matrix.sets])


def test_one_family_or_one_set_cannot_be_held_out() -> None:
    matrix = matrix_with(1)

    with pytest.raises(OutcomesRefused, match="at least two"):
        family_folds(matrix, 5, np.random.default_rng(0))
    with pytest.raises(OutcomesRefused, match="at least two"):
        set_folds(matrix)


def test_no_rows_are_rows_too() -> None:
    whole = matrix_with()

    assert (len(whole.take([])), whole.take([]).quality.shape) == (0, (0, len(whole.arms)))
