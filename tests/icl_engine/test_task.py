"""What a task is, what it refuses and how quickly, and that its fingerprint is of its content alone."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given

from icl_engine.errors import FewShotError, TaskRefused, TaskTooLarge, TooFewDemonstrations
from icl_engine.task import Demonstration, LabelledTask, Limits, Task
from tests.icl_engine.task_strategies import grid_tasks, text_tasks

GRID_PAIR = {"input": [[1, 2], [3, 4]], "output": [[1]]}
TEN_MB = "a" * 10_000_000
FULL = [[1] * 30] * 30
FULL_BUT_ONE_CELL = [*[FULL] * 220, [*[[1] * 30] * 29, [1] * 29 + [10]]]


def task_dict(**changes: object) -> dict[str, object]:
    return {"demonstrations": [GRID_PAIR], "queries": [[[5]]], **changes}


def with_output(output: object) -> dict[str, object]:
    return task_dict(demonstrations=[GRID_PAIR, {"input": [[1]], "output": output}])


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def refusal(data: object) -> TaskRefused:
    with pytest.raises(TaskRefused) as caught:
        Task.parse(data)
    return caught.value


def seconds_to_refuse(data: object) -> float:
    """The best of three, of this thread alone: what else the machine does is not the task's fault."""
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        refusal(data)
        seconds.append(time.thread_time() - started)
    return min(seconds)


REFUSED = {
    "ragged": (with_output([[1, 2], [3]]), "demonstrations[1].output[1]"),
    "cell ten": (with_output([[1, 10]]), "demonstrations[1].output[0][1]"),
    "negative cell": (with_output([[-1]]), "demonstrations[1].output[0][0]"),
    "bool": (with_output([[True]]), "demonstrations[1].output[0][0]"),
    "float": (with_output([[1.0]]), "demonstrations[1].output[0][0]"),
    "not a number": (with_output([[float("nan")]]), "demonstrations[1].output[0][0]"),
    "numeric text": (with_output([["1"]]), "demonstrations[1].output[0][0]"),
    "huge integer": (with_output([[10**100_000]]), "demonstrations[1].output[0][0]"),
    "bad cell of a 1-D list": (with_output([1, 2, 30]), "demonstrations[1].output[2]"),
    "row among cells": (with_output([1, [2]]), "demonstrations[1].output[1]"),
    "cell among rows": (with_output([[1], 2]), "demonstrations[1].output[1]"),
    "empty grid": (with_output([]), "demonstrations[1].output"),
    "empty row": (with_output([[]]), "demonstrations[1].output[0]"),
    "31 rows": (with_output([[1, 1]] * 31), "demonstrations[1].output"),
    "9 million cells": (with_output([[1] * 3000] * 3000), "demonstrations[1].output"),
    "ten megabytes of text": (with_output(TEN_MB), "demonstrations[1].output"),
    "empty text": (with_output(""), "demonstrations[1].output"),
    "lone surrogate": (with_output("a\ud800"), "demonstrations[1].output"),
    "ten thousand deep": (with_output(nested(10_000)), "demonstrations[1].output[0][0]"),
    "text among grids": (with_output("word"), "demonstrations[1].output"),
    "no value": (with_output(None), "demonstrations[1].output"),
    "no output": (task_dict(demonstrations=[{"input": [[1]]}]), "demonstrations[0].output"),
    "empty pair": (task_dict(demonstrations=[{}]), "demonstrations[0].input"),
    "a list for a pair": (task_dict(demonstrations=[[]]), "demonstrations[0]"),
    "no pairs": (task_dict(demonstrations=[]), "demonstrations"),
    "a million pairs": (task_dict(demonstrations=[GRID_PAIR] * 1_000_000), "demonstrations"),
    "pairs missing": ({"queries": [[[1]]]}, "demonstrations"),
    "no queries": (task_dict(queries=[]), "queries"),
    "text query": (task_dict(queries=[[[1]], "word"]), "queries[1]"),
    "a thousand full queries": (task_dict(queries=[[[1] * 30] * 30] * 1000), "queries[222]"),
    "bad cell at the end of 198,900": (task_dict(queries=FULL_BUT_ONE_CELL), "queries[220][29][29]"),
    "number for an instruction": (task_dict(instruction=3), "instruction"),
    "number for an id": (task_dict(id=3), "id"),
    "ten megabytes of id": (task_dict(id=TEN_MB), "id"),
    "unknown field": (task_dict(**{TEN_MB: 1}), "task"),
    "a list": ([1], "task"),
    "nothing": (None, "task"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_field_within_50_ms(case: str) -> None:
    data, field = REFUSED[case]

    error = refusal(data)

    assert error.field == field
    assert str(error) == f"{field}: {error.message}. {error.remedy}"
    assert len(str(error)) < 400
    assert seconds_to_refuse(data) < 0.05


def test_a_constructor_refuses_with_the_same_error_as_parse() -> None:
    with pytest.raises(TaskRefused, match=r"demonstrations\[1\].output\[1\]"):
        Task(**with_output([[1, 2], [3]]))
    with pytest.raises(TaskRefused, match=r"demonstration\.output"):
        Demonstration(input=((1,),), output="word")
    with pytest.raises(TaskRefused, match=r"demonstrations: missing"):
        Task()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "text", ["[" * 10_000, '{"demonstrations": ', "\ufeff3", b"\xff\xfe", "[1" + "0" * 9_999 + "]"]
)
def test_json_that_holds_no_task_is_refused(text: str | bytes) -> None:
    with pytest.raises(TaskRefused):
        Task.parse_json(text)


def test_json_text_too_long_is_refused_unread() -> None:
    with pytest.raises(TaskTooLarge, match="10000002 characters"):
        Task.model_validate_json(json.dumps(TEN_MB))


def test_a_refusal_carries_the_id_of_the_task() -> None:
    error = refusal({**with_output([[10]]), "id": "1d_fill_3"})

    assert error.task_id == "1d_fill_3"


def test_a_task_without_demonstrations_has_its_own_error() -> None:
    with pytest.raises(TooFewDemonstrations):
        Task.from_pairs([], [[1]])


def test_limits_are_the_callers() -> None:
    wide = replace(Limits(), side=31, max_cells=31 * 31)
    data = with_output([[1] * 31] * 31)

    assert len(Task.parse(data, wide).for_query(0).demonstrations[1].output) == 31
    with pytest.raises(TaskTooLarge):
        Task.parse(data)
    with pytest.raises(TaskTooLarge, match="At most 1 queries"):
        Task.parse(task_dict(queries=[[[1]], [[2]]]), replace(Limits(), max_queries=1))


def test_a_single_row_or_column_may_be_longer_than_a_side() -> None:
    task = Task.from_pairs([([1] * 93, [[2]] * 93)], [3] * 100)

    assert len(task.queries[0][0]) == 100
    with pytest.raises(TaskTooLarge):
        Task.from_pairs([([1], [1])], [3] * 101)


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "held"),
    [(30, 30, True), (31, 30, False), (30, 31, False), (31, 2, False), (1, 100, True), (100, 1, True), (1, 101, False)],
)
def test_limits_hold_what_a_task_may_be_made_of(n_rows: int, n_columns: int, held: bool) -> None:
    data = with_output([[1] * n_columns] * n_rows)

    assert Limits().hold(n_rows, n_columns) is held
    with nullcontext() if held else pytest.raises(TaskTooLarge):
        Task.parse(data)


def test_errors_survive_leaving_their_process() -> None:
    error = refusal({**with_output([[10]]), "id": "t"})

    restored = pickle.loads(pickle.dumps(error))

    assert isinstance(restored, TaskRefused)
    assert isinstance(restored, FewShotError)
    assert (str(restored), restored.field, restored.task_id) == (str(error), error.field, "t")


def test_from_pairs_takes_rows_grids_and_texts() -> None:
    assert Task.from_pairs([([1, 2], [2, 1])], [3, 4]).queries == (((3, 4),),)
    assert Task.from_pairs([([1, 2], [2, 1])], [[3, 4], [5]]).queries == (((3, 4),), ((5,),))
    assert Task.from_pairs([([[1, 2]], [2, 1])], [[3, 4], [5, 6]]).queries == (((3, 4), (5, 6)),)
    assert Task.from_pairs([([[1]], [[2]])], [[[3]], [[4]]]).queries == (((3,),), ((4,),))
    assert Task.from_pairs([("a", "b")], "c").queries == ("c",)
    assert Task.from_pairs([("a", "b")], ["c", "d"], instruction="next letter").queries == ("c", "d")


@pytest.mark.parametrize("pairs", [[([1],)], [3], 3, [([1], [1], [1])]])
def test_from_pairs_refuses_what_is_not_pairs(pairs: list[list[object]]) -> None:
    with pytest.raises(TaskRefused, match="pair"):
        Task.from_pairs(pairs, [[1]])


def test_a_task_cannot_be_changed() -> None:
    task = Task.from_pairs([([1], [2])], [3])

    with pytest.raises(Exception, match="frozen"):
        task.id = "other"  # type: ignore[misc]


@given(task=grid_tasks() | text_tasks())
def test_a_task_is_the_same_after_json_pickle_and_copy(task: Task) -> None:
    assert Task.model_validate_json(task.model_dump_json()) == task
    assert pickle.loads(pickle.dumps(task)) == task
    assert copy.deepcopy(task) == task
    assert hash(Task.parse(task.model_dump())) == hash(task)


@given(task=grid_tasks() | text_tasks())
def test_the_fingerprint_is_of_the_content_and_not_of_the_id(task: Task) -> None:
    renamed = task.model_copy(update={"id": "other"})
    instructed = task.model_copy(update={"instruction": "Do it."})

    assert renamed.fingerprint == task.fingerprint
    assert instructed.fingerprint != task.fingerprint
    assert instructed.demonstrations_fingerprint != task.demonstrations_fingerprint
    assert task.id == task.fingerprint[:12]


def test_queries_change_the_fingerprint_but_not_that_of_the_demonstrations() -> None:
    one, two = (Task.from_pairs([([1], [2])], query) for query in ([3], [4]))

    assert one.fingerprint != two.fingerprint
    assert one.demonstrations_fingerprint == two.demonstrations_fingerprint


def test_a_text_of_digits_and_a_grid_have_different_fingerprints() -> None:
    assert Task.from_pairs([([1], [2])], [3]).fingerprint != Task.from_pairs([("1", "2")], "3").fingerprint


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_fingerprint_does_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    code = "from icl_engine.task import Task; print(Task.from_pairs([('ä', 'b')], 'c', 'i').fingerprint)"

    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    assert printed == "a4b7ea80c72768e8edaabfdcdd547ea7c2b877d4cc996aa7fdcd4e5ed9a140ad"


def test_one_query_of_many_keeps_the_id() -> None:
    task = Task.from_pairs([([1], [2])], [[3], [4]], id="mine")

    assert task.for_query(1).query == ((4,),)
    assert task.for_query(1).id == "mine"
    assert task.for_query(1).fingerprint != task.fingerprint


def test_solutions_are_beside_the_task_and_not_in_it() -> None:
    labelled = LabelledTask.parse(Task.from_pairs([([1], [2])], [3]), [[[7, 7, 7]]])

    assert labelled.solutions == (((7, 7, 7),),)
    assert "7, 7, 7" not in repr(labelled.task)
    assert "7,7,7" not in labelled.task.model_dump_json()


@pytest.mark.parametrize(
    ("solutions", "field"),
    [([], "solutions"), (3, "solutions"), (["word"], "solutions[0]"), ([[[10]]], "solutions[0][0][0]")],
)
def test_solutions_that_do_not_fit_the_task_are_refused(solutions: object, field: str) -> None:
    with pytest.raises(TaskRefused) as caught:
        LabelledTask.parse(Task.from_pairs([([1], [2])], [3]), solutions)

    assert caught.value.field == field
