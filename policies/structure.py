"""What can be seen of a task without a model: sizes, shapes, colours or characters, words. Reads no solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_engine.task import Task, Value


@dataclass(frozen=True, slots=True)
class Structure:
    """Features of a task as it stands; units and meanings are in `policies.features.FEATURES`."""

    n_demonstrations: int
    n_queries: int
    input_size: float
    output_size: float
    query_size: float
    size_ratio: float
    query_size_ratio: float
    same_shape_share: float
    same_cell_share: float | None
    n_symbols: float
    symbols_kept_share: float
    query_new_symbol_share: float
    n_words: float | None
    n_output_words: float | None
    has_instruction: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return {each.name: getattr(self, each.name) for each in _FIELDS}


_FIELDS = fields(Structure)


def structure_of(task: Task) -> Structure:
    """Look at a task's demonstrations, queries and instruction."""
    pairs = [(shown.input, shown.output) for shown in task.demonstrations]
    inputs, outputs = [given for given, _ in pairs], [wanted for _, wanted in pairs]
    input_size, output_size, query_size = (fmean(map(_size, values)) for values in (inputs, outputs, task.queries))
    known, asked = (set[object]().union(*map(_symbols, values)) for values in (inputs, task.queries))
    return Structure(
        n_demonstrations=len(pairs),
        n_queries=len(task.queries),
        input_size=input_size,
        output_size=output_size,
        query_size=query_size,
        size_ratio=output_size / input_size,
        query_size_ratio=query_size / input_size,
        same_shape_share=fmean(_shape(given) == _shape(wanted) for given, wanted in pairs),
        same_cell_share=_same_cell_share(pairs),
        n_symbols=fmean(len(_symbols(given) | _symbols(wanted)) for given, wanted in pairs),
        symbols_kept_share=fmean(_share_within(_symbols(wanted), _symbols(given)) for given, wanted in pairs),
        query_new_symbol_share=1.0 - _share_within(asked, known),
        n_words=_mean_words(inputs),
        n_output_words=_mean_words(outputs),
        has_instruction=task.instruction is not None,
    )


def _shape(value: Value) -> Sequence[int]:
    return (len(value),) if isinstance(value, str) else (len(value), len(value[0]))


def _size(value: Value) -> int:
    return math.prod(_shape(value))


def _symbols(value: Value) -> set[object]:
    """Return the characters of a text, or the colours of a grid."""
    return set(value) if isinstance(value, str) else {cell for row in value for cell in row}


def _share_within(some: set[object], others: set[object]) -> float:
    return len(some & others) / len(some) if some else 1.0


def _same_cell_share(pairs: Sequence[tuple[Value, Value]]) -> float | None:
    """Return the share of cells that do not change, over the grids that keep their shape; None where none does."""
    same = [
        cell == other
        for given, wanted in pairs
        if not isinstance(given, str) and not isinstance(wanted, str) and _shape(given) == _shape(wanted)
        for row, other_row in zip(given, wanted, strict=True)
        for cell, other in zip(row, other_row, strict=True)
    ]
    return fmean(same) if same else None


def _mean_words(values: Sequence[Value]) -> float | None:
    texts = [value for value in values if isinstance(value, str)]
    return fmean(len(text.split()) for text in texts) if texts else None
