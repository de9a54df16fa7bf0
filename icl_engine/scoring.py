"""How likely given outputs are, read off a model's logits; behind prompts that were read before without reading them
again.

Knows nothing of tasks: rows of token ids and the spans of their outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from icl_engine.encoding import Encoded
from icl_engine.language_model import OutputScore
from icl_engine.reading import Reading

SlotPrompt = tuple[int, tuple[int, ...]]  # the slot of the adapter it is read with, and its token ids


def places_before_outputs(rows: Sequence[Encoded], width: int) -> list[int]:
    """Return the places, in rows left-padded to `width`, whose logits predict a token of any row's outputs."""
    places = {
        place + width - len(row.ids) - 1 for row in rows for start, stop in row.outputs for place in range(start, stop)
    }
    return sorted(places)


def scores_of_outputs(
    rows: Sequence[Encoded], ids: torch.Tensor, places: Sequence[int], logits: torch.Tensor
) -> list[tuple[OutputScore, ...]]:
    """Return the scores of every row's outputs.

    Args:
        ids: of the rows, left-padded, (rows, width).
        places: those of `places_before_outputs`.
        logits: at these places, (rows, len(places), vocabulary).
    """
    if not places:
        return [() for _ in rows]
    log_p = torch.log_softmax(logits.float(), dim=-1)
    targets = ids[:, torch.tensor(places, device=ids.device) + 1]  # (rows, len(places))
    nll = -log_p.gather(-1, targets[..., None])[..., 0].cpu()
    exact = (log_p.argmax(-1) == targets).cpu()
    column = {place: i for i, place in enumerate(places)}
    scores = []
    for i, row in enumerate(rows):
        shift = ids.shape[1] - len(row.ids) - 1
        spans = [slice(column[start + shift], column[stop - 1 + shift] + 1) for start, stop in row.outputs]
        scores.append(
            tuple(
                OutputScore(float(nll[i, span].sum()), span.stop - span.start, bool(exact[i, span].all()))
                for span in spans
            )
        )
    return scores


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """Prompts that were read in one pass, each as one row."""

    prompts: Sequence[SlotPrompt]
    reading: Reading
    last_logits: torch.Tensor  # at their ends, (prompts, vocabulary)


class PromptMemory:
    """What was read of prompts, as long as the weights stay as they are.

    Args:
        most_tokens: that are kept, padding included; what comes after is not.
    """

    def __init__(self, most_tokens: int) -> None:
        self._room = most_tokens
        self._known: dict[SlotPrompt, ReadPrompts] = {}

    def add(self, prompts: Sequence[SlotPrompt], reading: Reading, last_logits: torch.Tensor) -> None:
        """Keep what was read of the first of these prompts, as many as there is room for.

        Args:
            reading: of the prompts, each one row; it may go on.
            last_logits: at their ends, (prompts, vocabulary).
        """
        n_rows, width = reading.ids.shape
        n = min(n_rows, self._room // width)
        if n == 0:
            return
        self._room -= n * width
        kept = reading.fork()
        kept.keep(range(n))
        read = ReadPrompts(prompts[:n], kept, last_logits[:n].clone())
        self._known |= dict.fromkeys(read.prompts, read)

    def of(self, prompt: SlotPrompt) -> ReadPrompts | None:
        """Return what was read of a prompt and of those beside it."""
        return self._known.get(prompt)

    def give_up(self) -> bool:
        """Forget everything, and remember nothing more; say whether it was not done before."""
        held = bool(self._known) or self._room > 0
        self._room, self._known = 0, {}
        return held


def scores_after_prompts(
    read: ReadPrompts, prompts: Sequence[SlotPrompt], outputs: Sequence[Sequence[int]]
) -> list[OutputScore]:
    """Read outputs behind prompts that are read, and return their scores.

    Args:
        prompts: of each output, the one it stands behind; several may stand behind one.
        outputs: token ids, ends included; at least one each.
    """
    row_of = {prompt: row for row, prompt in enumerate(read.prompts)}
    owners = [row_of[prompt] for prompt in prompts]
    device, reading = read.last_logits.device, read.reading
    n_rows, width = len(outputs), max(map(len, outputs))
    # padded at the end: a place of the padding is nobody's past, and no token is moved away from its prompt
    ids = torch.full((n_rows, width), reading.pad_id, dtype=torch.long)
    mask = torch.zeros(n_rows, width, dtype=torch.long)
    for i, output in enumerate(outputs):
        ids[i, : len(output)] = torch.tensor(output)
        mask[i, : len(output)] = 1
    ids, mask = ids.to(device), mask.to(device)
    log_p = torch.log_softmax(read.last_logits.float(), dim=-1)[torch.tensor(owners, device=device), None]
    if width > 1:  # the last token need not be read
        logits = reading.read_behind(owners, ids[:, :-1], mask[:, :-1])
        log_p = torch.cat((log_p, torch.log_softmax(logits.float(), dim=-1)), dim=1)  # (outputs, width, vocabulary)
    is_padding = mask == 0
    nll = -log_p.gather(-1, ids[..., None])[..., 0].masked_fill(is_padding, 0.0).sum(dim=-1)
    exact = ((log_p.argmax(-1) == ids) | is_padding).all(dim=-1)
    return [
        OutputScore(each, len(output), hit)
        for each, output, hit in zip(nll.tolist(), outputs, exact.tolist(), strict=True)
    ]
