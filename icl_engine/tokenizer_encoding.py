"""Tasks for any causal language model, through its own tokenizer and, where it has one, its chat template.

Every input and output is tokenised by itself, so that the place of each output is known exactly whatever merges the
tokenizer makes. A grid is its rows, cells parted by spaces, unless another form is chosen: Llama's and Qwen's
tokenizers then keep every digit a token of its own. A text answer is cut at its first empty line, or whatever else
the tokenizer has one token for to part demonstrations.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from icl_engine.decoding import Constraint
from icl_engine.encoding import Encoded
from icl_engine.errors import ModelUnavailable
from icl_engine.task import Kind, Task, Value
from icl_engine.text_form import GridForm, is_grid_piece, text_form, value_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SEPARATORS = ("\n\n", "###", "##", "#", ";")  # the first that is one token ends every demonstration
_BODY = "\u2402BODY\u2403"  # stands for the prompt while the chat template is cut around it


class TokenizerEncoding:
    """Writes a task as `Input:`/`Output:` blocks, each ended by a separator; a chat model ends its answer with its own
    end token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary_size: int,
        turn_ends: Sequence[int] = (),
        *,
        grid_form: GridForm = "spaced",
    ) -> None:
        self.tokenizer = tokenizer
        self.grid_form = grid_form
        self.vocabulary_size = vocabulary_size
        eos = tokenizer.eos_token_id
        if eos is None:
            raise ModelUnavailable("the tokenizer has no end-of-sequence token", remedy="Set eos_token in its config.")
        self._end = int(eos)
        self.pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos)
        self._head, self._tail = self._frame()
        self._separator = next((ids[0] for ids in map(self._ids, _SEPARATORS) if len(ids) == 1), self._end)
        self._separator_text = str(tokenizer.decode([self._separator]))
        self._answer_end = self._turn_end() if tokenizer.chat_template else self._separator
        self.end_ids = frozenset({self._separator, self._end, self._answer_end, *turn_ends})

    def encode(self, task: Task, answer: Value | None = None) -> Encoded:
        """Write the prompt for `task.query`; with `answer`, the answer and its end follow."""
        ids = list(self._head)
        outputs: list[tuple[int, int]] = []
        if task.instruction is not None:
            ids += self._ids(f"{task.instruction}\n\n")
        for shown in task.demonstrations:
            ids += self._ids(f"Input:\n{text_form(shown.input, self.grid_form)}\nOutput:\n")
            start = len(ids)
            ids += [*self._ids(text_form(shown.output, self.grid_form)), self._separator]
            outputs.append((start, len(ids)))
        query_start = len(ids)
        ids += [*self._ids(f"Input:\n{text_form(task.query, self.grid_form)}\nOutput:\n"), *self._tail]
        if answer is not None:
            start = len(ids)
            ids += [*self._ids(text_form(answer, self.grid_form)), self._answer_end]
            outputs.append((start, len(ids)))
        return Encoded(tuple(ids), tuple(outputs), query_start)

    def decode(self, task: Task, ids: Sequence[int]) -> Value | None:
        """Read a grid or a text."""
        decoded = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        text = str(decoded)
        if task.kind == "text":  # of several tokens, what parts demonstrations is none that decoding ends at
            text = text.strip().partition(self._separator_text)[0]
        return value_of(task, text, self.grid_form)

    def constraint(self, tasks: Sequence[Task], device: torch.device) -> Constraint:
        """Return the tokens that may stand in each answer: for grids what their form is made of; for text any but those
        that hold the separator among other characters and would carry an answer past its end.
        """
        return _FixedTokens(torch.stack([self._allowed[task.kind] for task in tasks]).to(device))

    def answer_tokens(self, kind: Kind) -> torch.Tensor | None:
        """Return what a grid's form is made of, and what ends outputs; None for text."""
        return self._allowed["grid"].nonzero()[:, 0] if kind == "grid" else None

    def positions(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (batch, tokens): places counted from the first token that is not padding."""
        return (mask.cumsum(dim=1) - 1).clamp_min(0)

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        # a task may hold the text of a special token, such as "</s>": only the template's own become that token
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"])

    def _frame(self) -> tuple[list[int], list[int]]:
        """Return the tokens before and after the prompt: the chat template's, or the beginning of a sequence."""
        if not self.tokenizer.chat_template:
            bos = self.tokenizer.bos_token_id
            return ([] if bos is None else [int(bos)]), []
        text = str(
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": _BODY}], tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )
        head, found, tail = text.partition(_BODY)
        if not found:
            raise ModelUnavailable(
                "the chat template drops the user's message", remedy="Use a model with another template."
            )
        return self._ids(head, special=True), self._ids(tail, special=True)

    def _turn_end(self) -> int:
        """Return the token with which the chat template ends an answer: not every model's end of sequence."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _BODY}]
        _, _, tail = str(self.tokenizer.apply_chat_template(turns, tokenize=False)).partition(_BODY)
        ids = self._ids(tail.strip(), special=True)
        return ids[0] if ids and ids[0] in self.tokenizer.all_special_ids else self._end

    @functools.cached_property
    def _allowed(self) -> dict[Kind, torch.Tensor]:
        """The tokens that an answer may hold, (vocabulary,), by the kind of its task."""
        text, grid = torch.zeros(2, self.vocabulary_size, dtype=torch.bool)
        for token in range(min(self.vocabulary_size, len(self.tokenizer))):
            piece = str(self.tokenizer.decode([token]))
            text[token] = self._separator_text not in piece
            grid[token] = text[token] and is_grid_piece(piece, self.grid_form)
        for allowed in (text, grid):
            allowed[list(self.end_ids)] = True
        return {"text": text, "grid": grid}


class _FixedTokens:
    """A constraint that does not change as the answer grows."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def allowed(self) -> torch.Tensor:
        return self.rows

    def chose(self, tokens: Sequence[int | None]) -> None:
        pass

    def keep(self, rows: Sequence[int]) -> None:
        self.rows = self.rows[list(rows)]
