"""Greedy decoding of several prompts at once: finished rows dropped, forbidden tokens masked, drafts checked in one
pass.

Knows nothing of tasks: token ids in, token ids and log-probabilities out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from icl_engine.reading import OnRead, Positions, read_prompts

MOST_MARGIN = 20.0  # nats; beyond that, or where nothing else is allowed, the runner-up is out of the question


class Constraint(Protocol):
    """Which tokens may come next, row by row; told of every token that was chosen."""

    def allowed(self) -> torch.Tensor:
        """Return a bool tensor (rows, vocabulary)."""
        ...

    def chose(self, tokens: Sequence[int | None]) -> None:
        """Take note of the token chosen in each row; None: that row waits."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one that is given several times goes on as several."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded row."""

    ids: tuple[int, ...]  # without the end
    log_probabilities: tuple[float, ...]  # nats, of each token chosen, the end included
    ended: bool  # False where the token limit came first
    entropies: tuple[float, ...] = ()  # nats, of the choice of each token; () where nobody looked
    margins: tuple[float, ...] = ()  # nats, from each token chosen to the runner-up, at most MOST_MARGIN


@torch.inference_mode()
def decode(
    module: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: Sequence[int],
    end_ids: frozenset[int],
    pad_id: int,
    positions: Positions,
    constraint: Constraint,
    prefix: Sequence[int] = (),
    kept_logits: Sequence[int] = (),
    drafts: Sequence[Sequence[int]] | None = None,
    on_read: OnRead = lambda reading, last_logits: None,
    on_keep: Callable[[list[int]], None] = lambda rows: None,
) -> tuple[list[Decoded], torch.Tensor]:
    """Decode every prompt to its end token or its own limit of new tokens.

    Args:
        module: a transformers causal language model.
        prefix: what stands before every prompt: read once, for all of them.
        kept_logits: places whose logits are wanted too: in the prefix or, where there is none, in the padded prompts
            with their drafts.
        drafts: what each prompt may be answered with, the end left out; none: an empty one. They are read in the same
            pass as the prompts, and what the model would have written itself need not be written token by token. They
            change no result. Only for a model of which `can_forget` is true.
        on_read: told what is read before anything is written.
        on_keep: told, where rows are dropped, which places of the batch as it was then go on.

    Returns:
        The decoded rows in order, and the logits at `kept_logits`, (rows, len(kept_logits), vocabulary).
    """
    drafts = [()] * len(prompts) if drafts is None else drafts
    reading, prompt_logits, last = read_prompts(
        module,
        [(*prompt, *draft) for prompt, draft in zip(prompts, drafts, strict=True)],
        pad_id=pad_id,
        positions=positions,
        prefix=prefix,
        kept_logits=kept_logits,
        n_last=1 + max(map(len, drafts)),
    )
    on_read(reading, last[:, -1])
    rows = [_Row(end_ids, limit) for limit in max_new_tokens]
    _follow(drafts, last, rows, constraint)
    # read and not written; the newest token written is not read yet
    n_ahead = [len(draft) - len(row.ids) + 1 for draft, row in zip(drafts, rows, strict=True)]
    alive = list(range(len(rows)))
    while kept := [i for i, row in enumerate(alive) if not rows[row].finished]:
        if len(kept) < len(alive):
            reading.keep(kept)
            constraint.keep(kept)
            on_keep(kept)
            alive = [alive[i] for i in kept]
        reading.forget([n_ahead[row] for row in alive])
        n_ahead = [0] * len(rows)
        _write(reading.read_token([rows[row].ids[-1] for row in alive]), [rows[row] for row in alive], constraint)
    return [row.decoded for row in rows], prompt_logits


def constrained(logits: torch.Tensor, constraint: Constraint) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens that any row may write, (n,), and their log-probabilities, (rows, n): those that a row may
    write share what its forbidden ones had. A grammar leaves few of a vocabulary.
    """
    allowed = constraint.allowed()
    tokens = allowed.any(dim=0).nonzero()[:, 0]
    logits = logits[:, tokens].float().masked_fill(~allowed[:, tokens], -torch.inf)
    return tokens, torch.log_softmax(logits, dim=-1)


@dataclass(slots=True)
class _Row:
    """What one row has written so far."""

    end_ids: frozenset[int]
    limit: int
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    ended: bool = False

    @property
    def decoded(self) -> Decoded:
        signs = tuple(self.entropies), tuple(self.margins)
        return Decoded(tuple(self.ids), tuple(self.log_probabilities), self.ended, *signs)

    @property
    def finished(self) -> bool:
        return self.ended or len(self.ids) >= self.limit

    def write(self, token: int, log_probability: float, entropy: float, margin: float) -> None:
        self.log_probabilities.append(log_probability)
        self.entropies.append(entropy)
        self.margins.append(margin)
        if token in self.end_ids:
            self.ended = True
        else:
            self.ids.append(token)


def _write(logits: torch.Tensor, rows: Sequence[_Row | None], constraint: Constraint) -> None:
    """Let every row that does not wait (None) write its likeliest token."""
    allowed, log_p = constrained(logits, constraint)
    best = log_p.max(dim=-1)
    tokens: list[int] = allowed[best.indices].tolist()
    constraint.chose([None if row is None else token for row, token in zip(rows, tokens, strict=True)])
    entropies = torch.special.entr(log_p.exp()).sum(dim=-1)
    runners_up = log_p.scatter(-1, best.indices[:, None], -torch.inf).amax(dim=-1)
    margins = (best.values - runners_up).clamp_max(MOST_MARGIN)
    signs = torch.stack((best.values, entropies, margins), dim=-1).tolist()  # one wait for the device, not three
    for row, token, (log_probability, entropy, margin) in zip(rows, tokens, signs, strict=True):
        if row is not None:
            row.write(token, log_probability, entropy, margin)


def _follow(drafts: Sequence[Sequence[int]], last: torch.Tensor, rows: Sequence[_Row], constraint: Constraint) -> None:
    """Let every row write as far as it agrees with its draft, and one token more.

    Args:
        last: logits at the last places of the prompts with their drafts, (rows, 1 + longest draft, vocabulary).
    """
    index = torch.arange(len(rows), device=last.device)
    for step in range(last.shape[1]):
        agreeing = [
            row if not row.finished and step <= len(draft) and row.ids == list(draft[:step]) else None
            for row, draft in zip(rows, drafts, strict=True)
        ]
        if not any(agreeing):
            return
        after = [last.shape[1] - 1 - max(len(draft) - step, 0) for draft in drafts]
        _write(last[index, torch.tensor(after, device=last.device)], agreeing, constraint)
