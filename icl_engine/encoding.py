"""How tasks become tokens and tokens become values: the seam between engines and a model's own vocabulary.

`EmbeddedEncoding` serves the embedded model, `TokenizerEncoding` any other, through its own tokenizer and chat
template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from icl_engine.decoding import Constraint
from icl_engine.task import Kind, Task, Value


@dataclass(frozen=True, slots=True)
class Encoded:
    """A task as token ids; `outputs` are the half-open [start, stop) spans of the outputs, ends included."""

    ids: tuple[int, ...]
    outputs: tuple[tuple[int, int], ...]
    query_start: int  # where the query begins; what stands before is the same for all queries of the demonstrations


class Encoding(Protocol):
    """One model's way to write tasks."""

    @property
    def pad_id(self) -> int: ...

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def encode(self, task: Task, answer: Value | None = None) -> Encoded:
        """Write the prompt for `task.query`; with `answer`, the answer and its end follow."""
        ...

    def decode(self, task: Task, ids: Sequence[int]) -> Value | None:
        """Read the value that `ids` (the end dropped) write, or None where they form none of the task's kind."""
        ...

    def constraint(self, tasks: Sequence[Task], device: torch.device) -> Constraint:
        """Return which tokens each task's answer may be made of."""
        ...

    def answer_tokens(self, kind: Kind) -> torch.Tensor | None:
        """Return the tokens that outputs of a kind are made of, ends included, rising; None: nearly all there are."""
        ...

    def positions(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the `position_ids` the model wants for left-padded ids (batch, tokens) and their mask."""
        ...


def most_output_tokens(task: Task, encoded: Encoded) -> int:
    """Return how long an answer may grow: twice the longest output demonstrated or the query, and some.

    A model that has lost its way would otherwise write to the end of its context.
    """
    longest = max((stop - start for start, stop in encoded.outputs), default=0)
    query = len(task.query) if isinstance(task.query, str) else sum(len(row) + 1 for row in task.query)
    return 2 * max(longest, query) + 16
