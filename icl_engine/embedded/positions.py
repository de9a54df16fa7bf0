"""Where each token stands: which value of the task, which column, which row. Computed from the token ids alone.

A structure token (START, INPUT, OUTPUT, INSTRUCTION, ROW_END) takes the place one before the next cell, column -1. The
token that predicts a cell is therefore always at the same offset from that cell's counterpart in every other grid,
which one rotary attention head can express; in plain positions that offset changes with the grid's size.
"""

import torch

from icl_engine.embedded.vocabulary import INPUT, INSTRUCTION, OUTPUT, ROW_END, START

AXES = 3  # value, column, row


def positions_of(ids: torch.Tensor) -> torch.Tensor:
    """Return int64 positions, shape (3, batch, tokens): index of the value in its task, column and row inside it.

    Args:
        ids: (batch, tokens) token ids; several tasks may follow each other in a row, each begins with START.
    """
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    starts = ids == START
    marks = starts | (ids == INPUT) | (ids == OUTPUT) | (ids == INSTRUCTION)
    row_ends = ids == ROW_END

    values = torch.cumsum(marks, dim=1)
    rows = torch.cumsum(row_ends, dim=1)
    last_start = _last(starts, place)
    last_mark = _last(marks, place)
    last_edge = _last(marks | row_ends, place)

    value = values - values.gather(1, last_start)
    row = rows - rows.gather(1, last_mark)
    column = place - last_edge - 1
    return torch.stack((value, column, row))


def _last(where: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Return, for every token, the place of the last True at or before it (0 before the first)."""
    return torch.cummax(torch.where(where, place, 0), dim=1).values


def same_task(ids: torch.Tensor) -> torch.Tensor:
    """Return the causal attention mask of packed rows, bool (batch, 1, tokens, tokens): True where a token may look."""
    task = torch.cumsum(ids == START, dim=1)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
    return ((task[:, :, None] == task[:, None, :]) & causal)[:, None]
