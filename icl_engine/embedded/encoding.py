"""Tasks in the embedded model's vocabulary, and the grammar that keeps its answers grids where grids are wanted."""

import copy
from collections.abc import Sequence

import torch

from icl_engine.decoding import Constraint
from icl_engine.embedded.positions import positions_of
from icl_engine.embedded.vocabulary import (
    BYTE_0,
    END,
    INPUT,
    INSTRUCTION,
    N_COLOURS,
    OUTPUT,
    PAD,
    PIECE_0,
    ROW_END,
    START,
    VOCABULARY_SIZE,
    grid_of,
    is_in_sentences,
    text_of,
    value_ids,
)
from icl_engine.encoding import Encoded
from icl_engine.task import Kind, Limits, Task, Value


class EmbeddedEncoding:
    """Writes tasks as vocabulary.py describes."""

    pad_id = PAD
    end_ids = frozenset({END})

    def encode(self, task: Task, answer: Value | None = None) -> Encoded:
        """Write the prompt for `task.query`; with `answer`, the answer and END follow."""
        in_words = _is_in_words(task)
        ids = [START]
        outputs: list[tuple[int, int]] = []
        if task.instruction is not None:
            ids += [INSTRUCTION, *value_ids(task.instruction, in_words=in_words), END]
        for shown in task.demonstrations:
            output = [*value_ids(shown.output, in_words=in_words), END]
            ids += [INPUT, *value_ids(shown.input, in_words=in_words), OUTPUT, *output]
            outputs.append((len(ids) - len(output), len(ids)))
        query_start = len(ids)
        ids += [INPUT, *value_ids(task.query, in_words=in_words), OUTPUT]
        if answer is not None:
            output = [*value_ids(answer, in_words=in_words), END]
            ids += output
            outputs.append((len(ids) - len(output), len(ids)))
        return Encoded(tuple(ids), tuple(outputs), query_start)

    def decode(self, task: Task, ids: Sequence[int]) -> Value | None:
        """Read a grid or a text."""
        return grid_of(ids) if task.kind == "grid" else text_of(ids, in_words=_is_in_words(task))

    def constraint(self, tasks: Sequence[Task], device: torch.device) -> Constraint:
        """Return the grammar of each task's answer."""
        return _Grammar([_Text(_is_in_words(task)) if task.kind == "text" else _Grid() for task in tasks], device)

    def answer_tokens(self, kind: Kind) -> torch.Tensor | None:
        """Return the colours and the ends of rows and grids; None for text."""
        return torch.tensor(sorted([*range(N_COLOURS), ROW_END, END])) if kind == "grid" else None

    def positions(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (3, batch, tokens): value, column, row."""
        return positions_of(ids)


def _is_in_words(task: Task) -> bool:
    """Say how a task's texts are written: as its demonstrations ask for, so that all its queries share one prefix."""
    inputs = [shown.input for shown in task.demonstrations] or [task.query]
    return task.kind == "text" and is_in_sentences([text for text in inputs if isinstance(text, str)])


class _Text:
    """Any bytes or pieces, then END."""

    def __init__(self, in_words: bool) -> None:
        self.stop = VOCABULARY_SIZE if in_words else PIECE_0

    def allow(self, row: torch.Tensor) -> None:
        row[END] = True
        row[BYTE_0 : self.stop] = True

    def chose(self, token: int) -> None:
        pass


class _Grid:
    """Rows of equal width, each closed, at most as many and as wide as a task may have."""

    def __init__(self) -> None:
        self.n_rows, self.width, self.column = 0, 0, 0

    def allow(self, row: torch.Tensor) -> None:
        row[self._next()] = True

    def _next(self) -> list[int]:
        cells = list(range(N_COLOURS))
        if self.column == 0 and self.n_rows > 0:
            return [END] if self.n_rows >= self._most_rows() else [END, *cells]
        if self.width:
            return cells if self.column < self.width else [ROW_END]
        if self.column == 0:
            return cells
        return [ROW_END] if self.column >= Limits().line else [ROW_END, *cells]

    def chose(self, token: int) -> None:
        if token == ROW_END:
            self.n_rows, self.width, self.column = self.n_rows + 1, self.column, 0
        else:
            self.column += 1

    def _most_rows(self) -> int:
        if self.width > Limits().side:  # only a single row may be as wide
            return 1
        return Limits().line if self.width == 1 else Limits().side


class _Grammar:
    """The constraint over several rows, each at its own place in its own grammar."""

    def __init__(self, states: Sequence[_Text | _Grid], device: torch.device) -> None:
        self.states = list(states)
        self.device = device

    def allowed(self) -> torch.Tensor:
        allowed = torch.zeros(len(self.states), VOCABULARY_SIZE, dtype=torch.bool)
        for row, state in zip(allowed, self.states, strict=True):
            state.allow(row)
        return allowed.to(self.device)

    def chose(self, tokens: Sequence[int | None]) -> None:
        for state, token in zip(self.states, tokens, strict=True):
            if token is not None:
                state.chose(token)

    def keep(self, rows: Sequence[int]) -> None:
        self.states = [copy.copy(self.states[row]) for row in rows]  # a row given twice goes two ways
