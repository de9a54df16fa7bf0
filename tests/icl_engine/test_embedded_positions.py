"""A cell and its counterpart in another grid stand at the same offset, whatever the grids' sizes and neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.embedded.positions import positions_of, same_task
from icl_engine.embedded.vocabulary import INPUT, N_COLOURS, OUTPUT, PAD, ROW_END
from icl_engine.task import Task
from tests.icl_engine.task_strategies import grid_tasks, text_tasks

ENCODING = EmbeddedEncoding()
tasks = grid_tasks() | text_tasks()


def whole(task: Task) -> list[int]:
    return list(ENCODING.encode(task, task.demonstrations[0].output).ids)


def positions(ids: list[int]) -> torch.Tensor:
    return positions_of(torch.tensor([ids]))[:, 0]


def cells(ids: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (place, value, row, column) of each cell, counted by reading from left to right."""
    value, row, column = 0, 0, 0
    for place, token in enumerate(ids):
        if token in (INPUT, OUTPUT):
            value, row, column = value + 1, 0, 0
        elif token == ROW_END:
            row, column = row + 1, 0
        elif token < N_COLOURS:
            yield place, value, row, column
            column += 1


@given(task=grid_tasks())
def test_a_cell_stands_at_its_value_column_and_row(task: Task) -> None:
    ids = whole(task)
    found = positions(ids)

    for place, value, row, column in cells(ids):
        assert found[:, place].tolist() == [value, column, row]


@given(task=grid_tasks())
def test_the_token_that_predicts_a_cell_is_at_one_offset_from_the_cell_s_counterpart_in_every_other_grid(
    task: Task,
) -> None:
    ids = whole(task)
    found = positions(ids)

    by_cell: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, value, row, column in cells(ids):
        by_cell.setdefault((row, column), []).append((value, place))
    for counterparts in by_cell.values():
        for value, place in counterparts:
            for other_value, other_place in counterparts:
                offset = found[:, other_place] - found[:, place - 1]

                assert offset.tolist() == [other_value - value, 1, 0]


@given(packed=st.lists(tasks, min_size=1, max_size=3))
def test_packed_tasks_each_begin_anew(packed: list[Task]) -> None:
    rows = [whole(task) for task in packed]

    assert torch.equal(positions([token for row in rows for token in row]), torch.cat(list(map(positions, rows)), 1))


@given(task=tasks, n_padding=st.integers(1, 9))
def test_padding_on_the_left_moves_no_token(task: Task, n_padding: int) -> None:
    ids = whole(task)

    assert torch.equal(positions([PAD] * n_padding + ids)[:, n_padding:], positions(ids))


@given(task=tasks, cut=st.integers(1, 200))
def test_what_follows_changes_no_position(task: Task, cut: int) -> None:
    ids = whole(task)

    assert torch.equal(positions(ids[:cut]), positions(ids)[:, :cut])


@given(packed=st.lists(tasks, min_size=1, max_size=3))
def test_a_token_looks_at_its_own_task_up_to_itself_and_nowhere_else(packed: list[Task]) -> None:
    rows = [whole(task) for task in packed]
    blocks = [torch.ones(len(row), len(row)).tril().bool() for row in rows]
    mask = same_task(torch.tensor([[token for row in rows for token in row]]))

    assert torch.equal(mask[0, 0], torch.block_diag(*blocks).bool())
