"""Greedy decoding of several prompts at once: left-padded, key-value cache, finished rows dropped, forbidden tokens
masked.

Knows nothing of tasks: token ids in, token ids and log-probabilities out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import DynamicCache

# of ids (batch, tokens), left-padded, and their mask; the result is what the model takes as `position_ids`
Positions = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Constraint(Protocol):
    """Which tokens may come next, row by row; told of every token that was chosen."""

    def allowed(self) -> torch.Tensor:
        """Return a bool tensor (rows, vocabulary)."""
        ...

    def chose(self, tokens: Sequence[int]) -> None:
        """Take note of the token chosen in each row."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded row."""

    ids: tuple[int, ...]  # without the end
    log_probabilities: tuple[float, ...]  # nats, of each token chosen, the end included
    ended: bool  # False where the token limit came first


def left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (rows, longest prompt)."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


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
) -> tuple[list[Decoded], torch.Tensor]:
    """Decode every prompt to its end token or its own limit of new tokens.

    Args:
        module: a transformers causal language model.
        prefix: what stands before every prompt: read once, for all of them. The padding of shorter prompts then stands
            between the two, masked.
        kept_logits: places whose logits are wanted too: in the prefix or, where there is none, in the padded prompts.

    Returns:
        The decoded rows in order, and the logits at `kept_logits`, (rows, len(kept_logits), vocabulary).
    """
    ids, mask = left_padded(prompts, pad_id, module.device)
    cache = DynamicCache(config=module.config)
    last_place = ids.shape[1] - 1
    if prefix:
        shared = torch.tensor([prefix], device=ids.device)
        prefix_logits = module(
            input_ids=shared,
            attention_mask=torch.ones_like(shared),
            position_ids=positions(shared, torch.ones_like(shared)),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(kept_logits, dtype=torch.long, device=ids.device),
        ).logits.expand(len(prompts), -1, -1)  # (rows, len(kept_logits), vocabulary)
        cache.batch_repeat_interleave(len(prompts))
        ids = torch.cat((shared.expand(len(prompts), -1), ids), dim=1)
        mask = torch.cat((torch.ones_like(shared).expand(len(prompts), -1), mask), dim=1)
    logits = module(
        input_ids=ids[:, len(prefix) :],
        attention_mask=mask,
        position_ids=positions(ids, mask)[..., len(prefix) :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor([*(() if prefix else kept_logits), last_place], device=ids.device),
    ).logits  # (rows, places, vocabulary)
    prompt_logits, last = prefix_logits if prefix else logits[:, :-1], logits[:, -1]
    chosen: list[list[int]] = [[] for _ in prompts]
    chances: list[list[float]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    alive = list(range(len(prompts)))

    while True:
        log_p = torch.log_softmax(last.float().masked_fill(~constraint.allowed(), -torch.inf), dim=-1)
        best = log_p.max(dim=-1)
        tokens: list[int] = best.indices.tolist()
        constraint.chose(tokens)
        for row, token, chance in zip(alive, tokens, best.values.tolist(), strict=True):
            chances[row].append(chance)
            if token in end_ids:
                ended[row] = True
            else:
                chosen[row].append(token)
        kept = [i for i, row in enumerate(alive) if not ended[row] and len(chosen[row]) < max_new_tokens[row]]
        if not kept:
            break
        ids, mask = _appended(ids, tokens), _appended(mask, [1] * len(alive))
        if len(kept) < len(alive):
            index = torch.tensor(kept, device=ids.device)
            ids, mask = ids[index], mask[index]
            cache.batch_select_indices(index)
            constraint.keep(kept)
            alive = [alive[i] for i in kept]
        last = module(
            input_ids=ids[:, -1:],
            attention_mask=mask,
            position_ids=positions(ids, mask)[..., -1:],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    rows = zip(chosen, chances, ended, strict=True)
    return [Decoded(tuple(row), tuple(chance), end) for row, chance, end in rows], prompt_logits


def _appended(rows: torch.Tensor, column: Sequence[int]) -> torch.Tensor:
    return torch.cat((rows, torch.tensor(column, device=rows.device)[:, None]), dim=1)
